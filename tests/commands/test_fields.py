"""`mnist-jax fields` lists every field that there is."""

from mnist_jax import models
from mnist_jax.commands import fields
from mnist_jax.config import Experiment, to_json
from mnist_jax.runs.folder import flatten


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
