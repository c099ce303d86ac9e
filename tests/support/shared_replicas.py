"""Trains replicas on eight devices, and writes what lies where to a file.

    python -m tests.support.shared_replicas FILE

To be run with eight devices, which a process of the tests does not have: see
test_together.py.
"""

import collections
import json
import re
import sys

import jax
import numpy as np

from configs import quickstart
from mnist_jax import data, experiment
from mnist_jax.devices import parallel
from mnist_jax.training import loop, state
from mnist_jax.training.predict import make_evaluate
from tests.support.training_parts import (
    TINY,
    Silence,
    as_batch,
    largest_difference,
    make_phase,
    make_state,
)

COLLECTIVES = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def train(seeds, devices, parts, phase, start, programs=None):
    """Train an epoch; return the state, on the devices."""
    trainer = loop.Trainer(
        apply_fn=TINY.apply,
        loss_fn=TINY.loss,
        phase=phase,
        data=parts[0],
        val=parts[1],
        augment_fn=None,
        devices=devices,
        evaluate=make_evaluate(
            apply_fn=TINY.apply, loss_fn=TINY.loss, batch_size=30, devices=devices
        ),
        steps_per_call=1,
        monitor="val_loss",
        keys=loop.stack_keys([loop.make_keys(s) for s in seeds], devices.replicas),
        listener=Silence(),
    )
    current = state.stack([start] * len(seeds), devices.replicas)
    epochs = [1] * len(seeds) + [None] * (devices.replicas - len(seeds))
    current, _ = trainer.run_epochs(current, epochs)
    if programs is not None:
        programs += trainer._compiled.values()
    return current


def main(path):
    """Train eight replicas, and eleven; compare some with training them alone."""
    assert jax.device_count() == 8
    whole = data.load(experiment.parse(quickstart.get_config()).data)
    splits = [
        data.Split(s.images[:n], s.labels[:n])
        for s, n in ((whole.train, 32), (whole.val, 30))
    ]
    parts = [as_batch(split) for split in splits]
    phase = make_phase(batch_size=16, **{"early_stopping.monitor": "val_loss"})
    start = jax.device_get(make_state(TINY, phase))
    alone = parallel.Devices((jax.devices()[0],))
    expected = {
        seed: jax.device_get(train([seed], alone, parts, phase, start))
        for seed in (0, 7)
    }
    results = {}
    for count in (8, 11):
        programs = []
        devices = parallel.share_replicas(count)
        current = train(range(count), devices, parts, phase, start, programs)
        leaves = jax.tree.leaves(current)
        shares = [[s.data for s in leaf.addressable_shards] for leaf in leaves]
        lengths = {tuple(len(x) for x in share) for share in shares}
        (per_device,) = lengths  # the same for every array of the state
        states = state.unstack(current, devices.replicas)
        (program,) = programs
        results[count] = {
            "replicas": dict(collections.Counter(per_device)),
            "bytes": sum(share[0].nbytes for share in shares),
            "collectives": re.findall(COLLECTIVES, program.as_text()),
            "difference": max(
                float(np.max(largest_difference(states[seed].params, one.params)))
                for seed, one in expected.items()
            ),
        }
    with open(path, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1])
