"""`mnist-jax compare` as a user meets it."""

import os
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

    def compare(*arguments, cwd=ROOT):
        env = command_env | {"COLUMNS": "200"}
        return run("mnist_jax", "compare", *map(str, arguments), env=env, cwd=cwd)

    return compare


def test_the_command_shows_and_sorts(compare, tmp_path):
    for name, accuracy, seconds in (("alpha", 0.9, 10), ("beta", 0.95, 9000)):
        for seed in (0, 1):
            folder = tmp_path / "runs" / f"{name}{seed}"
            fields = {"accuracy": accuracy + seed / 100, "train_seconds": seconds}
            write_run(folder, seed=seed, config={"name": name}, **fields)
    write_run(tmp_path / "runs" / "stopped")
    (tmp_path / "runs" / "stopped" / "results.json").unlink()
    results = {
        order: compare("--format=markdown", f"--sort={order}", cwd=tmp_path)
        for order in ("name", "accuracy", "time")
    }
    found = {order: tables_of(result.stdout) for order, result in results.items()}
    rows = {order: [r["Network"] for r in t[0]] for order, t in found.items()}
    assert rows["name"] == rows["time"] == ["alpha (lenet5)", "beta (lenet5)"]
    assert rows["accuracy"] == ["beta (lenet5)", "alpha (lenet5)"]
    assert found["name"][1] == found["accuracy"][1]  # the same pairs and p-values

    shown = compare(cwd=tmp_path).stdout
    assert re.search(r"(?s)alpha .*0\.9050.*beta .*0\.9550.*A is higher", shown)
    assert "Not finished: " in shown and "\x1b" not in shown
    page = compare(f"--report={tmp_path / 'page'}", cwd=tmp_path)
    assert page.stdout.startswith("Wrote comparison.md and comparison.html in ")


def test_bad_input_is_one_clear_line(command_env, tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine" / "lenet5" / "seed0").mkdir(parents=True)
    (tmp_path / "mine" / "lenet5" / "seed0" / "config.json").write_text("{}")
    run, here = str(tmp_path / "run"), re.escape(str(tmp_path))
    expected = [
        ([f"{tmp_path}/none"], 1, f"{here}/none does not exist"),
        ([f"{tmp_path}/file"], 1, f"{here}/file is not a folder"),
        ([run, f"{tmp_path}/empty"], 1, f"No run in {here}/empty: .*results.json"),
        ([run, f"--report={tmp_path}"], 1, f"--report={here} holds other files"),
        ([run, f"--publish={tmp_path}/mine"], 1, "lenet5/seed0 holds other files"),
        ([run, "--format=html"], 2, "--format=html.*table.markdown"),
        ([run, "--sort=size"], 2, "--sort=size"),
    ]
    cases = [["compare", *arguments] for arguments, _, _ in expected]
    results = run_each("mnist_jax", cases, env=command_env)
    for result, (_, code, message) in zip(results, expected, strict=True):
        assert result.returncode == code
        assert re.search(message, result.stderr), result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_it_needs_no_jax():
    program = "import sys, mnist_jax.commands.compare; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT)
    assert not {b"jax", b"flax", b"matplotlib"} & set(loaded.split())


def test_output_cut_off_and_a_backend_of_others_do_not_matter(command_env, tmp_path):
    """A process of its own, since Matplotlib reads the variable when imported."""
    write_run(tmp_path / "run")
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does
    report = tmp_path / "report"
    flags = [str(tmp_path / "run"), "--format=markdown", f"--report={report}"]
    ended = subprocess.run(
        [sys.executable, "-m", "mnist_jax", "compare", *flags],
        env=command_env | {"MPLBACKEND": "nonsense"},
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")
    assert (report / "comparison.html").exists()
