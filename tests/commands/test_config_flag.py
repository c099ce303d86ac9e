"""Files of experiments: an error in one is reported in one line."""

import sys

import pytest

from mnist_jax.commands import config_flag
from mnist_jax.errors import UserError
from tests.conftest import ROOT

FILE = """from mnist_jax.configs import base


def get_config(variant=""):
    config = base.get_config()
    {line}
    return config
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.sed = 3", ', line 6: .*Did you mean "seed"'),
        ("config.seed = = 3", "line 6: SyntaxError: invalid syntax"),
        ("config = 3", "AttributeError: 'int'"),
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
        ("nope.py", "no such Python file. Known: .*lenet5"),
        ("configs/base.py:x", "takes 0 positional arguments"),
    ],
)
def test_other_files_are_refused(monkeypatch, name, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=message) as caught:
        config_flag.load(name)
    assert "\n" not in str(caught.value)


def test_an_experiment_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_flag.load("lenet5:tuned").name == "lenet5-tuned"
    (tmp_path / "lenet5").mkdir()  # a run's folder
    assert config_flag.load("lenet5").name == "lenet5"


def test_experiments_are_described_whatever_is_in_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(config_flag, "_FOLDER", tmp_path)
    (tmp_path / "bad.py").write_text("import nothing")
    (tmp_path / "plain.py").write_text(FILE.format(line="pass"))
    bad, plain = config_flag.described()
    assert bad[1].startswith("Not usable, line 1: ModuleNotFoundError")
    assert plain == ("plain", "")


@pytest.mark.parametrize("folder", ["", "a:b/"])
@pytest.mark.parametrize("ending", ["", ".py"])
def test_the_users_own_file_comes_first(tmp_path, monkeypatch, folder, ending):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / folder / "lenet5.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(FILE.format(line="config.name = f'mine{variant}'"))
    for variant in ("", ":x"):
        found = config_flag.load(f"{folder}lenet5{ending}{variant}")
        assert found.name == f"mine{variant[1:]}"


def test_every_experiment_of_the_project_loads_from_a_wheel(monkeypatch):
    """Where configs/ is mnist_jax.configs alone."""
    monkeypatch.setitem(sys.modules, "configs", None)
    for name in config_flag.names():
        config_flag.load(name)
