"""The model card: the data, accuracy, input and output of an exported network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from mnist_jax import tree
from mnist_jax.config import to_json
from mnist_jax.evaluation import wilson_interval
from mnist_jax.runs.folder import RunFolder, read_json
from mnist_jax.runs.load import Network
from mnist_jax.runs.trained import Trained

# By `config.data.source`: what it is called, and how many images its test set has.
# Other data go by their source, and only results.json has their number.
_DATA = {
    "mnist": ("MNIST", 10_000),
    "tfds": ("MNIST", 10_000),
    "digits": ("the digits that come with scikit-learn", 359),
}
_TEMPLATE = Path(__file__).with_name("card.md.j2")


def facts(run: Trained) -> dict[str, str]:
    """Collect what is known about a trained network.

    Returns:
        "network", "parameters" (their number, with BatchNorm's statistics), "data",
        "accuracy" (with the images that it was measured on) and "interval" (its 95 %
        Wilson score interval, if the number of images is known).
    """
    source = run.data.source
    data, examples = _DATA.get(source, (source, 0))
    if run.results:
        examples = run.results["test"][run.results["test_weights"]]["examples"]
    elif run.tested_on == "val":
        examples = run.data.val_size
    interval = "unknown"
    if examples:
        low, high = wilson_interval(round(run.accuracy * examples), examples)
        interval = f"{low:.4f} to {high:.4f}"
    if isinstance(run, Network):
        name = type(run.model.module).__name__
        parameters = tree.count_parameters(run.params, run.batch_stats)
    else:
        name, parameters = run.architecture, (run.results or {})["parameters"]
    count = f"{examples:,} " if examples else ""
    kind = "validation" if run.tested_on == "val" else "test"
    return {
        "network": name,
        "parameters": f"{parameters:,}",
        "data": data,
        "accuracy": f"{run.accuracy:.4f} on {count}{kind} images",
        "interval": interval,
    }


def stored_config(run: Trained) -> dict[str, Any]:
    """Return the config as JSON has it, without folders of the machine it ran on."""
    if isinstance(run, Network):
        stored = to_json(run.config)
        stored["model"]["pretrained"] = Path(run.config.model.pretrained).name
    else:
        stored = read_json(RunFolder(run.path.parent).config, {dict: "data"})
    stored["data"]["dir"] = None
    return stored


def text(run: Trained, *, file: str, format: str, shape: Sequence[int]) -> str:
    """Return the card, in Markdown, of a file with images of a shape as its input."""
    stored = stored_config(run)
    template = jinja2.Template(_TEMPLATE.read_text(), trim_blocks=True)
    return template.render(
        run=run,
        config=run.config if isinstance(run, Network) else None,
        facts=facts(run),
        of_digits=run.classes == tuple("0123456789"),
        pretrained=stored.get("model", {}).get("pretrained", "none"),
        digest=run.parameters_sha256,
        stored=json.dumps(stored, indent=2),
        file=file,
        format=format,
        shape=", ".join(map(str, shape)),
    )
