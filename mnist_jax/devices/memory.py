"""Memory that a process keeps, instead of asking the kernel for it in every step.

XLA's CPU client asks malloc for a step's temporary buffers in every call. glibc gives
large blocks back to the kernel as soon as they are free, and the next step touches
fresh pages again: 16,000 page faults in a step of the double CNN, which XLA's own
convolutions train 16 % faster with memory kept (docs/performance.md).

glibc reads these settings when a process starts, so a command that lacks them restarts
itself, once, before it has done anything. Whatever it starts inherits them.
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
# What absl takes for --keep_memory being off.
_OFF = re.compile(r"--?(nokeep_memory|keep_memory=(false|f|no|n|0))", re.IGNORECASE)


def keep() -> None:
    """Have glibc keep freed memory; to be called first of all, by commands only.

    Does nothing where there is no glibc (macOS, Windows, musl), where --nokeep_memory
    is among the arguments, and where the user has set one of glibc's malloc settings.
    """
    off = any(map(_OFF.fullmatch, sys.argv[1:]))
    changes = {} if off else settings()
    if not changes:
        return
    os.environ.update(changes)
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError as error:
        print(f"Freed memory is not kept ({error}): slower.", file=sys.stderr)


def settings() -> dict[str, str]:
    """Return what a process's environment lacks for glibc to keep freed memory.

    Empty where there is no glibc, and where one of its malloc settings is there.
    """
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
