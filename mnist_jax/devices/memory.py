"""glibc's malloc: freed memory stays in the process.

XLA's CPU client allocates a step's temporary buffers in every call. By default, glibc
returns large blocks to the kernel as soon as they are free, and the next step causes
page faults again: 13,000 in a step of the double CNN (docs/performance.md).
"""

import ctypes

# From malloc.h: no block is mapped or returned separately, and the heap grows by 64 MiB
# at a time.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**26}


def keep() -> bool:
    """Keep freed memory, and return whether the C library can do so.

    Only glibc can. Commands call this before the first large allocation.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - other libraries lack it
        return all(libc.mallopt(*setting) == 1 for setting in _SETTINGS.items())
    except (AttributeError, OSError, TypeError):
        return False
