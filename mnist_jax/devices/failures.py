"""Errors of JAX that the user can fix."""

import re

# The words differ: "Out of memory allocating 8 bytes" on a CPU, "Failed to allocate
# request" on a GPU, "Ran out of memory in memory space hbm" on a TPU.
_OUT_OF_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED: .*(memory|allocat|hbm)|Ran out of memory", re.IGNORECASE
)


def explain(error: BaseException, *, has_config: bool = False) -> str | None:
    """Return what to do if the device ran out of memory, with the error's first line.

    Args:
        error: anything that JAX raised.
        has_config: whether the command has the flag --config.
    """
    if not _OUT_OF_MEMORY.search(str(error)):
        return None
    way_out = "end other processes that use it, or use the CPU with JAX_PLATFORMS=cpu"
    if has_config:
        way_out += (
            ", or lower --config.phases[i].batch_size (for training) or "
            "--config.eval_batch_size (for evaluation) and give a new --workdir"
        )
    reason = str(error).strip().splitlines()[0]
    return f"The device ran out of memory: {way_out}.\nJAX said: {reason}"
