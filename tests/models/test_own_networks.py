"""Networks from outside the package, by a dotted path: nested, or lacking something."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import models, tree
from mnist_jax.config import ConfigError, Experiment, Model, parse, to_json
from mnist_jax.data import DIGITS, Task
from tests.support.drawing import draw_weights

pytestmark = pytest.mark.usefixtures("little_optimized")

PATH = "tests.support.own_nets:"
THREE = Task(("T-shirt", "Ankle boot", "Bag"), (12, 10, 2))
EVERY = ["MLP", "FlaxCNN", "TwoOutputs"]


def create(name, task=DIGITS, dtype="float32", **options):
    return models.create(Model(PATH + name, options=options), task, dtype=dtype)


@pytest.mark.parametrize("task", [DIGITS, THREE], ids=["digits", "three"])
@pytest.mark.parametrize("name", EVERY)
def test_it_has_logits_for_any_task_and_whatever_else_it_can_give(name, task):
    model = create(name, task)
    params, batch_stats = draw_weights(model)
    images = jnp.ones((5, *task.image_shape))
    labels = jnp.zeros(5, jnp.uint8)
    (logits, extra), after = model.apply(
        params, batch_stats, images, train=True, labels=labels
    )
    assert logits.shape == (5, len(task.classes))
    loss = model.loss(models.Outputs(logits, extra), images, labels)
    plain = models.cross_entropy(logits, labels)
    assert loss.shape == (5,)
    assert np.allclose(loss, plain) == (name != "TwoOutputs")
    assert tree.layers(after).keys() == tree.layers(batch_stats).keys()
    maps = model.feature_maps(params, batch_stats, images)
    convolutions = [
        layer for layer, own in tree.layers(params).items() if "conv" in layer.lower()
    ]
    assert list(maps) == convolutions
    assert all(each.shape[0] == 5 for each in maps.values())
    features = model.features(params, batch_stats, images)
    assert (features is None) == (name != "TwoOutputs")
    assert f"{tree.count_parameters(params, batch_stats):,}" in model.summary()
    (only,) = model.stages
    assert sorted(only) == sorted(tree.layers(params))


def test_the_loss_that_a_module_defines_is_the_sum_of_its_outputs():
    model = create("TwoOutputs")
    params, batch_stats = draw_weights(model)
    images, labels = jnp.ones((2, 28, 28, 1)), jnp.array([3, 7])
    outputs, _ = model.apply(params, batch_stats, images, train=False, labels=labels)
    both = outputs.logits, outputs.extra["auxiliary"]
    main, other = (models.cross_entropy(x, labels, smoothing=0.1) for x in both)
    loss = model.loss(outputs, images, labels, smoothing=0.1)
    np.testing.assert_allclose(loss, main + 0.3 * other, rtol=1e-6)


@pytest.mark.parametrize("name", ["FlaxCNN", "TwoOutputs"])
def test_a_frozen_batchnorm_is_evaluated_wherever_it_stands(name):
    """Its statistics stay, its output is that of evaluation; others' are not."""
    model = create(name)
    params, batch_stats = draw_weights(model)
    images = jax.random.uniform(jax.random.key(0), (6, 28, 28, 1))
    apply = functools.partial(model.apply, params, batch_stats, images)
    norms = list(tree.layers(batch_stats))
    (evaluated, _), _ = apply(train=False)
    (trained, _), moved = apply(train=True)
    (frozen, _), kept = apply(train=True, frozen=frozenset(norms))
    np.testing.assert_array_equal(frozen, evaluated)
    jax.tree.map(np.testing.assert_array_equal, kept, batch_stats)
    assert np.abs(trained - evaluated).max() > 1e-4
    _, after = apply(train=True, frozen=frozenset(norms[:1]))
    for layer in norms:
        was, now = (tree.layers(each)[layer]["mean"] for each in (batch_stats, after))
        assert np.array_equal(was, now) == (layer == norms[0])
        assert not np.array_equal(was, tree.layers(moved)[layer]["mean"])


def test_its_fields_are_its_options_and_are_stored():
    config = models.complete(Model(PATH + "MLP", options={"hidden": 7}))
    assert config.options == {"hidden": 7}
    stored = to_json(Experiment(model=config))
    assert stored["model"]["hidden"] == 7
    again = parse(stored, Experiment).model
    assert again == config
    assert create("MLP", hidden=7).module.hidden == 7  # type: ignore[attr-defined]
    assert create("TwoOutputs", dtype="bfloat16").module.dtype == jnp.bfloat16  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (PATH + "MPL", "has no 'MPL'. Did you mean \"MLP\"?"),
        (PATH + "NOT_A_NETWORK", "NOT_A_NETWORK: not a class of Flax modules."),
        (PATH + "NoDefault", "its field 'hidden' needs a default"),
        ("no_such_nets:MLP", "no_such_nets cannot be imported: ModuleNotFound"),
        (":MLP", "ValueError: Empty module name"),
        ("lenet6", "no such network (known: alexnet, "),
    ],
)
def test_a_name_that_is_no_network_is_refused(name, message):
    with pytest.raises(ConfigError) as caught:
        models.create(Model(name), DIGITS)
    assert str(caught.value).startswith(f"--config.model.name={name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_may_have_postponed_annotations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "postponed_nets.py").write_text(
        "from __future__ import annotations\n"
        "from typing import Callable\n"
        "import flax.linen as nn\n"
        "class Net(nn.Module):\n"
        "    depth: int = 3\n"
        "    widths: tuple[int, ...] = (1, 2)\n"
        "    activation: Callable = nn.relu\n"
    )
    assert models.options_of("postponed_nets:Net").keys() == {"depth", "widths"}


def test_as_many_logits_as_classes_are_required():
    model = create("Wrong")
    with pytest.raises(ConfigError, match=r"shape \[1, 26\] .* data have 10 classes"):
        _ = model.shapes
    task = Task(tuple(map(chr, range(97, 123))))
    assert create("Wrong", task).shapes[0]


def test_a_dtype_that_a_network_cannot_compute_in_is_refused():
    with pytest.raises(ConfigError, match="bfloat16: .*MLP has no field `dtype`"):
        create("MLP", dtype="bfloat16")


def test_a_plain_module_is_applied_as_flax_applies_it():
    model = create("FlaxCNN")
    params, batch_stats = draw_weights(model)
    images = jax.random.uniform(jax.random.key(0), (6, 28, 28, 1))
    variables = {"params": params, "batch_stats": batch_stats}
    (ours, _), _ = model.apply(params, batch_stats, images, train=False)
    np.testing.assert_array_equal(ours, model.module.apply(variables, images, False))
