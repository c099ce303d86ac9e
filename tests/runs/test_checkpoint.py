"""Checkpoints: what is saved comes back; what is damaged is told, never trained on."""

import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    scratch = path.parent.parent / "scratch"
    other = checkpoint.Checkpoints(scratch)
    wrong = make_state(4, 2)
    kernel = wrong.params["dense"]["kernel"]
    wrong.params["dense"]["kernel"] = kernel.at[3, 4].set(
        np.nextafter(kernel[3, 4], np.float32(9))
    )
    other.save(4, wrong, {"epochs": 4})
    other.close()
    shutil.rmtree(path / "state")
    shutil.copytree(scratch / "last" / "4" / "state", path / "state")
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
