"""The one kind of error that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something that the user can mend: bad input, a full disk, a damaged file.

    The message is one line or a short paragraph that names the file or flag, the
    reason and the way out. Commands print it without a traceback and exit with 1.
    """
