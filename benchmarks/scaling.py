"""Estimates the limits of many devices from measured steps and assumed links.

  python -m benchmarks.scaling [--networks=double_cnn,triple_cnn] [--batch_size=128]
      [--bandwidth=45] [--latency=5]

The estimate for N devices is the measured time of one device for an N-th of the batch,
plus that of a ring all-reduce of the bytes in XLA's program for several devices:
2 (N - 1) / N of them at the link's bandwidth, and 2 (N - 1) times the latency. As
nothing overlaps, this is the worst case.
"""

import os
import re
import statistics
import subprocess
import sys
import time

from absl import app, flags

_NETWORKS = flags.DEFINE_list(
    "networks", ["lenet5", "double_cnn", "triple_cnn"], "Which networks."
)
_BATCH = flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
_BANDWIDTH = flags.DEFINE_float(
    "bandwidth", 45.0, "GB/s of a link, one way. 45: between chips of a TPU v5e."
)
_LATENCY = flags.DEFINE_float("latency", 5.0, "Microseconds of a link.")
_BYTES_OF = flags.DEFINE_string("bytes_of", None, "Print a network's bytes and end.")

_WIDTHS = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "pred": 1}
_SIMULATED = 8


def parts(network: str, batch_size: int):
    """Return the model, phase, augmentation and keys of a network's `:tuned` recipe."""
    import importlib

    from mnist_jax import data, models
    from mnist_jax.config import Experiment, parse
    from mnist_jax.data import augment
    from mnist_jax.training import loop
    from mnist_jax.training.phase import Phase

    values = importlib.import_module(f"configs.{network}").get_config("tuned")
    values.phases[0].batch_size = batch_size
    config = parse(values, Experiment)
    model = models.create(config.model, data.task(config.data), dtype=config.dtype)
    phase = Phase.from_config(config.phases[0])
    return model, phase, augment.create(config.augment), loop.make_keys(0)


def compile_step(network: str, batch_size: int, devices):
    """Compile a step; return it and its arguments."""
    import jax
    import jax.numpy as jnp

    from mnist_jax.training import state, step

    model, phase, augment_fn, keys = parts(network, batch_size)
    train_step = step.make_train_step(
        apply_fn=model.apply,
        loss_fn=model.loss,
        optimizer=phase.optimizer,
        learning_rate_fn=phase.learning_rate_fn(1),
        augment_fn=augment_fn,
        label_smoothing=phase.label_smoothing,
        ema_decay=phase.ema_decay,
    )
    current = jax.jit(lambda: state.create(*model.init(keys.init), phase))()
    images = jnp.zeros((batch_size, 28, 28, 1), jnp.uint8)
    data = step.Batch(images, jnp.zeros(batch_size, jnp.uint8))
    current, data, first, key = devices.replicate(
        (current, data, jnp.int32(0), keys.step)
    )
    rows = devices.split(jnp.arange(batch_size, dtype=jnp.int32)[None])
    arguments = (current, data, rows, first, key)
    function = step.make_train_steps(train_step=train_step, steps=1)
    return devices.compile(function, arguments, split=2), arguments


def step_seconds(network: str, batch_size: int) -> float:
    """Return the median time of several steps on one device."""
    import jax

    from mnist_jax.devices.parallel import Devices

    compiled, arguments = compile_step(
        network, batch_size, Devices(tuple(jax.devices()[:1]))
    )
    times = []
    for _ in range(15):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - begin)
    return statistics.median(times[3:])


def bytes_added_up(network: str, batch_size: int) -> int:
    """Count the bytes of all all-reduces in the program for several devices."""
    from mnist_jax.devices import parallel

    compiled, _ = compile_step(network, batch_size, parallel.every())
    total = 0
    for line in compiled.as_text().splitlines():
        match = re.search(r"= (.*?) all-reduce(?:-start)?\(", line)
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", match[1] if match else ""):
            size = 1
            for length in filter(None, shape.split(",")):
                size *= int(length)
            total += size * _WIDTHS[dtype]
    return total


def count_elsewhere(network: str) -> int:
    """Count these bytes in a process with several simulated devices."""
    forced = f"--xla_force_host_platform_device_count={_SIMULATED}"
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", f"--bytes_of={network}"],
        env=os.environ | {"XLA_FLAGS": forced, "JAX_PLATFORMS": "cpu"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(result.stdout)


def main(arguments: list[str]) -> None:
    """Measure, estimate, print."""
    if arguments[1:]:
        raise app.UsageError(f"Unexpected argument {arguments[1]!r}.")
    if _BYTES_OF.value:
        print(bytes_added_up(_BYTES_OF.value, _SIMULATED * 4))
        return
    head = ("network", "devices", "images each", "computing", "adding up", "images/s")
    print("| " + " | ".join(head) + " |\n|---" + "|---:" * (len(head) - 1) + "|")
    for network in _NETWORKS.value:
        moved, measured = count_elsewhere(network), {}
        for power in range(11):
            devices = 2**power
            # As long as there are images for all; then a batch that grows.
            each = max(1, _BATCH.value // devices)
            if each not in measured:
                measured[each] = step_seconds(network, each)
            ring = 2 * (devices - 1)
            added = ring / devices * moved / (_BANDWIDTH.value * 1e9)
            added += ring * _LATENCY.value * 1e-6
            rate = each * devices / (measured[each] + added)
            print(
                f"| {network} | {devices:,} | {each} | {measured[each] * 1e3:.2f} ms "
                f"| {added * 1e3:.2f} ms | {rate:,.0f} |"
            )
        print(f"\n{network}: {moved / 1e6:.2f} MB added up in a step.\n")


if __name__ == "__main__":
    app.run(main)
