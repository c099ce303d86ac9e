"""The commands: a verb a file. `python -m mnist_jax VERB`, or `mnist-jax VERB`."""

import os
import signal


def exit_on_interrupt() -> None:
    """Make ctrl-C end the process in one line, until `cli.run` handles it.

    Called before the imports, which take seconds.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def _exit(number: int, frame: object) -> None:
    os.write(2, b"\nStopped.\n")
    os._exit(128 + number)  # at once: an import could catch SystemExit
