"""`mnist-jax compare` as a user meets it."""

import csv
import io
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.support.commands import run, run_each
from tests.support.made_runs import tables_of, write_run


@pytest.fixture
def compare(command_env):
    """Run `python -m mnist_jax compare ARGUMENTS` to its end."""

    def compare(*arguments, cwd=ROOT, columns=200):
        env = command_env | {"COLUMNS": str(columns)}
        arguments = map(str, arguments)
        return run("mnist_jax", "compare", *arguments, env=env, cwd=cwd)

    return compare


def test_the_command_shows_writes_and_sorts(compare, tmp_path):
    write_run(tmp_path / "b" / "run", accuracy=0.9, config={"name": "beta"})
    fields = {"accuracy": 0.95, "train_seconds": 9000}
    write_run(tmp_path / "a" / "run", config={"name": "alpha"}, **fields)
    write_run(tmp_path / "a" / "stopped")
    (tmp_path / "a" / "stopped" / "results.json").unlink()
    folders = (tmp_path / "b", tmp_path / "a")

    result = compare(*folders, columns=80)
    assert result.returncode == 0, result.stderr
    assert re.search(r"(?s)beta .*0\.9000.*alpha .*0\.9500", result.stdout)
    assert "Not finished: " in result.stdout and "\x1b" not in result.stdout

    for order, expected in (
        ("accuracy", ["alpha", "beta"]),
        ("name", ["alpha", "beta"]),
        ("time", ["beta", "alpha"]),
    ):
        result = compare("--format=csv", *folders, f"--sort={order}")
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert [row["config"] for row in rows] == expected
        assert f"Not finished: {tmp_path / 'a' / 'stopped'}" in result.stderr

    for name, start in (("t.md", "| Network"), ("t.csv", "config,"), ("t", "Network")):
        result = compare(*folders, "--output", tmp_path / name)
        assert result.stdout == f"Wrote {tmp_path / name}.\n"
        assert (tmp_path / name).read_text().startswith(start)
    result = compare(*folders, f"--output={tmp_path / 'c.md'}", "--format=csv")
    assert (tmp_path / "c.md").read_text().startswith("config,")
    assert not list(tmp_path.glob(".*"))


def test_with_no_folder_it_compares_runs_or_says_what_to_give(compare, tmp_path):
    result = compare(cwd=tmp_path)
    assert result.returncode == 1
    assert "no folder runs/ here" in result.stderr and "FOLDER" in result.stderr
    write_run(tmp_path / "runs" / "lenet5" / "seeds" / "seed0")
    result = compare("--format=markdown", cwd=tmp_path)
    assert result.returncode == 0
    assert len(tables_of(result.stdout)) == 2


def test_what_cannot_be_is_one_clear_line(command_env, tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    run, here = str(tmp_path / "run"), re.escape(str(tmp_path))
    expected = [
        ([f"{tmp_path}/none"], 1, f"{here}/none does not exist"),
        ([f"{tmp_path}/file"], 1, f"{here}/file is not a folder"),
        ([run, f"{tmp_path}/empty"], 1, f"No run in {here}/empty: .*results.json"),
        ([run, f"--output={tmp_path}/none/t.md"], 1, f"no folder {here}/none"),
        ([run, f"--output={tmp_path}/t.xlsx"], 1, "xlsx. Known: .md, .csv, .tex, .txt"),
        ([run, "--format=html"], 2, "--format=html.*terminal.markdown.csv"),
        ([run, "--sort=size"], 2, "--sort=size"),
    ]
    cases = [["compare", *arguments] for arguments, _, _ in expected]
    results = run_each("mnist_jax", cases, env=command_env)
    for result, (_, code, message) in zip(results, expected, strict=True):
        assert result.returncode == code
        assert re.search(message, result.stderr), result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "t.xlsx").exists()


def test_help_says_what_to_give(compare):
    output = compare("--helpshort").stdout
    for word in ("FOLDER", "--format", "--output", "--sort", "results.json"):
        assert word in output


def test_it_needs_no_jax():
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, mnist_jax.commands.compare; print(*sys.modules, sep='\\n')",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"jax", "flax", "matplotlib"} & set(loaded.stdout.split())


def test_it_writes_latex_and_a_page(command_env, tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "runs" / f"{seed}", seed=seed, accuracy=0.98 + seed / 100)
        config = {"name": "other"}
        write_run(tmp_path / "runs" / f"o{seed}", seed=seed, config=config)
    runs = str(tmp_path / "runs")
    cases = [
        ["compare", runs, "--latex"],
        ["compare", runs, f"--output={tmp_path / 't.tex'}"],
        ["compare", runs, f"--report={tmp_path / 'page'}"],
        ["compare", runs],
    ]
    results = run_each("mnist_jax", cases, env=command_env)
    assert [result.returncode for result in results] == [0] * 4, results
    assert results[0].stdout == (tmp_path / "t.tex").read_text()
    assert r"\begin{tabular}" in results[0].stdout
    assert results[2].stdout.startswith("Wrote comparison.md and comparison.html in ")
    assert "not separated by 2 and 2 seeds" in results[3].stdout
    assert "better" not in results[3].stdout
