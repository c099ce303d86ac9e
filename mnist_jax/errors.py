"""The kind of error that users can fix."""


class UserError(Exception):
    """Something that the user can fix: bad input, a full disk, a damaged file.

    The message names the file or flag, the reason and the way out. Commands print it
    without a traceback and exit with 1.
    """
