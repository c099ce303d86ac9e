"""The kind of error that users can fix, and the characters that no message prints."""

import re

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters by which a text could command the terminal."""


class UserError(Exception):
    """Something that the user can fix: bad input, a full disk, a damaged file.

    The message names the file or flag, the reason and the way out. Commands print it
    without a traceback and exit with 1.
    """
