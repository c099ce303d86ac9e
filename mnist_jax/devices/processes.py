"""Several processes that train one network, each with its own devices.

All run the same program on the same data and read the same run folder. Only the first
(number 0) prints messages and writes.
"""

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnist_jax.errors import UserError

TIMEOUT = 300
"""Seconds that processes wait for each other at the start."""
_WAY_OUT = (
    "Start all with --coordinator=HOST:PORT, --num_processes and a --process_id of "
    "their own, or with none of these where the environment (SLURM, Open MPI, "
    "Kubernetes, a TPU pod) has them."
)


@contextlib.contextmanager
def joined(
    *, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Iterator[None]:
    """Run a block together with other processes, before which JAX has no devices.

    Args:
        coordinator: host:port of process 0, or None to take all three arguments from
            the environment of SLURM, Open MPI, Kubernetes or a TPU pod.
        num_processes: the number of processes.
        process_id: the index of this process, from 0.

    Raises:
        UserError: the arguments and the environment do not describe the processes, or
            another process was lost.
    """
    # JAX would end the process with a stack trace of C++.
    alarm = _end_after(
        TIMEOUT,
        f"Error: --distributed: the processes did not meet within {TIMEOUT} s. "
        f"{_WAY_OUT} Process 0 must run on the coordinator's host, with the port open "
        "to the others.\n",
    )
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=TIMEOUT + 60,
        )
    except (IndexError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UserError(
            f"--distributed: cannot join the other processes: {reason}. {_WAY_OUT}"
        ) from error
    finally:
        alarm.cancel()
    try:
        yield
    except BaseException as error:
        # At exit, JAX waits for the others, which may be waiting for this process.
        _end_after(5)
        reason = str(error).split("\n")[0]
        if re.match("[A-Z_]+: .*(Gloo|NCCL|coordination)", reason, re.IGNORECASE):
            raise UserError(
                "Another process of this run ended, or the network failed; the other "
                "process's output says why. Start all processes again with the same "
                f"flags to resume the run after the last saved epoch. ({reason})"
            ) from error
        raise


def count() -> int:
    """Return the number of processes, without initialising devices if it is 1."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Return whether this is the process that writes files and messages."""
    return count() == 1 or jax.process_index() == 0


def check_same(config: str) -> None:
    """Raise UserError in all processes unless they have the same config."""
    if count() > 1:
        digest = np.frombuffer(hashlib.sha256(config.encode()).digest(), np.uint8)
        digests = np.asarray(multihost_utils.process_allgather(digest))
        if (digests != digests[0]).any():
            raise UserError(
                "--distributed: the processes have different configs. Start all with "
                "the same flags, except for --process_id."
            )


def barrier(name: str) -> None:
    """Wait until all processes have reached the barrier of this name."""
    if count() > 1:
        multihost_utils.sync_global_devices(name)


def _end_after(seconds: float, message: str = "") -> threading.Timer:
    """End the process with exit status 1 after some time, unless cancelled."""

    def end() -> NoReturn:
        sys.stdout.flush()
        sys.stderr.write(message)
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer
