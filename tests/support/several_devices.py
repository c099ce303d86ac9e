"""Trains with several devices, which a process of the tests does not have.

    python -m tests.support.several_devices FILE [NETWORK]

Writes to a pickle what eight devices do that share batches or replicas; with a
NETWORK, how far its parameters are from the usual ones in every way that two devices
and several seeds allow. See tests/devices/test_parallel.py and tests/test_any_task.py.
"""

import collections
import dataclasses
import pickle
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import quickstart
from mnist_jax import data, experiment, models
from mnist_jax.config import Augment, Data, Experiment, Model
from mnist_jax.devices import parallel
from mnist_jax.models import operations
from mnist_jax.training.step import Batch, make_train_steps
from tests.support.training_parts import (
    EVERYTHING,
    KEY,
    TINY,
    largest_difference,
    make_phase,
    make_state,
    make_step,
    make_trainer,
    run_epoch,
)

COLLECTIVES = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def with_few(dataset, count):
    """Return the data set with `count` training and 30 validation images."""
    train, val = dataset.train, dataset.val
    return dataclasses.replace(
        dataset,
        train=data.Split(train.images[:count], train.labels[:count]),
        val=data.Split(val.images[:30], val.labels[:30]),
    )


def train_two_epochs(dataset, devices, *, steps_per_call=1, model=TINY):
    """Train with all that draws at random, batches that four devices can share.

    Returns:
        The state, and the records of the epochs, without times.
    """
    config = Experiment(
        augment=Augment(rotation=10.0, shift=0.1, erasing=0.5, fade=0.7),
        eval_batch_size=7,
        steps_per_call=steps_per_call,
    )
    phase, dataset = make_phase(**EVERYTHING), with_few(dataset, 64)
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


def share_batches(dataset):
    """Train in each of the ways that several devices can share a batch."""
    one, *_ = devices = tuple(jax.devices()[:4])
    results: dict[Any, Any] = {
        "one": train_two_epochs(dataset, parallel.Devices((one,))),
        # Two devices here, so that it is not only four that divide the batch.
        "jit": train_two_epochs(
            dataset, parallel.Devices(devices[:2]), steps_per_call=5
        ),
        "pmap": train_two_epochs(dataset, parallel.Devices(devices, "pmap")),
    }
    if operations.choose("auto", dtype="float32").form == "onednn":
        model = dataclasses.replace(TINY, convolutions="onednn")
        shared = parallel.Devices(devices)
        results["onednn"] = train_two_epochs(dataset, shared, model=model)
    results["flops"] = {
        count: flops(parallel.Devices(devices[:count])) for count in (1, 4)
    }
    return results


def train_replicas(trainer, start, count):
    """Train an epoch of each replica; return their states."""
    states, outcomes = trainer.epoch(trainer.stack([start] * count), [1] * count)
    assert all(isinstance(outcome, list) for outcome in outcomes), outcomes
    return states


def place_of(states, place):
    """The state of one seed."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[place], states)


def share_replicas(dataset):
    """Train eight replicas, and eleven; compare some with training them alone."""
    phase = make_phase(batch_size=16, **{"early_stopping.monitor": "val_loss"})
    start = jax.device_get(make_state(TINY, phase))

    def make(seeds, devices):
        few = with_few(dataset, 32)
        return make_trainer(phase, few, devices=devices, seeds=seeds, state=start)

    alone = parallel.Devices((jax.devices()[0],))
    expected = {
        seed: jax.device_get(train_replicas(make([seed], alone), start, 1))
        for seed in (0, 7)
    }
    results = {}
    for count in (8, 11):
        trainer = make(range(count), parallel.choose("jit", 16, seeds=count))
        current = train_replicas(trainer, start, count)
        leaves = jax.tree.leaves(current)
        shares = [[s.data for s in leaf.addressable_shards] for leaf in leaves]
        lengths = {tuple(len(x) for x in share) for share in shares}
        (per_device,) = lengths  # the same for every array of the state
        programs: list[Any] = list(trainer._compiled.values())
        results[count] = {
            "replicas": dict(collections.Counter(per_device)),
            "bytes": sum(share[0].nbytes for share in shares),
            "collectives": re.findall(COLLECTIVES, programs[0].as_text()),
            "difference": max(
                float(largest_difference(place_of(current, seed).params, one.params))
                for seed, one in expected.items()
            ),
        }
    return results


def every_way(network):
    """Train two steps in each way, and return how far each is from the usual way.

    The unit is how far the parameters, and the statistics, have moved.
    """
    both, first = tuple(jax.devices()), tuple(jax.devices()[:1])
    source = Data(source="tests.support.made_data:three", val_size=9)
    dataset = with_few(data.load(source), 24)
    config = Experiment(augment=Augment(shift=0.1), steps_per_call=1)
    # Adam would turn the rounding of a small gradient into a step of full length.
    sgd = {"optimizer.name": "sgd", "optimizer.learning_rate": 0.01}
    phase = make_phase(batch_size=12, **sgd)

    def train(way="jit", devices=first, *, seeds=(0,), dtype="float32", form="xla"):
        model = models.create(Model(network), dataset.task, dtype=dtype)
        chosen = operations.choose(form, dtype=dtype)
        model = dataclasses.replace(model, convolutions=chosen.form)
        shared = parallel.Devices(devices, way, len(seeds))
        options = {"devices": shared, "seeds": seeds, "state": start, "model": model}
        trainer = make_trainer(phase, dataset, experiment=config, **options)
        states = jax.device_get(train_replicas(trainer, start, len(seeds)))
        states = place_of(states, 0) if len(seeds) > 1 else states
        return states.params, states.batch_stats

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
            f"onednn {name}": {"form": "onednn", **ways.get(name, {})}
            for name in ("alone", "mesh", "together", "bfloat16")
        }
    return {
        name: float((distances(train(**way), expected) / moved).max())
        for name, way in ways.items()
    }


def main(path, network=""):
    """Write what was found."""
    if network:
        found = every_way(network)
    else:
        assert jax.device_count() == 8
        dataset = data.load(experiment.parse(quickstart.get_config()).data)
        found = share_batches(dataset)
        if jax.__version_info__ >= (0, 8):  # earlier ones cannot divide seeds
            found["replicas"] = share_replicas(dataset)
    with open(path, "wb") as file:
        pickle.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
