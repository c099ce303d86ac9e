"""Trains a network in every way that devices and seeds allow, and compares the results.

    python -m tests.support.every_way NETWORK FILE

To be run with two devices, which a process of the tests does not have: see
test_any_task.py.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

from mnist_jax import data, models
from mnist_jax.config import Augment, Data, Experiment, Model
from mnist_jax.devices import parallel
from mnist_jax.models import operations
from tests.support.training_parts import (
    largest_difference,
    make_phase,
    make_state,
    make_trainer,
)


def main(network, path):
    """Train two steps in each way, and write how far each is from the usual way.

    The unit is how far the parameters, and the statistics, have moved.
    """
    assert jax.device_count() == 2
    both, first = jax.devices(), jax.devices()[:1]
    dataset = data.load(Data(source="tests.support.made_data:three", val_size=9))
    few = data.Split(dataset.train.images[:24], dataset.train.labels[:24])
    dataset = dataclasses.replace(dataset, train=few)
    config = Experiment(augment=Augment(shift=0.1), steps_per_call=1)
    # Adam would turn the rounding of a small gradient into a step of full length.
    sgd = {"optimizer.name": "sgd", "optimizer.learning_rate": 0.01}
    phase = make_phase(batch_size=12, **sgd)

    def train(way="jit", devices=first, *, seeds=(0,), dtype="float32", form="xla"):
        model = models.create(Model(network), dataset.task, dtype=dtype)
        chosen = operations.choose(form, dtype=dtype)
        model = dataclasses.replace(model, convolutions=chosen.form)
        trainer = make_trainer(
            phase,
            dataset,
            experiment=config,
            model=model,
            devices=parallel.Devices(tuple(devices), way, len(seeds)),
            seeds=seeds,
            state=start,
        )
        stacked = trainer.stack([start] * len(seeds))
        states, outcomes = trainer.epoch(stacked, [1] * len(seeds))
        assert all(isinstance(outcome, list) for outcome in outcomes), outcomes
        state = jax.device_get(states)
        if len(seeds) > 1:
            state = jax.tree.map(lambda leaf: leaf[0], state)
        return state.params, state.batch_stats

    def distances(one, other):
        pairs = [pair for pair in zip(one, other, strict=True) if pair[0]]
        return np.array([largest_difference(*pair) for pair in pairs])

    model = models.create(Model(network), dataset.task)
    start = jax.device_get(make_state(model, phase))
    expected = train()
    moved = distances(expected, (start.params, start.batch_stats))
    ways = {
        "mesh": {"devices": both},
        "pmap": {"devices": both, "way": "pmap"},
        "together": {"seeds": (0, 1)},
        "together on both": {"seeds": (0, 1), "devices": both},
        "bfloat16": {"dtype": "bfloat16"},
    }
    if operations.choose("auto", dtype="float32").form == "onednn":
        ways |= {
            "onednn": {"form": "onednn"},
            "onednn mesh": {"form": "onednn", "devices": both},
            "onednn together": {"form": "onednn", "seeds": (0, 1)},
            "onednn bfloat16": {"form": "onednn", "dtype": "bfloat16"},
        }
    found = {
        name: float((distances(train(**way), expected) / moved).max())
        for name, way in ways.items()
    }
    with open(path, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
