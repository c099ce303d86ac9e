"""`mnist-jax` itself: its verbs and the fields of experiments."""

import ast
import subprocess
import sys

import pytest

import mnist_jax
from mnist_jax import data, models
from mnist_jax.__main__ import VERBS
from mnist_jax.commands import fields
from mnist_jax.config import Experiment, to_json
from mnist_jax.runs.folder import flatten
from tests.support.commands import ROOT, WITHOUT_PICTURES, run_each, run_on_terminal


def test_verbs_configs_networks_and_data_sets_are_listed(command_env):
    cases = [[], ["help"], ["-V"], ["predictt"], ["list"]]
    bare, helped, version, unknown, listed = run_each(
        "mnist_jax", cases, env=command_env
    )
    for ended in (bare, helped):
        assert ended.returncode == 0
        assert all(f"\n  {verb} " in ended.stdout for verb in VERBS)
    assert version.stdout == f"mnist_jax {mnist_jax.__version__}\n"
    cited = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {mnist_jax.__version__}\n" in cited
    assert unknown.returncode == 2 and "no verb 'predictt'" in unknown.stderr
    stems = {path.stem for path in (ROOT / "configs").glob("*.py")}
    for name in (*stems, *models.MODELS, *data.SOURCES):
        assert (f"\n  {name} " in listed.stdout) == (name not in ("base", "__init__"))
    assert "load_run" in dir(mnist_jax)


def test_the_help_of_a_verb_fits_on_a_terminal():
    """What we write of it; absl fits the flags."""
    for verb in VERBS:
        module = ast.parse((ROOT / f"mnist_jax/commands/{verb}.py").read_text())
        about = ast.get_docstring(module)
        assert about and max(map(len, about.splitlines())) <= 80


def test_every_field_is_listed_with_type_default_and_meaning():
    lines = list(fields.lines_of(Experiment, "--config"))
    listed = {line.split(":")[0].split(" ")[0] for line in lines if line[:2] == "--"}
    for name in flatten(to_json(Experiment())):
        field = name.removesuffix("[0]").removesuffix("[1]")
        assert f"--config.{field}" in listed
    for network in models.MODELS:
        for option in models.options_of(network):
            assert f"--config.model.{option}" in listed
    place = lines.index("--config.phases[0].batch_size: int = 86")
    assert lines[place + 1].startswith("    Images per step.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "-h"],
        ["predict", "-h"],
        ["list"],
        ["fields"],
        ["predict", "docs/sample.jpg"],
        ["evaluate", "run", "--robustness", "--limit=5"],
        ["compare", "results"],
        ["export", "--output=a.safetensors"],
        ["train", "--config=quickstart", "--config.phases[0].epochs=1"],
    ],
    ids=" ".join,
)
def test_no_line_is_wider_than_the_terminal(
    arguments, three_steps, tmp_path, command_env
):
    links = {"docs": ROOT / "docs", "results": ROOT / "results", "run": three_steps}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    env = command_env | WITHOUT_PICTURES
    code, lines = run_on_terminal("mnist_jax", *arguments, env=env, cwd=tmp_path)
    assert code == 0 and max(map(len, lines)) <= 80, lines


def test_a_command_may_be_run_again_in_the_same_process(command_env):
    """As by %run in a notebook: with its own flags, and none of the earlier ones."""
    script = """import runpy, sys
for source in ("idx", "npz"):
    sys.argv = ["run.py", "--config=quickstart", f"--config.data.source={source}"]
    try:
        runpy.run_path("run.py", run_name="__main__")
    except SystemExit:
        pass
"""
    words = [sys.executable, "-c", script]
    ended = subprocess.run(words, env=command_env, cwd=ROOT, capture_output=True)
    lines = ended.stderr.decode().splitlines()
    for source, line in zip(("idx", "npz"), lines, strict=True):
        assert f"data.source={source} needs --config.data.dir" in line
