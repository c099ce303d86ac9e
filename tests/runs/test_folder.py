"""The run folder: whose it is, one process at a time, files whole or not at all."""

import json
import subprocess
import sys
from typing import Any

import pytest

from configs import lenet5
from mnist_jax import files
from mnist_jax.config import Experiment, to_json
from mnist_jax.errors import UserError
from mnist_jax.experiment import parse
from mnist_jax.report import record
from mnist_jax.report.compare import groups
from mnist_jax.runs.folder import RunFolder, read_json
from tests.support.made_runs import write_run


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path)
    files.write_json(made.config, to_json(parse(lenet5.get_config())))
    return made


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), 3, "seed: 0 there, 3 now"),
        (("data", "source"), "digits", 'data.source: "mnist" there, "digits" now'),
        (("phases", 0, "epochs"), 7, r"phases\[0\].epochs: 50 there, 7 now"),
        (("phases", 0, "optimizer", "eps"), 0.1, r"optimizer.eps: 1e-07 there, 0.1"),
    ],
)
def test_another_config_is_refused_with_the_difference(folder, path, value, message):
    config = lenet5.get_config()
    part: Any = config
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(UserError, match=message) as error:
        folder.check_config(parse(config))
    assert str(error.value).count(" there, ") == 1


def test_where_the_data_lie_may_change(folder):
    config = lenet5.get_config()
    config.data.dir = "/elsewhere"
    config.data.mirrors = ()
    folder.check_config(parse(config))


@pytest.mark.parametrize("name", ["config", "results"])
def test_a_damaged_file_is_named(folder, name):
    path = getattr(folder, name)
    path.write_text('{"seed": 0')
    with pytest.raises(UserError, match=f"{name}.json is damaged"):
        folder.check_config(parse(lenet5.get_config()))
        folder.read_results()


@pytest.mark.parametrize(
    "text", ["[" * 200_000, *(f'{{"x": [{x}]}}' for x in ("1" * 401, "-1e999"))]
)
def test_json_that_we_never_write_is_damaged(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match="config.json is damaged"):
        read_json(path)


def test_an_editor_may_put_a_byte_order_mark_before_a_config(folder):
    text = folder.config.read_text()
    folder.config.write_text(text, encoding="utf-8-sig")
    folder.check_config(parse(lenet5.get_config()))


@pytest.mark.parametrize(
    ("field", "value"),
    [("config", {"name": "../x"}), ("config", {"name": "\x9bm"}), ("tested_on", "all")],
)
def test_results_with_a_false_name_are_damaged(tmp_path, field, value):
    write_run(tmp_path, **{field: value})
    with pytest.raises(UserError, match=f"results.json is damaged: {field} is"):
        RunFolder(tmp_path).read_results()


@pytest.mark.parametrize(
    "files_there",
    [
        {"report.md": "mine"},
        {"config.json": '{"model_type": "bert"}'},
        {"config.json": "{}", ".DS_Store": ""},
    ],
)
def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path, files_there):
    for name, text in files_there.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path} holds other files .*--workdir"):
        RunFolder(tmp_path).check_config(Experiment())
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == files_there


@pytest.mark.parametrize("there", [[], [".DS_Store"], [".lock", "summary.txt"]])
def test_an_empty_folder_and_one_of_a_run_killed_early_are_taken(tmp_path, there):
    for name in there:
        (tmp_path / name).write_text("")
    RunFolder(tmp_path).check_config(Experiment())
    RunFolder(tmp_path / "new").check_config(Experiment())


def test_a_run_folder_copied_without_hidden_files_is_still_one(folder):
    (folder.path / "report.md").write_text("")
    folder.check_config(parse(lenet5.get_config()))


HOLD = """
import sys
from mnist_jax.runs.folder import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_in_use_is_refused_until_its_process_is_gone(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="Another process is working"):
            with RunFolder(tmp_path).lock():
                pass
        holder.kill()  # SIGKILL: nothing tidies up, and the lock goes all the same
        holder.wait()
    with RunFolder(tmp_path).lock():
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write.*--workdir"):
        with RunFolder(tmp_path / "file" / "run").lock():
            pass


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError):
        with files.atomic_writer(path) as file:
            file.write(b"half of")
            raise RuntimeError
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"accuracy": float("nan")})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_can_be_read_by_whom_the_umask_lets(tmp_path):
    reference = tmp_path / "reference"
    reference.write_text("")
    files.write_text(tmp_path / "text", "é")
    assert (tmp_path / "text").stat().st_mode == reference.stat().st_mode
    assert (tmp_path / "text").read_text(encoding="utf-8") == "é"


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path)
    folder.figures.mkdir()
    kept = [folder.log, folder.figures / "curves.png", tmp_path / "notes.tmp"]
    left = [tmp_path / ".results.json.x1.tmp", folder.figures / ".curves.png.x2.tmp"]
    for path in kept + left:
        path.write_text("")
    with folder.lock():
        assert all(path.exists() for path in kept)
        assert not any(path.exists() for path in left)


def test_fields_whose_names_start_alike_are_told_apart(tmp_path):
    """`parallel` does not identify an experiment, and `parallel_x` does."""

    def identity(**fields):
        folder = write_run(tmp_path, kind="ensemble")
        (folder / "config.json").write_text(json.dumps(fields))
        return groups.experiment(record.read(folder))

    first = identity(parallel_x=1, parallel="jit", seed=3)
    assert first == identity(parallel_x=1, parallel="pmap", seed=4)
    assert first != identity(parallel_x=2, parallel="jit", seed=3)
