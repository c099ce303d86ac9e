"""Several processes that train one network, each with its own devices.

All run the same program on the same data. The first (number 0) alone writes the run
folder and speaks; what it finds there, it shares with the others.
"""

import atexit
import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnist_jax.devices import failures
from mnist_jax.errors import UserError
from mnist_jax.typing import Tree

_LOST = (
    "Lost another process of this run: it ended, or the network did. Its own output "
    "says why. Start all processes again with the same flags: the run goes on after "
    "the last epoch that was saved."
)

# Whether the others are in the middle of what they do with this one.
_together = False


@contextlib.contextmanager
def joined(
    *,
    coordinator: str | None,
    process_id: int | None,
    num_processes: int | None,
    timeout: int,
) -> Iterator[None]:
    """Run a block together with other processes: see `start`.

    Raises:
        UserError: as `start` does; or another process was lost.
    """
    start(
        coordinator=coordinator,
        process_id=process_id,
        num_processes=num_processes,
        timeout=timeout,
    )
    try:
        yield
    except BaseException as error:
        if _together:
            # JAX would wait for the others, which wait for this one, and then abort.
            status = 130 if isinstance(error, KeyboardInterrupt) else 1
            atexit.register(_leave, status)
        if count() > 1 and _is_of_xla(error) and not failures.explain(error):
            reason = next(iter(str(error).splitlines()), "")
            raise UserError(f"{_LOST} ({reason})") from error
        raise


def _is_of_xla(error: BaseException) -> bool:
    """Return whether an error is XLA's: at a dispatch they are ValueErrors."""
    status = re.match(r"[A-Z_]+: ", str(error))  # UNKNOWN: Gloo all-reduce failed ...
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        isinstance(error, ValueError) and status is not None
    )


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def start(
    *,
    coordinator: str | None,
    process_id: int | None,
    num_processes: int | None,
    timeout: int,
) -> None:
    """Join the other processes; before anything asks JAX for its devices.

    Args:
        coordinator: host:port of the first process, or None to find all three out from
            the environment: of SLURM, Open MPI, Kubernetes, a TPU pod.
        process_id: the number of this process, from 0.
        num_processes: how many there are.
        timeout: seconds to wait for the others. If they do not come by then, this
            process says so and ends.

    Raises:
        UserError: the flags do not fit, the environment tells nothing, or the port
            cannot be used.
    """
    given = {
        "--coordinator": coordinator,
        "--process_id": process_id,
        "--num_processes": num_processes,
    }
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UserError(
            f"{', '.join(missing)} is missing: {', '.join(given)} go together. Give "
            "none of them where SLURM, Open MPI, Kubernetes or a TPU pod says them."
        )
    if not missing:
        _check(coordinator or "", process_id or 0, num_processes or 0)
    # JAX itself ends the process without a word that helps.
    alarm = threading.Timer(timeout, _give_up, [given, timeout])
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator,
            num_processes=num_processes,
            process_id=process_id,
            initialization_timeout=timeout + 60,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if missing:
            raise UserError(
                "--distributed: nothing here says which processes belong together "
                f"({reason}). Give {', '.join(given)}."
            ) from error
        raise UserError(
            f"--distributed: process {process_id} cannot begin at {coordinator}: "
            f"{reason}."
        ) from error
    finally:
        alarm.cancel()


def _give_up(given: dict[str, Any], timeout: int) -> NoReturn:
    flags = " ".join(f"{name}={v}" for name, v in given.items() if v is not None)
    print(
        f"Error: --distributed: the processes did not meet within {timeout} seconds"
        f"{f' ({flags})' if flags else ''}. All must be started with the same "
        "--num_processes, each with a --process_id of its own; process 0 must run on "
        "the --coordinator's host, with the port open to the others. --meeting_timeout "
        "waits longer.",
        file=sys.stderr,
    )
    _leave(1)


def check_alone(others: dict[str, Any]) -> None:
    """Refuse flags, by name, that mean nothing without --distributed.

    Raises:
        UserError: one has a value.
    """
    for name, value in others.items():
        if value is not None:
            raise UserError(f"--{name}={value} goes with --distributed only.")


def _check(coordinator: str, process_id: int, num_processes: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator={coordinator}: must be HOST:PORT, such as node0:1234."
        )
    if num_processes < 1:
        raise UserError(f"--num_processes={num_processes}: must be at least 1.")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id}: must be 0 to {num_processes - 1}, as "
            f"--num_processes={num_processes}."
        )


def count() -> int:
    """Return how many processes there are; asks for no device where there is one."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Return whether this is the process that writes and speaks."""
    return count() == 1 or jax.process_index() == 0


def share(value: Any) -> Any:
    """Return the first process's value, which JSON must be able to say, in all."""
    if count() == 1:
        return value
    text = json.dumps(value).encode() if is_first() else b""
    size = int(share_arrays(np.int32(len(text))))
    letters = np.frombuffer(text.ljust(size), np.uint8)
    return json.loads(np.asarray(share_arrays(letters)).tobytes())


def share_arrays(tree: Tree) -> Tree:
    """Return the first process's arrays in all, whose own must have these shapes."""
    return tree if count() == 1 else multihost_utils.broadcast_one_to_all(tree)


@contextlib.contextmanager
def others_waiting() -> Iterator[Callable[[dict[str, Any]], None]]:
    """In the first process: let the others go on, or end for the same reason.

    Yields:
        A function of the config, which the others must have been given too. It is to be
        called when all is prepared for what processes do together; they are in
        `wait_for_first` until then. If the block ends without it, there
        is nothing to do for them; if by an error, that is what they raise.
    """
    waiting = count() > 1

    def answer(value: dict[str, Any]) -> None:
        global _together
        nonlocal waiting
        if waiting:
            waiting = False
            share(value)
            _together = value.get("go_on", False)

    try:
        yield lambda config: answer({"go_on": True, "config": config})
    except (UserError, OSError) as error:
        answer({"error": str(error)})
        raise
    answer({"go_on": False})


def wait_for_first() -> dict[str, Any] | None:
    """In the other processes: wait for the first, in its `others_waiting`.

    Returns:
        The first process's config; None if there is nothing to do.

    Raises:
        UserError: the first process has come to an error.
    """
    global _together
    answer = share(None)
    if "error" in answer:
        raise UserError(f"Process 0 ended: {answer['error']}")
    _together = answer["go_on"]
    return answer.get("config")
