"""notebooks/colab.ipynb runs from top to bottom, and is committed without outputs."""

import base64
import io
import os
import sys

import nbclient
import nbformat
import pytest
from PIL import Image

from mnist_jax.data import digits
from tests.conftest import LITTLE_OPTIMIZED, ROOT

# What a user could type into the form of the first cell.
TINY = """
FLAGS = "--config.data.source=digits --config.data.val_size=138 "
FLAGS += "--config.phases[0].epochs=2 --config.phases[0].batch_size=128 "
FLAGS += "--config.model.name=tests.support.own_nets:MLP"
"""
NO_JAX = 'import sys; assert not {"jax", "mnist_jax"} & sys.modules.keys()'


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(ROOT / "notebooks" / "colab.ipynb", as_version=4)


def test_it_is_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.keys() == {"colab", "kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert cell.metadata.keys() <= {"tags"}


def test_only_colab_downloads_installs_and_uploads(notebook):
    for cell in notebook.cells:
        colab = ("google.colab", "git clone", "pip install")
        if cell.cell_type == "code" and any(words in cell.source for words in colab):
            assert "\nif IN_COLAB" in cell.source


@pytest.fixture(scope="module")
def executed(notebook, command_env, tmp_path_factory):
    """The notebook after it ran with tiny settings, and its folder of runs."""
    runs = tmp_path_factory.mktemp("notebook")
    image = digits.load()[1].images[0, :, :, 0]
    earlier = runs / "readings-earlier.png"
    earlier.mkdir()
    for path in (runs / "photo.png", earlier / "photo.png"):
        Image.fromarray(255 - image).resize((280, 280)).save(path)
    ours = {
        "settings": f"{TINY}RUNS = {str(runs)!r}",
        "photo": 'PHOTO = f"{RUNS}/photo.png"',
    }
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", ())
        cells.append(cell)
        cells += [nbformat.v4.new_code_cell(ours[tag]) for tag in tags if tag in ours]
    cells.append(nbformat.v4.new_code_cell(NO_JAX))
    copy = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    folder = os.path.dirname(sys.executable)
    path = os.pathsep.join([folder, os.environ["PATH"]])
    env = command_env | LITTLE_OPTIMIZED | {"PATH": path, "PYTHONPATH": str(ROOT)}
    client = nbclient.NotebookClient(
        copy, timeout=200, resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute(env=env)
    return copy, runs


def outputs_of(executed, words):
    """What the first cell with these words printed, and the pictures that it showed."""
    cell, *_ = [cell for cell in executed[0].cells if words in cell.source]
    printed = "".join(out.get("text", "") for out in cell.outputs)
    shown = [out.data["image/png"] for out in cell.outputs if "data" in out]
    return printed, [Image.open(io.BytesIO(base64.b64decode(png))) for png in shown]


@pytest.mark.slow
def test_it_trains_shows_compares_and_reads(executed):
    _, runs = executed
    for run in ("quick", "tuned"):
        printed, _ = outputs_of(executed, f'--workdir="{{RUNS}}/{run}"')
        assert "Test accuracy" in printed and (runs / run / "results.json").exists()
        _, pictures = outputs_of(executed, f'show("{run}"')
        assert pictures
    table, _ = outputs_of(executed, "mnist-jax compare")
    assert "quickstart" in table and "lenet5-tuned" in table
    _, pictures = outputs_of(executed, "mnist-jax predict")
    assert len(pictures) == 1  # not those of an earlier photograph
