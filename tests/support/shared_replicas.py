"""Trains replicas on eight devices, and writes what lies where to a file.

    python -m tests.support.shared_replicas FILE

To be run with eight devices, which a process of the tests does not have: see
test_together.py.
"""

import collections
import dataclasses
import json
import re
import sys

import jax
import numpy as np

from configs import quickstart
from mnist_jax import data, experiment
from mnist_jax.devices import parallel
from tests.support.training_parts import (
    TINY,
    largest_difference,
    make_phase,
    make_state,
    make_trainer,
)

COLLECTIVES = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def train(seeds, devices, dataset, phase, start, programs=None):
    """Train an epoch; return the states."""
    trainer = make_trainer(phase, dataset, devices=devices, seeds=seeds, state=start)
    current = trainer.stack([start] * len(seeds))
    current, _ = trainer.epoch(current, [1] * len(seeds))
    if programs is not None:
        programs += trainer._compiled.values()
    return current


def place_of(states, place):
    """The state of one seed."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[place], states)


def main(path):
    """Train eight replicas, and eleven; compare some with training them alone."""
    assert jax.device_count() == 8
    whole = data.load(experiment.parse(quickstart.get_config()).data)
    train_split, val = (
        data.Split(s.images[:n], s.labels[:n])
        for s, n in ((whole.train, 32), (whole.val, 30))
    )
    dataset = dataclasses.replace(whole, train=train_split, val=val)
    phase = make_phase(batch_size=16, **{"early_stopping.monitor": "val_loss"})
    start = jax.device_get(make_state(TINY, phase))
    alone = parallel.Devices((jax.devices()[0],))
    expected = {
        seed: jax.device_get(train([seed], alone, dataset, phase, start))
        for seed in (0, 7)
    }
    results = {}
    for count in (8, 11):
        programs = []
        devices = parallel.choose("jit", 16, seeds=count)
        current = train(range(count), devices, dataset, phase, start, programs)
        leaves = jax.tree.leaves(current)
        shares = [[s.data for s in leaf.addressable_shards] for leaf in leaves]
        lengths = {tuple(len(x) for x in share) for share in shares}
        (per_device,) = lengths  # the same for every array of the state
        (program,) = programs
        results[count] = {
            "replicas": dict(collections.Counter(per_device)),
            "bytes": sum(share[0].nbytes for share in shares),
            "collectives": re.findall(COLLECTIVES, program.as_text()),
            "difference": max(
                float(largest_difference(place_of(current, seed).params, one.params))
                for seed, one in expected.items()
            ),
        }
    with open(path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1])
