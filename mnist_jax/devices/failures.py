"""Failures of a device that the user can mend, and how."""

import re

import jax

from mnist_jax.errors import UserError

# Each runtime has its own words: "Out of memory allocating 8 bytes" (CPU), "Out of
# memory while trying to allocate" and "Failed to allocate request" (GPU), "Ran out of
# memory in memory space hbm" and "Error allocating device buffer" (TPU).
_OUT_OF_MEMORY = re.compile(
    r"RESOURCE_EXHAUSTED: .*(memory|allocat|hbm)|Ran out of memory in memory space",
    re.IGNORECASE,
)
_TPU_TAKEN = re.compile(
    r"TPU is already in use(?: by process with pid (?P<pid>\d+))?"
    r"|accessing libtpu multi-process lockfile"
)


def find_devices() -> None:
    """Have JAX find its devices, and fail if another process holds the TPU.

    Where JAX is free to choose the platform, it would silently use the CPU instead.

    Raises:
        UserError: another process holds the TPU.
        AssertionError, RuntimeError: JAX found no device.
    """
    try:
        jax.devices()
        if not jax.config.values["jax_platforms"] and jax.default_backend() == "cpu":
            _find_tpu()
    except RuntimeError as error:
        if message := explain(error):
            raise UserError(message) from error
        raise


def _find_tpu() -> None:
    """Raise what JAX did when it tried to start a TPU, if that one is taken."""
    try:
        jax.devices("tpu")
    except RuntimeError as error:
        if _TPU_TAKEN.search(str(error)):
            raise


def explain(error: BaseException, *, has_config: bool = False) -> str | None:
    """Return what to do about an error of JAX, and the first line of the error.

    Args:
        error: anything that JAX raised.
        has_config: whether the command has the flag --config.

    Returns:
        None if the error is neither a lack of memory nor a TPU that is taken.
    """
    text = str(error)
    if taken := _TPU_TAKEN.search(text):
        cure = _free_the_tpu(taken["pid"])
    elif _OUT_OF_MEMORY.search(text):
        cure = _save_memory(has_config)
    else:
        return None
    return f"{cure}\nJAX said: {text.strip().splitlines()[0]}"


def _free_the_tpu(pid: str | None) -> str:
    if pid:
        cure = (
            f"Process {pid} holds the TPU, which serves one process at a time: end it "
            "(if it is a notebook: Runtime > Restart session)"
        )
    else:
        cure = (
            "Another process holds the TPU, or one that was killed left its lock: end "
            "that process or, if there is none, rm -r /tmp/libtpu_lock*"
        )
    return f"{cure}, then give the same command again. JAX_PLATFORMS=cpu uses the CPU."


def _save_memory(has_config: bool) -> str:
    if not has_config:
        return (
            "The device ran out of memory: end other processes that use it (nvidia-smi "
            "lists those on a GPU), or use the CPU with JAX_PLATFORMS=cpu."
        )
    return (
        "The device ran out of memory: end other processes that use it (nvidia-smi "
        "lists those on a GPU), or lower --config.phases[i].batch_size (if it happened "
        "in training) or --config.eval_batch_size (in evaluation) and give a new "
        "--workdir."
    )
