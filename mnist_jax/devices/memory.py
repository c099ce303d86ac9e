"""Settings that make glibc keep freed memory in the process.

XLA's CPU client allocates a step's temporary buffers in every call. By default, glibc
returns large blocks to the kernel as soon as they are free, and the next step causes
page faults again: 16,000 in a step of the double CNN, which trains 16 % faster without
them, by XLA's convolutions (docs/performance.md).

glibc reads the settings when a process starts, so commands restart themselves once with
these variables. Child processes inherit them.
"""

import os
import re
import sys

_TUNABLES = "GLIBC_TUNABLES"
_SETTINGS = {
    "glibc.malloc.mmap_max": "0",
    "glibc.malloc.trim_threshold": str(2**31 - 1),
    "glibc.malloc.top_pad": str(2**26),
    "glibc.malloc.hugetlb": "1",  # madvise(MADV_HUGEPAGE), from glibc 2.35 on
}
# Every form of the flag --keep_memory that absl reads as false.
_OFF = re.compile(r"--?(nokeep_memory|keep_memory=(false|f|no|n|0))", re.IGNORECASE)


def keep() -> None:
    """Restart the process, if necessary, so that glibc keeps freed memory.

    Only commands may call this, before anything else. It does nothing without glibc,
    with the flag --nokeep_memory, or if one of glibc's malloc settings is already set.
    """
    changes = settings()
    if not changes or any(map(_OFF.fullmatch, sys.argv[1:])):
        return
    os.environ.update(changes)
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError as error:
        print(f"Slower, as freed memory is not kept: {error}.", file=sys.stderr)


def settings() -> dict[str, str]:
    """Return the environment variables, if any, that make glibc keep freed memory."""
    known = os.environ.get(_TUNABLES, "")
    if "glibc.malloc." in known or not _has_glibc():
        return {}
    ours = ":".join(f"{name}={value}" for name, value in _SETTINGS.items())
    return {_TUNABLES: f"{known}:{ours}" if known else ours}


def _has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, OSError, ValueError):
        return False
