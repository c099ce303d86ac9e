"""A network and a data set of one's own, of 62 classes, through every command."""

import csv
import io
import json

import numpy as np
import pytest

from mnist_jax import demo
from mnist_jax.runs.load import load
from tests.support.commands import run_each
from tests.support.made_data import SIXTY_TWO, make

TRAIN = [
    "train",
    "--config=quickstart",
    "--config.data.source=tests.support.made_data:sixty_two",
    "--config.data.val_size=62",
    "--config.model.name=tests.support.own_nets:TwoOutputs",
    "--config.phases[0].batch_size=62",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, command_env):
    """The folder of a trained run, and the files that the commands write."""
    folder = tmp_path_factory.mktemp("any")
    images, _ = make(62, 124, seed=3)
    np.save(folder / "images.npy", images)
    run, here = str(folder / "run"), str(folder)
    cases = [
        [*TRAIN, "--config.phases[0].epochs=4", f"--workdir={run}"],
        ["predict", f"{here}/images.npy", "--raw", f"--run={run}", "--json",
         f"--csv={here}/out.csv", f"--save={here}/strips"],
        *(["export", run, f"--output={here}/net.{kind}"]
          for kind in ("onnx", "stablehlo", "safetensors", "html")),
        ["evaluate", run, "--robustness", "--limit=62", f"--output={here}/evaluation"],
        ["compare", run, f"--report={here}/comparison"],
    ]  # fmt: skip
    ended = run_each("mnist_jax", cases, env=command_env)
    for case, result in zip(cases, ended, strict=True):
        assert result.returncode == 0, (case, result.stderr)
    (folder / "out.json").write_text(ended[1].stdout)
    return folder


@pytest.mark.slow
def test_every_command_knows_the_classes(folder):
    run, images = load(folder / "run"), np.load(folder / "images.npy")
    assert run.classes == SIXTY_TWO
    probabilities = run.predict(images)
    labels = [SIXTY_TWO[place] for place in probabilities.argmax(axis=1)]
    [said] = json.loads((folder / "out.json").read_text())["pictures"]
    assert [digit["digit"] for digit in said["digits"]] == labels
    rows = list(csv.DictReader(io.StringIO((folder / "out.csv").read_text())))
    assert [row["digit"] for row in rows] == labels
    of_csv = [[float(row[f"p{name}"]) for name in SIXTY_TWO] for row in rows]
    np.testing.assert_allclose(of_csv, probabilities, atol=1e-6)
    assert len(list((folder / "strips").iterdir())) == 1

    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(folder / "net.onnx")
    stored = session.get_modelmeta().custom_metadata_map["classes"]
    assert tuple(json.loads(stored)) == SIXTY_TWO
    (found,) = session.run(None, {"images": images})
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    np.testing.assert_array_equal(
        load(folder / "net.safetensors").logits(images), run.logits(images)
    )
    assert "letter 3" in (folder / "run" / "report.md").read_text()


@pytest.mark.slow
def test_the_demo_knows_the_classes(folder, tmp_path):
    run, images = load(folder / "run"), np.load(folder / "images.npy")
    app = demo.App(demo.networks_of([run, load()]), demo.Corrections(tmp_path / "kept"))
    answers = app.predict(images[0].tobytes(), [0, 1])["answers"]
    assert [len(each["digits"][0]["probabilities"]) for each in answers] == [62, 10]
    assert answers[0]["text"] == SIXTY_TWO[run.logits(images[:1]).argmax()]
    assert {*app.classes} == {*SIXTY_TWO, *"0123456789"}
    assert "letter 3" in app.page().decode()
