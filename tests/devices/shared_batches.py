"""Trains with one device and with several, and writes what came of it to a file.

    python -m tests.devices.shared_batches FILE

To be run with four devices, which a process of the tests does not have: see
test_parallel.py.
"""

import dataclasses
import pickle
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import quickstart
from mnist_jax import data, experiment
from mnist_jax.config import Augment, Experiment
from mnist_jax.devices import parallel
from mnist_jax.models import operations
from mnist_jax.training.step import Batch, make_train_steps
from tests.support.training_parts import (
    EVERYTHING,
    KEY,
    TINY,
    make_phase,
    make_state,
    make_step,
    make_trainer,
    run_epoch,
)


def train(devices, *, steps_per_call=1, model=TINY):
    """Train two epochs with all that draws at random, batches that four can share.

    Returns:
        The state, and what was said of the epochs, without times.
    """
    whole = data.load(experiment.parse(quickstart.get_config()).data)
    dataset = dataclasses.replace(
        whole,
        train=data.Split(whole.train.images[:64], whole.train.labels[:64]),
        val=data.Split(whole.val.images[:30], whole.val.labels[:30]),
    )
    config = Experiment(
        augment=Augment(rotation=10.0, shift=0.1, erasing=0.5, fade=0.7),
        eval_batch_size=7,
        steps_per_call=steps_per_call,
    )
    phase = make_phase(**EVERYTHING)
    trainer = make_trainer(
        phase, dataset, experiment=config, model=model, devices=devices
    )
    current, said = make_state(TINY, phase), []
    for epoch in (1, 2):
        current, records = run_epoch(trainer, current, epoch)
        said += [
            {k: v for k, v in record.items() if "second" not in k} for record in records
        ]
    return jax.tree.map(np.asarray, current), said


def flops(devices):
    """Return what XLA counts of a step that one of the devices has to do."""
    phase = make_phase(batch_size=64)
    current = make_state(TINY, phase)
    images, labels = jnp.zeros((64, 28, 28, 1), jnp.uint8), jnp.zeros(64, jnp.uint8)
    arguments = devices.replicate((current, Batch(images, labels), jnp.int32(0), KEY))
    rows = devices.split(jnp.zeros((1, 64), jnp.int32))
    steps = make_train_steps(train_step=make_step(TINY.apply, phase), steps=1)
    arguments = (*arguments[:2], rows, *arguments[2:])
    compiled = devices.compile(steps, (0, None, 0, None, 0), arguments, split=2)
    return compiled.cost_analysis()["flops"]


def main(path):
    """Train in each of the ways."""
    assert jax.device_count() == 4
    one, *_ = devices = tuple(jax.devices())
    results: dict[Any, Any] = {
        "one": train(parallel.Devices((one,))),
        # Two devices here, so that it is not only four that divide the batch.
        "jit": train(parallel.Devices(devices[:2]), steps_per_call=5),
        "pmap": train(parallel.Devices(devices, "pmap")),
    }
    if operations.choose("auto", dtype="float32").form == "onednn":
        model = dataclasses.replace(TINY, convolutions="onednn")
        results["onednn"] = train(parallel.Devices(devices), model=model)
    results["flops"] = {
        count: flops(parallel.Devices(tuple(jax.devices()[:count]))) for count in (1, 4)
    }
    with open(path, "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1])
