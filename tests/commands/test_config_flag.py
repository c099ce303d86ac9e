"""Files of experiments and overrides of their fields: every slip is one clear line."""

import pytest

from mnist_jax.commands import config_flag
from mnist_jax.errors import UserError
from tests.conftest import ROOT

FILE = """from configs import base


def get_config(variant=""):
    config = base.get_config()
    {line}
    return config
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.sed = 3", ', line 6: .*Did you mean "seed"'),
        ("config.augment.update(rotatoin=10.0)", 'line 6: .*Did you mean "rotation"'),
        ("print(config.phases[0].epoch)", 'line 6: .*Did you mean "epochs"'),
        ("config.seed = 'x'", "line 6: TypeError: .*'seed'"),
        ("config.seed = = 3", "line 6: SyntaxError: invalid syntax"),
        ("config.seed = undefined", "line 6: NameError: .*undefined"),
        ("config = 3", "returned int, not the config"),
    ],
)
def test_an_error_in_a_config_file_is_reported_with_its_line(tmp_path, line, message):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(line=line))
    with pytest.raises(UserError, match=message) as caught:
        config_flag.load(str(path))
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("README.md", "no such Python file. Known: .*lenet5"),
        ("configs/nope.py", "no such Python file. Known: .*lenet5"),
        ("configs/base.py:x", "takes 0 positional arguments"),
        ("configs/__init__.py", "KeyError: get_config"),
    ],
)
def test_other_files_are_refused(monkeypatch, name, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=message) as caught:
        config_flag.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("config.sed", "config.seed"),
        ("epochs", "config.phases[0].epochs"),
        ("batch-size", "config.phases[0].batch_size"),
        ("config.epochs", "config.phases[0].epochs"),
        ("config.phases[0].epoch", "config.phases[0].epochs"),
        ("config.phases.epochs", "config.phases[0].epochs"),
        ("config.model.nam", "config.model.name"),
        ("helpshrt", "helpshort"),
    ],
)
def test_the_nearest_flag_or_field_is_suggested(monkeypatch, name, suggested):
    monkeypatch.setattr(config_flag.flags, "FLAGS", {"config": 0, "helpshort": 0})
    hint = config_flag.did_you_mean(name, config_flag.load("lenet5"))
    assert hint == f" Did you mean --{suggested}?"


def test_an_experiment_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_flag.load("lenet5:tuned").name == "lenet5-tuned"
    (tmp_path / "lenet5").mkdir()  # the user's own comes first
    with pytest.raises(UserError, match="--config=lenet5: no such Python"):
        config_flag.load("lenet5")
