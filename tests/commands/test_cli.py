"""`mnist-jax` itself: its verbs and the fields of experiments."""

import mnist_jax
from mnist_jax import models
from mnist_jax.__main__ import VERBS
from mnist_jax.commands import fields
from mnist_jax.config import Experiment, to_json
from mnist_jax.runs.folder import flatten
from tests.support.commands import ROOT, run_each


def test_every_verb_is_named_and_describes_itself(command_env):
    cases = [[], ["--help"], ["--version"], ["predictt"]]
    cases += [[verb, "--helpshort"] for verb in VERBS]
    bare, helped, version, unknown, *described = run_each(
        "mnist_jax", cases, env=command_env
    )
    for ended in (bare, helped):
        assert ended.returncode == 0
        assert all(f"\n  {verb} " in ended.stdout for verb in VERBS)
    assert version.stdout == f"mnist_jax {mnist_jax.__version__}\n"
    assert f"version = {{{mnist_jax.__version__}}}" in (ROOT / "README.md").read_text()
    assert unknown.returncode == 2 and "no verb 'predictt'" in unknown.stderr
    for verb, ended in zip(VERBS, described, strict=True):
        assert f"mnist-jax {verb}" in ended.stdout, ended.stderr
    for path in (ROOT / "configs").glob("*.py"):
        listed = f"\n  {path.stem} " in described[0].stdout  # of train
        assert listed == (path.stem not in ("base", "__init__"))
    assert "--workdir" in described[0].stdout
    assert "load_run" in dir(mnist_jax)


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
