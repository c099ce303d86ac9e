"""Checkpoints: restored bit for bit, or refused; never trained on if damaged."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mnist_jax import tree
from mnist_jax.runs import checkpoint
from mnist_jax.runs.checkpoint import CheckpointError, Checkpoints
from mnist_jax.training import state
from tests.conftest import assert_trees_equal
from tests.support.training_parts import make_phase

STOPPING = {"early_stopping.monitor": "val_loss", "early_stopping.restore_best": True}
# With all fields that a state can have.
PHASE = make_phase(ema_decay=0.9, **STOPPING)


def make_state(epoch: int, phase=PHASE) -> state.TrainState:
    """A state whose numbers identify its epoch; some of them are unusual."""
    params = {
        "dense": {
            "kernel": jnp.full((30, 40), epoch + 0.1),
            "bias": jnp.array([jnp.inf, -0.0, 1e-42]),
        }
    }
    made = state.create(params, {"mean": jnp.arange(3.0)}, phase)
    return made.replace(step=jnp.int32(epoch * 100))


def shapes_of(made):
    return jax.eval_shape(lambda: made)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def saved(folder):
    """Epochs 1 to 4 are saved."""
    checkpoints = Checkpoints(folder)
    for epoch in range(1, 5):
        checkpoints.save(epoch, make_state(epoch), {"epochs": epoch})
    return checkpoints


def names_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "damaged")


def state_of(folder, epoch):
    return folder / str(epoch) / "state.safetensors"


def restore(folder):
    """The newest intact state and its record."""
    found = Checkpoints(folder).restore()
    assert found is not None
    return found.as_state(shapes_of(make_state(0))), found.record


def test_a_checkpoint_is_restored_bit_for_bit_and_the_last_two_are_kept(saved, folder):
    current, record = restore(folder)
    assert tree.digest(current) == tree.digest(make_state(4))
    assert record == {"epochs": 4}
    assert names_in(folder) == ["3", "4"]


def test_nothing_saved_is_nothing_restored(folder):
    assert Checkpoints(folder).restore() is None


def test_frozen_parameters_are_saved_once(folder):
    """A frozen megabyte, in four copies, and a few parameters that are trained."""
    phase = make_phase(ema_decay=0.9, freeze=("body",), **STOPPING)
    body = jax.random.normal(jax.random.key(0), (2**18,), jnp.bfloat16)
    params = {"body": {"kernel": body}, "head": {"bias": jnp.ones(10)}}
    made = state.create(params, {}, phase)
    assert tree.count_parameters(made) > 4 * 2**18
    Checkpoints(folder).save(1, made, {})
    assert 2**19 <= state_of(folder, 1).stat().st_size < 1.1 * 2**19
    found = Checkpoints(folder).restore()
    assert found is not None
    current = found.as_state(shapes_of(made))
    assert_trees_equal(current, made)
    # A training step is given each buffer, to overwrite it.
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(current)]
    assert len(set(buffers)) == len(buffers)


def test_arrays_are_identical_only_to_the_bit(folder):
    """As numbers, zeros of either sign are equal, and NaNs are not."""
    zeros = {"mean": jnp.zeros(3)}
    made = make_state(1)
    made = made.replace(
        batch_stats=zeros, ema=(made.ema[0], jax.tree.map(jnp.negative, zeros))
    )
    Checkpoints(folder).save(1, made, {})
    assert tree.digest(restore(folder)[0]) == tree.digest(made)


# -- damage


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip_a_bit,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_bytes(safetensors.numpy.save({"0": np.ones(3)})),
    ],
)
def test_a_damaged_checkpoint_sends_the_run_to_the_previous_one(
    saved, folder, caplog, damage
):
    damage(state_of(folder, 4))
    caplog.set_level(logging.WARNING)
    current, record = restore(folder)
    assert_trees_equal(current, make_state(3))
    assert record == {"epochs": 3}
    assert "checkpoint of epoch 4 is damaged" in caplog.text
    assert names_in(folder / "damaged") == ["4"]  # nothing is lost
    # And the run can save epoch 4 again.
    for number in ("4-2", "4-3"):
        saved.save(4, make_state(4), {"epochs": 4})
        assert_trees_equal(restore(folder)[0], make_state(4))
        damage(state_of(folder, 4))
        assert_trees_equal(restore(folder)[0], make_state(3))
        assert names_in(folder / "damaged")[-1] == number


@pytest.mark.parametrize("change", [lambda path: path.unlink(), cut])
def test_each_file_of_a_checkpoint_may_be_damaged(saved, folder, change):
    """The numbers are those of the epoch, or the previous epoch's are restored."""
    names = [p.relative_to(folder) for p in (folder / "4").rglob("*") if p.is_file()]
    whole = shutil.copytree(folder, folder.with_name("whole"))
    for name in names:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        change(folder / name)
        current, record = restore(folder)
        assert_trees_equal(current, make_state(record["epochs"]))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        PermissionError(13, "denied"),
        OSError(24, "Too many open files"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(
    saved, folder, monkeypatch, error
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(safetensors, "safe_open", fail)
    with pytest.raises(CheckpointError, match="checkpoints/4.*stays where it is"):
        saved.restore()
    assert names_in(folder) == ["3", "4"]
    assert not (folder / "damaged").exists()


def test_another_training_state_is_not_damage(saved, folder, monkeypatch):
    """Neither fewer arrays nor another version."""
    found = saved.restore()
    assert found is not None
    other = shapes_of(make_state(0, make_phase()))
    with pytest.raises(CheckpointError, match="Another version"):
        found.as_state(other)
    monkeypatch.setattr(checkpoint, "VERSION", 999)
    with pytest.raises(CheckpointError, match="Another version"):
        saved.restore()
    assert names_in(folder) == ["3", "4"]


def test_if_all_are_damaged_the_run_does_not_start_again(saved, folder):
    for epoch in (3, 4):
        cut(state_of(folder, epoch))
    for _ in range(2):  # and again, when they have been moved
        with pytest.raises(CheckpointError, match="None of the checkpoints"):
            saved.restore()


# -- writing


def test_a_failed_save_leaves_the_earlier_checkpoints(saved, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(CheckpointError, match=r"epoch 5.*No space left.*make room"):
        saved.save(5, make_state(5), {"epochs": 5})
    assert restore(folder)[1] == {"epochs": 4}
    assert names_in(folder) == ["3", "4"]  # nothing is left of epoch 5


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot open .*file/checkpoints"):
        Checkpoints(tmp_path / "file" / "checkpoints")
