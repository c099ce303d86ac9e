"""Which runs are found, and what is said of files that cannot be read."""

import json
import re
import shutil

import pytest

from mnist_jax.errors import UserError
from mnist_jax.report import comparison
from tests.support.made_runs import write_run


def test_runs_are_found_at_any_depth_in_a_natural_order(tmp_path):
    for seed in (10, 9, 1):
        write_run(
            tmp_path / "x" / f"seed{seed}", config={"name": f"c{seed}"}, seed=seed
        )
    write_run(tmp_path / "x" / "seed1" / "checkpoints" / "copy", seed=5)
    write_run(tmp_path / ".trash" / "run", seed=5)
    found = comparison.read([tmp_path])
    assert [group.first.seed for group in found.groups] == [1, 9, 10]


def test_a_run_that_is_not_finished_is_said(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=1)
    (tmp_path / "b" / "results.json").unlink()
    (tmp_path / "b" / "config.json").unlink()
    found = comparison.read([tmp_path])
    assert found.groups[0].accuracy.n == 1
    assert found.notes == [f"Not finished: {tmp_path / 'b'}."]
    with pytest.raises(UserError, match=f"No run is finished: {tmp_path / 'b'}"):
        comparison.read([tmp_path / "b"])


@pytest.mark.parametrize("name", ["config", "environment", "results"])
@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", None])
def test_damaged_and_missing_files_are_named(tmp_path, name, content):
    write_run(tmp_path / "good", seed=1)
    path = write_run(tmp_path / "bad") / f"{name}.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    elif name == "results":
        return  # that is a run which is not finished
    with pytest.raises(UserError, match=re.escape(str(path))) as error:
        comparison.read([tmp_path])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "0"),
        ("seed", ...),
        ("seed", True),
        ("test_accuracy", float("nan")),
        ("test_accuracy", 98.5),
        ("test_accuracy", -0.1),
        ("test_accuracy", None),
        ("test_weights", "worst"),
        ("test_weights", ["last"]),
    ],
)
def test_results_that_cannot_be_are_damaged(tmp_path, field, value):
    write_run(tmp_path, **({"seed": 0} if field != "seed" else {}), **{field: 0})
    path = tmp_path / "results.json"
    results = json.loads(path.read_text()) | {field: value}
    kept = {key: item for key, item in results.items() if item is not ...}
    path.write_text(json.dumps(kept))
    with pytest.raises(UserError, match=f"results.json is damaged: {field} is"):
        comparison.read([tmp_path])


def test_three_files_are_enough(tmp_path):
    """As committed with published results: nothing else is read."""
    folder = write_run(tmp_path / "results" / "lenet5" / "seed0")
    assert len(list(folder.iterdir())) == 3
    moved = shutil.copytree(tmp_path / "results", tmp_path / "elsewhere")
    assert comparison.read([moved]).groups[0].accuracy.n == 1
