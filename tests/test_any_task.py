"""Any classes and any network go through every command, from training to the demo."""

import functools
import html
import http.client
import json
import pickle
import re
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mnist_jax import load_run, models, tree
from mnist_jax.config import Model
from mnist_jax.data import Task
from mnist_jax.training import state, step
from tests.conftest import LITTLE_OPTIMIZED
from tests.support.commands import ROOT, WITHOUT_PICTURES, run, start, wait_for
from tests.support.made_data import SIXTY_TWO, THREE, make
from tests.support.networks import SMALL
from tests.support.training_parts import KEY, make_phase, make_step

CLASSES = {"three": THREE, "sixty_two": SIXTY_TWO}
OWN = "tests.support.own_nets:"
# Of probabilities: most for capsules, whose logits are log(v / (1 - v)) of v near 1.
ROUNDING = 2e-4


def arguments(source, network, **fields):
    """The arguments of a short training."""
    settings = {
        "name": "tried",
        "data.source": f"tests.support.made_data:{source}",
        "data.val_size": 60,
        "model.name": network,
        "phases[0].epochs": 4,
        "phases[0].batch_size": 10,
        "phases[0].optimizer.learning_rate": 0.01,
        "augment.shift": 0.05,
        **fields,
    }
    return [
        "--config=configs/quickstart.py",
        *(f"--config.{name}={value}" for name, value in settings.items()),
    ]


@pytest.fixture(scope="module")
def env(command_env):
    return command_env | LITTLE_OPTIMIZED | {"JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def do(env):
    """Run a command of mnist-jax that must succeed; return its standard output."""

    def do(*words, **more):
        ended = run("mnist_jax", *map(str, words), env=env | more, cwd=ROOT)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return do


@pytest.fixture(
    scope="module",
    params=[
        ("three", f"{OWN}TwoOutputs"),
        ("three", f"{OWN}MLP"),
        ("sixty_two", "fast_cnn"),
        *(
            pytest.param(pair, marks=pytest.mark.exhaustive)
            for pair in (
                ("sixty_two", f"{OWN}TwoOutputs"),
                *(("three", name) for name in SMALL if name != "fast_cnn"),
            )
        ),
    ],
    ids=lambda pair: f"{pair[0]}-{pair[1].removeprefix(OWN)}",
)
def trained(request, do, env, tmp_path_factory):
    """A run that was killed and resumed, its classes, and its test images."""
    source, network = request.param
    folder = tmp_path_factory.mktemp("run") / "a run"
    words = ["train", *arguments(source, network), f"--workdir={folder}"]
    killed = start("mnist_jax", *words, env=env, cwd=ROOT)
    wait_for(killed, "^epoch +2 ")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (folder / "results.json").exists()
    assert "Resuming after epoch" in do(*words)
    classes = CLASSES[source]
    images, labels = make(len(classes), 60 if source == "three" else 124, seed=2)
    return folder, classes, images, labels


@pytest.fixture(scope="module")
def pictures(trained, tmp_path_factory):
    """A folder with the first three test images as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(trained[2][:3]):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_the_run_knows_its_classes_and_has_a_report(trained):
    folder, classes, images, labels = trained
    results = json.loads((folder / "results.json").read_text())
    assert results["kind"] == "network" and results["classes"] == list(classes)
    scores = results["test"][results["test_weights"]]
    assert [row["class"] for row in scores["per_class"]] == list(classes)
    assert np.shape(scores["confusion"]) == (len(classes),) * 2
    network = load_run(folder)
    assert network.classes == classes
    logits = network.logits(images)
    right = (logits.argmax(axis=1) == labels).mean()
    assert right == scores["accuracy"]
    if results["model"] == "fast_cnn" or ":" in results["model"]:
        assert right > 2 / len(classes)
    page = (folder / "report.html").read_text()
    assert all(html.escape(name, quote=False) in page for name in classes[:3])
    assert "<b>&<" not in page
    assert (folder / "figures" / "confusion_matrix.png").exists()
    has_maps = not results["model"].endswith("MLP")
    assert (folder / "figures" / "feature_maps.png").exists() == has_maps


def test_it_predicts(trained, do, pictures):
    folder, classes, images, _ = trained
    read = json.loads(do("predict", pictures, f"--run={folder}", "--raw", "--json"))
    expected = load_run(folder).predict(images[:3]).argmax(axis=1)
    labels = [picture["digits"][0]["digit"] for picture in read["pictures"]]
    assert labels == [classes[index] for index in expected]


def test_it_is_evaluated_and_compared(trained, do, tmp_path):
    folder, classes, *_ = trained
    do("evaluate", folder, "--tta", f"--output={tmp_path / 'evaluation'}")
    measured = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert measured
    other = tmp_path / "other"
    source = "three" if len(classes) == 3 else "sixty_two"
    few = {"name": "other", "phases[0].epochs": 1, "phases[0].steps_per_epoch": 2}
    words = *arguments(source, f"{OWN}MLP", **few), f"--workdir={other}"
    do("train", *words, **WITHOUT_PICTURES)
    do("compare", folder, other, f"--report={tmp_path / 'page'}")
    page = (tmp_path / "page" / "comparison.html").read_text()
    assert "tried" in page and "other" in page and "<b>&<" not in page


def test_data_of_other_classes_are_refused_in_one_line(trained, env):
    folder, classes, *_ = trained
    other = "sixty_two" if len(classes) == 3 else "three"
    data = f"--data=tests.support.made_data:{other}"
    ended = run("mnist_jax", "evaluate", str(folder), data, env=env)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1 and "classes" in ended.stderr


def test_it_is_exported(trained, do, tmp_path):
    folder, classes, images, _ = trained
    expected = load_run(folder).predict(images)
    for ending in ("onnx", "stablehlo", "safetensors", "html"):
        do("export", folder, f"--output={tmp_path / f'network.{ending}'}")
    copy = load_run(tmp_path / "network.safetensors")
    assert copy.classes == classes
    np.testing.assert_array_equal(copy.predict(images), expected)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    stored = session.get_modelmeta().custom_metadata_map["classes"]
    assert tuple(json.loads(stored)) == classes
    (found,) = session.run(None, {"images": images})
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_the_demo_answers_with_its_classes(trained, env):
    folder, classes, images, _ = trained
    demo = start("mnist_jax", "demo", str(folder), "--port=0", env=env, cwd=ROOT)
    try:
        found = re.search(r"http://127.0.0.1:(\d+)", wait_for(demo, "http://"))
        assert found
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        kind = {"Content-Type": "application/octet-stream"}
        connection.request("POST", "/predict?run=0", images[0].tobytes(), kind)
        answers = json.loads(connection.getresponse().read())["answers"]
        connection.close()
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    expected = load_run(folder).predict(images[:1])[0]
    (digit,) = answers[0]["digits"]
    assert digit["label"] == classes[expected.argmax()]
    np.testing.assert_allclose(digit["probabilities"], expected, atol=ROUNDING)


@pytest.mark.parametrize(
    "network",
    [
        *SMALL,
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in sorted(models.MODELS.keys() - SMALL)
        ),
    ],
)
def test_every_network_is_traced_for_any_classes_and_images(network):
    """A step of training, and what a report shows, by shapes alone."""
    model = models.create(Model(network), Task(THREE, (32, 40, 3)))
    phase = make_phase(batch_size=4)
    shapes = (4, 32, 40, 3), (4,)
    arrays: Any = (jax.ShapeDtypeStruct(x, jnp.uint8) for x in shapes)
    batch = step.Batch(*arrays)
    before = jax.eval_shape(functools.partial(state.create, phase=phase), *model.shapes)
    train_step = make_step(model.apply, phase, loss_fn=model.loss)
    after, metrics = jax.eval_shape(train_step, before, batch, KEY)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.shape == b.shape, before, after))
    assert metrics.loss.shape == ()

    def inside(*variables):
        return model.features(*variables), model.feature_maps(*variables)

    scaled = jax.ShapeDtypeStruct(shapes[0], jnp.float32)
    features, maps = jax.eval_shape(inside, *model.shapes, scaled)
    assert features.shape[0] == 4 and maps
    assert maps.keys() <= tree.layers(model.shapes[0]).keys()


@pytest.mark.exhaustive
@pytest.mark.parametrize("network", [f"{OWN}TwoOutputs", *SMALL])
def test_every_network_trains_alike_on_any_devices_and_together(network, env, tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    ended = run(
        "tests.support.several_devices",
        str(tmp_path / "distances"),
        network,
        env=env | {"XLA_FLAGS": flags},
    )
    assert ended.returncode == 0, ended.stderr
    distances = pickle.loads((tmp_path / "distances").read_bytes())
    for way, distance in distances.items():
        # A ReLU at 0 may be on one side or the other, which moves Inception by 0.01.
        assert distance < (0.75 if "bfloat16" in way else 0.05), (way, distances)
