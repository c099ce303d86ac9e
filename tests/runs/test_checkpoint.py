"""Checkpoints: restored bit for bit, or refused; never trained on if damaged."""

import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import tree
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
def open_checkpoints(folder):
    opened = []

    def open_():
        opened.append(Checkpoints(folder))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def saved(open_checkpoints):
    """Epochs 1 to 4 are saved."""
    checkpoints = open_checkpoints()
    for epoch in range(1, 5):
        checkpoints.save(epoch, make_state(epoch), {"epochs": epoch})
    checkpoints.close()


def epochs_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.isdecimal())


def restore(checkpoints):
    """The newest intact state and its record."""
    found = checkpoints.restore()
    return found.as_state(shapes_of(make_state(0))), found.record


def test_a_checkpoint_is_restored_bit_for_bit_and_the_last_two_are_kept(
    saved, folder, open_checkpoints
):
    current, record = restore(open_checkpoints())
    assert tree.digest(current) == tree.digest(make_state(4))
    assert record == {"epochs": 4}
    assert epochs_in(folder) == ["3", "4"]


def test_nothing_saved_is_nothing_restored(open_checkpoints):
    assert open_checkpoints().restore() is None


def test_frozen_parameters_are_saved_once(open_checkpoints, folder):
    """A frozen megabyte, in four copies, and a few parameters that are trained."""
    phase = make_phase(ema_decay=0.9, freeze=("body",), **STOPPING)
    body = jax.random.normal(jax.random.key(0), (2**18,))
    params = {"body": {"kernel": body}, "head": {"bias": jnp.ones(10)}}
    made = state.create(params, {}, phase)
    assert tree.count_parameters(made) > 4 * 2**18
    open_checkpoints().save(1, made, {})
    files = [path for path in (folder / "1").rglob("*") if path.is_file()]
    assert 2**19 < sum(path.stat().st_size for path in files) < 1.1 * 2**20
    current = open_checkpoints().restore().as_state(shapes_of(made))
    assert_trees_equal(current, made)
    # A training step is given each buffer, to overwrite it.
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(current)]
    assert len(set(buffers)) == len(buffers)


def test_arrays_are_identical_only_to_the_bit(open_checkpoints):
    """As numbers, zeros of either sign are equal, and NaNs are not."""
    zeros = {"mean": jnp.zeros(3)}
    made = make_state(1)
    made = made.replace(
        batch_stats=zeros, ema=(made.ema[0], jax.tree.map(jnp.negative, zeros))
    )
    open_checkpoints().save(1, made, {})
    current, _ = restore(open_checkpoints())
    assert tree.digest(current) == tree.digest(made)


# -- damage


def flip_a_bit(path):
    """Save other numbers under the record of the right ones."""
    scratch, epoch = path.parent.parent / "scratch", int(path.name)
    wrong = make_state(epoch)
    layer = wrong.params["dense"]
    layer["kernel"] = (
        layer["kernel"].at[3, 4].set(np.nextafter(layer["kernel"][3, 4], np.float32(9)))
    )
    other = Checkpoints(scratch)
    other.save(epoch, wrong, {})
    other.close()
    shutil.rmtree(path / "state")
    shutil.move(scratch / path.name / "state", path / "state")
    shutil.rmtree(scratch)


def empty_folder(path):
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize("damage", [flip_a_bit, empty_folder])
def test_a_damaged_checkpoint_sends_the_run_to_the_previous_one(
    saved, folder, open_checkpoints, caplog, damage
):
    damage(folder / "4")
    caplog.set_level(logging.WARNING)
    checkpoints = open_checkpoints()
    current, record = restore(checkpoints)
    assert_trees_equal(current, make_state(3))
    assert record == {"epochs": 3}
    assert "checkpoint of epoch 4 is damaged" in caplog.text
    assert epochs_in(folder / "damaged") == ["4"]  # nothing is lost
    # And the run can save epoch 4 again.
    checkpoints.save(4, make_state(4), {"epochs": 4})
    assert_trees_equal(restore(open_checkpoints())[0], make_state(4))


@pytest.mark.parametrize("change", ["delete", "zero", "cut"])
def test_each_file_of_a_checkpoint_may_be_damaged(
    saved, folder, open_checkpoints, change
):
    """The numbers are those of the epoch, or the previous epoch's are restored."""
    names = [p.relative_to(folder) for p in (folder / "4").rglob("*") if p.is_file()]
    whole = shutil.copytree(folder, folder.with_name("whole"))
    for name in names:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        content = (folder / name).read_bytes()
        if change == "delete":
            (folder / name).unlink()
        else:
            half = content[: len(content) // 2]
            (folder / name).write_bytes(half if change == "cut" else bytes(len(half)))
        checkpoints = open_checkpoints()
        current, record = restore(checkpoints)
        assert_trees_equal(current, make_state(record["epochs"]))
        checkpoints.close()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        PermissionError(13, "denied"),
        OSError(24, "Too many open files"),
        AttributeError("of orbax"),
        ValueError("RESOURCE_EXHAUSTED: out of memory"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_damaged(
    saved, folder, open_checkpoints, monkeypatch, error
):
    def fail(*_):
        raise error

    opened = open_checkpoints()
    monkeypatch.setattr(opened, "_read", fail)
    with pytest.raises(CheckpointError, match="epoch 4 .*stays where it is"):
        opened.restore()
    assert epochs_in(folder) == ["3", "4"]
    assert not (folder / "damaged").exists()


def test_another_training_state_is_not_damage(saved, folder, open_checkpoints):
    """Neither fewer arrays nor another version."""
    found = open_checkpoints().restore()
    assert found is not None
    other = shapes_of(make_state(0, make_phase()))
    with pytest.raises(CheckpointError, match="Another version"):
        found.as_state(other)
    path = folder / "4" / "record" / "metadata"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"version": 999}))
    with pytest.raises(CheckpointError, match="Another version"):
        open_checkpoints().restore()
    assert epochs_in(folder) == ["3", "4"]


def test_if_all_are_damaged_the_run_does_not_start_again(
    saved, folder, open_checkpoints
):
    for epoch in ("3", "4"):
        (folder / epoch / "record" / "metadata").write_text("{ not JSON")
    for _ in range(2):  # and again, when they have been moved
        with pytest.raises(CheckpointError, match="None of the checkpoints"):
            open_checkpoints().restore()


# -- writing


def test_a_failed_save_leaves_the_earlier_checkpoints(
    saved, open_checkpoints, monkeypatch
):
    checkpoints = open_checkpoints()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(CheckpointError, match=r"epoch 5.*No space left.*make room"):
        checkpoints.save(5, make_state(5), {"epochs": 5})
    assert restore(open_checkpoints())[1] == {"epochs": 4}


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot open .*file/checkpoints"):
        Checkpoints(tmp_path / "file" / "checkpoints")
