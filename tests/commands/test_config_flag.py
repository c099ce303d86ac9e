"""Files of experiments and overrides of their fields: every slip is one clear line."""

import re
import subprocess
import sys

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
        ("config.sed = 3", ', line 6: there is no field "sed". Did you mean "seed"?'),
        ("config.augment.update(rotatoin=10.0)", 'line 6: .*Did you mean "rotation"?'),
        ("print(config.phases[0].epoch)", 'line 6: .*Did you mean "epochs"?'),
        ("config.xyz = 3", 'no field "xyz". mnist-jax fields lists'),
        ("config.model.update(name='vgg16', input_size=64)", "base.get_model.'vgg16'."),
        ("config.seed = 'x'", "line 6: TypeError: .*'seed'"),
        ("config.seed = = 3", "line 6: invalid syntax"),
        ("config.seed = undefined", "line 6: NameError: .*undefined"),
        ("config = 3", "returned int, not the config"),
        ("del globals()['x']", "line 6: KeyError: x"),
    ],
)
def test_an_error_in_a_config_file_is_told_with_its_line(tmp_path, line, message):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(line=line))
    with pytest.raises(UserError, match=message) as caught:
        config_flag.load(str(path))
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("README.md", "not an experiment, .*configs/lenet5.py"),
        ("results/lenet5/seed0/config.json", "not an experiment"),
        ("configs/nope.py", "no such file. Known: .*configs/lenet5.py"),
        ("configs", "no such file"),
        ("configs/base.py:x", "takes 0 positional arguments"),
        ("configs/__init__.py", "no function get_config"),
    ],
)
def test_what_is_not_an_experiment_is_refused(monkeypatch, name, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=message) as caught:
        config_flag.load(name)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def lenet5():
    return config_flag.load(str(ROOT / "configs" / "lenet5.py"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sed", 'no such field. Did you mean "seed"?'),
        ("epochs", "Did you mean --config.phases[0].epochs?"),
        ("batch_size", "Did you mean --config.phases[0].batch_size?"),
        ("optimizer.b1", "Did you mean --config.phases[0].optimizer?"),
        ("xyz", "no such field. mnist-jax fields lists the fields."),
        ("phases.epochs", "is a list. The first entry's field is --config.phases[0]."),
        ("phases[0].epoch", 'Did you mean "epochs"?'),
        ("phases[3].epochs", "has no entry 3. The first is --config.phases[0]."),
        ("phases", "a section cannot be set as a whole. Set its fields, such as --con"),
        ("phases[0].optimizer", "such as --config.phases[0].optimizer.b1."),
        ("seed.x", "--config.seed is a value without fields"),
        ("model.input_size", "an option of vgg16 and vgg19, not of lenet5."),
        ("model.nam", 'Did you mean "name"?'),
    ],
)
def test_an_override_of_no_field_is_refused(lenet5, name, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        config_flag.check_override(lenet5, name)
    assert str(caught.value).startswith("--config.")


@pytest.mark.parametrize("name", ["seed", "phases[0].freeze", "data.dir"])
def test_an_override_of_a_field_is_taken(lenet5, name):
    config_flag.check_override(lenet5, name)


def test_an_experiment_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_flag.load("lenet5:tuned").name == "lenet5-tuned"
    (tmp_path / "lenet5").mkdir()  # what is there comes first
    with pytest.raises(UserError, match="--config=lenet5: no such file"):
        config_flag.load("lenet5")


def test_the_options_of_vgg_are_known_for_vgg():
    vgg16 = config_flag.load(str(ROOT / "configs" / "vgg16.py"))
    config_flag.check_override(vgg16, "model.input_size")


def test_the_experiments_are_found_from_another_folder(tmp_path):
    """Where the package is installed from a checkout, `configs` is not."""
    code = f"""if True:
        import sys
        sys.path.append({str(ROOT)!r})
        import mnist_jax
        sys.path.pop()
        from mnist_jax.commands import config_flag
        print(config_flag.load({str(ROOT / "configs" / "lenet5.py")!r}).name)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "lenet5\n", done.stderr
