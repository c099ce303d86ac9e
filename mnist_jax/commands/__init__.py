"""The commands, one verb per file: `mnist-jax VERB`, `python -m mnist_jax VERB`."""

import os
import signal


def exit_on_interrupt() -> None:
    """Make ctrl-C end the process without a traceback during the slow imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def _exit(number: int, frame: object) -> None:
    os.write(2, b"\nStopped.\n")
    os._exit(128 + number)  # since an import could catch SystemExit
