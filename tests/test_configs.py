"""Every experiment in configs/, and each of its variants."""

import importlib

import pytest

from mnist_jax import experiment
from mnist_jax.errors import UserError
from tests.conftest import ROOT

MODULES = {
    path.stem: importlib.import_module(f"configs.{path.stem}")
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "base")
}
EXPERIMENTS = [
    (name, variant)
    for name, module in MODULES.items()
    for variant in ("", *getattr(module, "VARIANTS", {}))
]
every_experiment = pytest.mark.parametrize(("name", "variant"), EXPERIMENTS)


def test_the_three_networks_have_a_better_recipe():
    assert {(name, "tuned") for name in ("lenet5", "double_cnn", "triple_cnn")} <= set(
        EXPERIMENTS
    )


@every_experiment
def test_it_is_accepted_and_named_after_its_file(name, variant):
    config = MODULES[name].get_config(variant)
    assert config.name == "-".join(filter(None, (name, variant)))
    model, phases = experiment.check(experiment.parse(config))
    assert model.name == config.model.name
    assert len(phases) == len(config.phases)


@pytest.mark.parametrize("name", MODULES)
def test_a_variant_trains_the_same_network_on_the_same_images(name):
    plain = MODULES[name].get_config()
    for variant in getattr(MODULES[name], "VARIANTS", {}):
        other = MODULES[name].get_config(variant)
        assert other.model.name == plain.model.name
        assert other.data == plain.data
        # The report gives two figures for VGG16, one with augmentation.
        assert bool(other.report_accuracy) == bool(plain.report_accuracy)


@pytest.mark.parametrize("name", MODULES)
def test_an_unknown_variant_is_answered_with_the_known_ones(name):
    known = ", ".join(getattr(MODULES[name], "VARIANTS", {})) or "it has none"
    with pytest.raises(UserError, match=f"{name} has no such variant .*{known}"):
        MODULES[name].get_config("better")


def test_the_recipes_are_those_of_the_report():
    """Batch 86 and 50 epochs; the rest as the tables of docs/recipes.md give it."""
    for name in ("lenet5", "double_cnn", "triple_cnn"):
        config = MODULES[name].get_config()
        (phase,) = config.phases
        assert (phase.batch_size, phase.epochs) == (86, 50)
        assert config.data.val_size == 6000
        assert phase.schedule.name == "constant"
        assert (phase.label_smoothing, phase.ema_decay) == (0, 0)
        assert phase.optimizer.learning_rate == 1e-3
        augmented = name != "lenet5"
        drawn = config.augment.rotation, config.augment.zoom, config.augment.shift
        assert drawn == ((10.0, 0.1, 0.1) if augmented else (0, 0, 0))
    lenet5, double, triple = (
        MODULES[name].get_config().phases[0]
        for name in ("lenet5", "double_cnn", "triple_cnn")
    )
    assert (lenet5.optimizer.name, triple.optimizer.name) == ("adam", "adam")
    assert lenet5.optimizer.eps == triple.optimizer.eps == 1e-7
    rmsprop = double.optimizer
    assert (rmsprop.name, rmsprop.decay, rmsprop.eps) == ("rmsprop", 0.9, 1e-8)
    assert not rmsprop.eps_in_sqrt
    assert lenet5.plateau.monitor == lenet5.early_stopping.monitor == "none"
    plateau = double.plateau
    assert (plateau.monitor, plateau.patience, plateau.factor) == ("val_loss", 3, 0.5)
    assert plateau.min_learning_rate == 1e-5
    assert double.early_stopping.monitor == "none"
    plateau = triple.plateau
    assert (plateau.monitor, plateau.patience, plateau.factor) == ("train_loss", 3, 0.1)
    stop = triple.early_stopping
    assert (stop.monitor, stop.patience, stop.restore_best) == ("train_loss", 6, False)
    weights = [
        MODULES[n].get_config().test_weights for n in ("double_cnn", "triple_cnn")
    ]
    assert weights == ["last", "best"]
    assert MODULES["triple_cnn"].get_config().best.monitor == "val_loss"
