"""Several processes that train one network, each with its own devices.

All run the same program on the same data and read the same run folder. Only the first
(number 0) prints messages and writes.
"""

import contextlib
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from mnist_jax.errors import UserError

LOGGER = logging.getLogger(__name__)


@contextlib.contextmanager
def joined(
    *, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Iterator[None]:
    """Run a block together with other processes, before which JAX has no devices.

    The arguments are those of `jax.distributed.initialize`. JAX ends the process if
    they do not meet within five minutes.

    Raises:
        UserError: the arguments and the environment do not describe the processes, or
            another process was lost.
    """
    LOGGER.info("Waiting for the other processes, for at most 5 minutes.")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (IndexError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise UserError(
            f"--distributed: cannot join the other processes: {reason}. Start all with "
            "--coordinator=HOST:PORT, --num_processes and different --process_id, or "
            "with none of these on SLURM, Open MPI, Kubernetes or a TPU pod."
        ) from error
    try:
        yield
    except BaseException as error:
        # At exit, JAX waits for the others, which may be waiting for this process.
        timer = threading.Timer(5, os._exit, [1])
        timer.daemon = True
        timer.start()
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
