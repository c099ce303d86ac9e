"""Publishing: the three files of each run, and tables in documents."""

import json

import pytest

from mnist_jax.errors import UserError
from mnist_jax.report import compare
from mnist_jax.report.compare import publish
from tests.support.made_runs import tables_of, write_run

NAMES = ("config.json", "environment.json", "results.json")


@pytest.fixture
def runs(tmp_path):
    for seed, accuracy in ((0, 0.98), (3, 0.97)):
        write_run(tmp_path / "runs" / f"r{seed}", seed=seed, accuracy=accuracy)
        (tmp_path / "runs" / f"r{seed}" / "log.txt").write_text("long")
    return tmp_path / "runs"


def read(folder):
    return compare.read([folder])


def test_published_runs_have_the_same_files_and_stay_as_they_are(runs, tmp_path):
    new = publish.collect(read(runs), tmp_path / "results")
    assert new == [tmp_path / "results" / "lenet5" / f"seed{k}" for k in (0, 3)]
    for seed, folder in zip((0, 3), new, strict=True):
        assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
        for name in NAMES:
            source = runs / f"r{seed}" / name
            assert (folder / name).read_bytes() == source.read_bytes()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "results").rglob("*.json")}
    write_run(runs / "r4", seed=4, accuracy=0.96)
    new = publish.collect(read(runs), tmp_path / "results")
    assert new == [tmp_path / "results" / "lenet5" / "seed4"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("name", ["weights.safetensors", "predictions.npz"])
@pytest.mark.parametrize(
    ("size", "published"), [(499_999, {0, 3}), (1_000_000, {0}), (5_000_000, set())]
)
def test_large_files_are_published_for_one_seed(runs, tmp_path, name, size, published):
    for seed in (0, 3):
        (runs / f"r{seed}" / name).write_bytes(bytes(size))
    publish.collect(read(runs), tmp_path / "results")
    found = (tmp_path / "results").rglob(name)
    assert {int(path.parent.name[4:]) for path in found} == published


@pytest.mark.parametrize("change", ["accuracy", "config"])
def test_another_result_is_never_written_over(runs, tmp_path, change):
    publish.collect(read(runs), tmp_path / "results")
    folder = tmp_path / "others"
    write_run(folder / "new", seed=1, accuracy=0.5)
    if change == "accuracy":
        write_run(folder / "again", seed=3, accuracy=0.5)
    else:
        config = {"phases[0].epochs": 5}
        write_run(folder / "again", seed=3, accuracy=0.97, config=config)
    with pytest.raises(UserError, match="two results for .*seed3, .*remove one"):
        publish.collect(read(folder), tmp_path / "results")
    assert not (tmp_path / "results" / "lenet5" / "seed1").exists()


def test_two_configs_of_one_name_cannot_share_a_place(runs, tmp_path):
    write_run(runs / "short", seed=3, config={"phases[0].epochs": 5})
    with pytest.raises(UserError, match="two results for .*seed3"):
        publish.collect(read(runs), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_tables_go_between_their_lines_and_nowhere_else(runs, tmp_path):
    document = tmp_path / "page.md"
    template = (
        "before\n<!-- results -->{}<!-- end of results -->\nbetween\n"
        "<!-- every run -->{}<!-- end of every run -->\nafter\n"
    )
    document.write_text(template.format("\nold\n", ""))
    publish.insert(read(runs), document)
    text = document.read_text()
    (table, every) = tables_of(text)
    assert (len(table), len(every)) == (1, 2)
    assert "old" not in text
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("before", "after") and "between" in lines
    publish.insert(read(runs), document)
    assert document.read_text() == text


def test_a_document_without_a_place_is_refused_and_kept(runs, tmp_path):
    document = tmp_path / "page.md"
    document.write_text("<!-- results -->\nand no end\n")
    with pytest.raises(UserError, match="page.md.*<!-- end of results -->"):
        publish.insert(read(runs), document)
    assert document.read_text() == "<!-- results -->\nand no end\n"
    with pytest.raises(UserError, match="Cannot read .*none.md"):
        publish.insert(read(runs), tmp_path / "none.md")


def test_results_come_last_so_that_a_kill_leaves_no_half_published_run(
    runs, tmp_path, monkeypatch
):
    written = []
    monkeypatch.setattr(
        publish.files, "write_text", lambda path, text: written.append(path.name)
    )
    publish.collect(read(runs / "r0"), tmp_path / "results")
    assert written[-1] == "results.json" and sorted(written) == sorted(NAMES)
    assert json.loads((runs / "r0" / "results.json").read_text())["seed"] == 0
