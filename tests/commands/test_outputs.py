"""No command writes over its input, nor over a file that it did not write."""

import os

import pytest

from mnist_jax.commands import outputs
from mnist_jax.errors import UserError


def test_inputs_and_files_of_others_are_not_replaced(tmp_path):
    mine, notes = tmp_path / "mine", tmp_path / "notes"
    mine.write_text("made by mark")
    notes.write_text("nothing of ours")
    os.link(mine, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(mine)
    cases = [
        (mine, [mine], "also read"),
        (mine, [tmp_path / "no", tmp_path / "hard"], "also read"),
        (tmp_path / "soft", [tmp_path / "." / "mine"], "also read"),
        (notes, [], "did not write it"),
        (tmp_path, [], "did not write it"),
        (tmp_path / "no" / "x", [], "there is no folder"),
    ]
    for path, inputs, message in cases:
        with pytest.raises(UserError, match=f"^--flag.*{message}"):
            outputs.check(path, flag="--flag", mark=b"mark", inputs=inputs)
    (tmp_path / "empty").touch()
    for path in (mine, tmp_path / "empty", tmp_path / "new"):
        outputs.check(path, flag="--flag", mark=b"mark", inputs=[notes])


def test_a_folder_is_new_empty_or_of_the_same_command(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("new", "empty"):
        outputs.check_folder(tmp_path / name, flag="--flag", sign="sign")
    file = tmp_path / "file"
    for path, message in {
        tmp_path: "other files",
        file: "not a folder",
        file / "new" / "new": "file is not a folder",
    }.items():
        with pytest.raises(UserError, match=message):
            outputs.check_folder(path, flag="--flag", sign="sign")
    outputs.check_folder(tmp_path, flag="--flag", sign="file")
