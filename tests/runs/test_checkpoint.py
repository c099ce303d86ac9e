"""Checkpoints: what is saved comes back; what is damaged is told, never trained on."""

import json
import logging
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mnist_jax import tree
from mnist_jax.runs import checkpoint
from mnist_jax.training import state
from mnist_jax.training.monitors import Best
from tests.conftest import assert_trees_equal
from tests.support.training_parts import make_phase

# With all that a state can hold.
PHASE = make_phase(
    ema_decay=0.9,
    **{"early_stopping.monitor": "val_loss", "early_stopping.restore_best": True},
)


def make_state(epoch: int, best_epoch: int) -> state.TrainState:
    """A state whose numbers tell its epoch; some of them odd."""
    params = {
        "dense": {
            "kernel": jnp.full((30, 40), epoch + 0.1),
            "bias": jnp.array([jnp.inf, -0.0, 1e-42]),
        }
    }
    stats = {"mean": jnp.arange(3.0)}
    made = state.create(params, stats, PHASE)
    return made.replace(
        step=jnp.int32(epoch * 100),
        best=Best(jnp.float32(0.5), jnp.int32(best_epoch), params, stats),
    )


def abstract_state(record):
    return jax.eval_shape(lambda: make_state(0, 0))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def open_checkpoints(folder):
    opened = []

    def open_():
        opened.append(checkpoint.Checkpoints(folder))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def saved(open_checkpoints):
    """Epochs 1 to 4 are saved; the best was the second."""
    checkpoints = open_checkpoints()
    for epoch in range(1, 5):
        checkpoints.save(epoch, make_state(epoch, min(epoch, 2)), {"epochs": epoch})
    checkpoints.close()


def numbers(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def test_what_is_saved_comes_back_bit_for_bit(saved, open_checkpoints):
    current, record = open_checkpoints().restore(abstract_state)
    assert_trees_equal(current, make_state(4, 2))
    assert record == {"epochs": 4}


def test_what_older_versions_saved_is_restored(open_checkpoints, monkeypatch):
    """They laid the state out as it is, arrays that are equal included."""
    checkpoints, made = open_checkpoints(), make_state(1, 1)
    record = {"epochs": 1, "sha256": tree.digest(made)}
    checkpoints._last.save(
        1,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(made), record=ocp.args.JsonSave(record)
        ),
    )
    current, restored = open_checkpoints().restore(abstract_state)
    assert_trees_equal(current, made)
    assert restored == {"epochs": 1}


def frozen_state(epoch):
    """A megabyte that is frozen, in four copies, and a little that is trained."""
    stopping = {
        "early_stopping.monitor": "val_loss",
        "early_stopping.restore_best": True,
    }
    phase = make_phase(ema_decay=0.9, freeze=("body",), **stopping)
    body = jax.random.normal(jax.random.key(0), (2**18,))
    head = jax.random.normal(jax.random.key(epoch), (10,))
    made = state.create(
        {"body": {"kernel": body}, "head": {"bias": head}},
        {},
        phase,
    )
    return made.replace(best=made.best.replace(epoch=jnp.int32(epoch)))


def test_frozen_parameters_are_saved_once(open_checkpoints, folder):
    made = frozen_state(1)
    assert tree.count_parameters(made) > 4 * 2**18
    open_checkpoints().save(1, made, {})
    for checkpoint_folder in (folder / "last" / "1", folder / "best" / "1"):
        files = [path for path in checkpoint_folder.rglob("*") if path.is_file()]
        assert 2**19 < sum(path.stat().st_size for path in files) < 1.1 * 2**20
    current, _ = open_checkpoints().restore(
        lambda record: jax.eval_shape(lambda: frozen_state(0))
    )
    assert_trees_equal(current, made)
    # A training step is given each buffer, to overwrite it.
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(current)]
    assert len(set(buffers)) == len(buffers)


def test_equal_is_to_the_bit(open_checkpoints):
    """As numbers, zeros of either sign are equal, and NaNs are not."""
    made = make_state(1, 1)
    zeros = {"mean": jnp.zeros(3)}
    made = made.replace(
        batch_stats=zeros, ema=(made.ema[0], jax.tree.map(jnp.negative, zeros))
    )
    open_checkpoints().save(1, made, {})
    current, _ = open_checkpoints().restore(abstract_state)
    assert tree.digest(current) == tree.digest(made)


def test_a_record_keeps_its_numbers_exactly(open_checkpoints):
    record = {"history": [{"loss": 0.1 + 0.2, "seconds": 1e-9, "n": 7}], "none": None}
    checkpoints = open_checkpoints()
    checkpoints.save(1, make_state(1, 1), record)
    assert open_checkpoints().restore(abstract_state)[1] == record


def test_the_last_two_and_the_best_are_kept(saved, folder):
    """Also when the best is older than what is kept of the last."""
    assert numbers(folder / "last") == [3, 4]
    assert numbers(folder / "best") == [2]


def test_nothing_saved_is_nothing_restored(open_checkpoints):
    assert open_checkpoints().restore(abstract_state) is None


def largest_file(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def truncate(path):
    file = largest_file(path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit_of_the_kernel(path):
    """Save other numbers under the record of the right ones."""
    scratch, epoch = path.parent.parent / "scratch", int(path.name)
    other = checkpoint.Checkpoints(scratch)
    wrong = make_state(epoch, 2)
    layer = wrong.params["dense"]  # which is the best epoch's as well
    layer["kernel"] = (
        layer["kernel"].at[3, 4].set(np.nextafter(layer["kernel"][3, 4], np.float32(9)))
    )
    other.save(epoch, wrong, {})
    other.close()
    shutil.rmtree(path / "state")
    shutil.copytree(scratch / path.parent.name / path.name / "state", path / "state")
    shutil.rmtree(scratch)


def remove_record(path):
    shutil.rmtree(path / "record")


def empty_folder(path):
    shutil.rmtree(path)
    path.mkdir()


def remove_arrays(path):
    for file in (path / "state").rglob("*"):
        if file.is_file():
            file.unlink()


def garble_record(path):
    (path / "record" / "metadata").write_text("{ not JSON")


DAMAGES = [
    truncate,
    flip_a_bit_of_the_kernel,
    remove_record,
    empty_folder,
    remove_arrays,
    garble_record,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_last_checkpoint_sends_the_run_to_the_one_before(
    saved, folder, open_checkpoints, caplog, damage
):
    damage(folder / "last" / "4")
    caplog.set_level(logging.WARNING)
    checkpoints = open_checkpoints()
    current, record = checkpoints.restore(abstract_state)
    assert_trees_equal(current, make_state(3, 2))
    assert record == {"epochs": 3}
    assert "checkpoint of epoch 4 is damaged" in caplog.text
    assert numbers(folder / "damaged") == [4]  # nothing is lost
    # And the run can go on to write epoch 4 anew.
    checkpoints.save(4, make_state(4, 2), {"epochs": 4})
    assert_trees_equal(open_checkpoints().restore(abstract_state)[0], make_state(4, 2))


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "denied")])
def test_what_cannot_be_read_now_is_not_taken_for_damaged(
    saved, folder, open_checkpoints, monkeypatch, error
):
    def fail(*_):
        raise error

    opened = open_checkpoints()
    monkeypatch.setattr(opened, "_read", fail)
    with pytest.raises(checkpoint.CheckpointError, match="epoch 4 .*left as it is"):
        opened.restore(abstract_state)
    assert numbers(folder / "last") == [3, 4]
    assert not (folder / "damaged").exists()


def test_all_damaged_is_an_error_not_a_fresh_start(saved, folder, open_checkpoints):
    for epoch in (3, 4):
        truncate(folder / "last" / str(epoch))
    with pytest.raises(checkpoint.CheckpointError, match="None of the checkpoints"):
        open_checkpoints().restore(abstract_state)
    # Neither the first time nor the second, when they are out of the way.
    with pytest.raises(checkpoint.CheckpointError, match="None of the checkpoints"):
        open_checkpoints().restore(abstract_state)


def test_the_best_follows_the_state_after_a_kill_between_the_two_saves(
    saved, folder, open_checkpoints
):
    shutil.rmtree(folder / "best")
    open_checkpoints().restore(abstract_state)
    assert numbers(folder / "best") == [2]


def test_the_best_goes_back_with_a_run_that_lost_its_last_checkpoint(
    folder, open_checkpoints
):
    checkpoints = open_checkpoints()
    for epoch in (1, 2):
        checkpoints.save(epoch, make_state(epoch, epoch), {"epochs": epoch})
    checkpoints.close()
    assert numbers(folder / "best") == [2]
    truncate(folder / "last" / "2")
    open_checkpoints().restore(abstract_state)
    assert numbers(folder / "best") == [1]


def test_a_failed_save_is_told_and_leaves_what_was_there(
    saved, folder, open_checkpoints, monkeypatch
):
    checkpoints = open_checkpoints()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._last, "save", full)
    with pytest.raises(checkpoint.CheckpointError, match="epoch 5.*No space left"):
        checkpoints.save(5, make_state(5, 2), {"epochs": 5})
    monkeypatch.undo()
    assert open_checkpoints().restore(abstract_state)[1] == {"epochs": 4}


def test_a_best_epoch_that_cannot_be_written_is_made_up_for(
    saved, folder, open_checkpoints, monkeypatch
):
    """Whether it fails at the save itself or again when the run goes on."""
    checkpoints = open_checkpoints()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._best, "save", full)
    with pytest.raises(checkpoint.CheckpointError, match="epoch 5.*No space left"):
        checkpoints.save(5, make_state(5, 5), {"epochs": 5})
    assert numbers(folder / "best") == [2]
    with pytest.raises(checkpoint.CheckpointError, match="epoch 5.*No space left"):
        checkpoints.restore(abstract_state)
    monkeypatch.undo()
    checkpoints = open_checkpoints()
    current, record = checkpoints.restore(abstract_state)
    assert_trees_equal(current, make_state(5, 5))
    assert record == {"epochs": 5}
    assert numbers(folder / "best") == [5]
    checkpoints.save(6, make_state(6, 5), {"epochs": 6})
    assert numbers(folder / "last") == [5, 6]


def best_of(made):
    return made.best.params, made.best.batch_stats


def test_the_best_is_read_back_by_any_path(saved, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for path in (folder, Path(folder.name)):
        assert_trees_equal(checkpoint.read_best(path), best_of(make_state(2, 2)))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_best_is_noticed(saved, folder, damage):
    damage(folder / "best" / "2")
    with pytest.raises(checkpoint.CheckpointError, match="best is damaged"):
        checkpoint.read_best(folder)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(checkpoint.CheckpointError, match="Cannot open"):
        checkpoint.Checkpoints(tmp_path / "file" / "checkpoints")


def test_a_record_is_json(saved, folder):
    record = json.loads((folder / "last" / "4" / "record" / "metadata").read_text())
    assert record["epochs"] == 4


def test_a_disk_without_room_is_told_before_anything_is_written(
    saved, folder, open_checkpoints, monkeypatch
):
    checkpoints = open_checkpoints()
    usage = shutil.disk_usage(folder)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        checkpoint.CheckpointError, match="No space left on device .0.0 MB free"
    ):
        checkpoints.save(5, make_state(5, 2), {"epochs": 5})
    assert numbers(folder / "last") == [3, 4]
