"""The model card: what a person who is handed an exported network must know."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from mnist_jax import tree
from mnist_jax.config import to_stored
from mnist_jax.evaluation import wilson_interval
from mnist_jax.runs.load import Run

# By `config.data.source`: what it is called, and how many images its test set has.
# Other data go by their source, and only results.json has their number.
_DATA = {
    "mnist": ("MNIST", 10_000),
    "tfds": ("MNIST", 10_000),
    "digits": ("the digits that come with scikit-learn", 359),
}
_SETS = {"test": "test", "val": "validation"}
_DIGITS = tuple("0123456789")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about a trained network.

    Attributes:
        network: what it is called.
        parameters: how many numbers it has, BatchNorm's statistics included.
        data: what it was trained on.
        accuracy: in 0..1, with the images that it was measured on.
        interval: the 95 % Wilson score interval of the accuracy, if known.
    """

    network: str
    parameters: int
    data: str
    accuracy: str
    interval: str


def facts(run: Run) -> Facts:
    """Collect what is known about a trained network."""
    source = run.config.data.source
    data, examples = _DATA.get(source, (source, 0))
    if run.results:
        examples = run.results[run.tested_on][run.results["test_weights"]]["examples"]
    elif run.tested_on == "val":
        examples = run.config.data.val_size
    interval = "unknown"
    if examples:
        low, high = wilson_interval(round(run.accuracy * examples), examples)
        interval = f"{low:.4f} to {high:.4f}"
    count = f"{examples:,} " if examples else ""
    return Facts(
        network=type(run.model.module).__name__,
        parameters=tree.count_parameters(run.params, run.batch_stats),
        data=data,
        accuracy=f"{run.accuracy:.4f} on {count}{_SETS[run.tested_on]} images",
        interval=interval,
    )


_DIGITS_LIMITS = """\
The network knows digits of MNIST's kind: one digit in each image, 0 to 9, bright on a
black background, scaled to fit 20x20 pixels and placed by its centre of mass in 28x28.
Photographs and scans must be brought into this form first. Anything else, a letter, two
digits or noise, is called a digit all the same, often with a high probability."""
_OTHER_LIMITS = """\
The network knows images like those that it was trained on, and the classes above.
Anything else is called one of these all the same, often with a high probability."""


def stored_config(run: Run) -> dict[str, Any]:
    """Return the config as JSON has it, without folders of the machine it ran on."""
    config = run.config
    pretrained = Path(config.model.pretrained).name
    return to_stored(
        dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, dir=None),
            model=dataclasses.replace(config.model, pretrained=pretrained),
        )
    )


def text(run: Run, *, contents: str, usage: str) -> str:
    """Return the card, in Markdown.

    Args:
        run: the network.
        contents: what the file is, takes and gives, in sentences.
        usage: how it is used: code, or a sentence.
    """
    known, config = facts(run), run.config
    epochs = " + ".join(str(phase.epochs) for phase in config.phases)
    recipe = f"the config `{config.name}`, seed {config.seed}, at most {epochs} epochs"
    if config.model.pretrained != "none":
        name = Path(config.model.pretrained).name
        recipe += f", beginning with weights from `{name}`"
    rounding = ""
    if config.dtype != "float32":
        rounding = (
            f"\nThe network was trained and tested in {config.dtype}. Other programs "
            "compute it in float32,\nso their probabilities differ from these by the "
            f"rounding of {config.dtype}.\n"
        )
    return f"""# {known.network}, trained as {config.name}

{contents}

| | |
|---|---|
| Network | {known.network}, {known.parameters:,} parameters |
| Data | {known.data} |
| Recipe | {recipe} |
| Accuracy | {known.accuracy} (95 % interval {known.interval}) |
| SHA-256 of the parameters | `{tree.digest((run.params, run.batch_stats))}` |
{rounding}
## Use

{usage}

## Limits

{_DIGITS_LIMITS if run.classes == _DIGITS else _OTHER_LIMITS} The accuracy
is that on {known.data}; images from elsewhere give another one.

## Licence

mnist_jax, the program that trained this network, is under the Apache License 2.0, and
so is the network, unless whoever trained it says otherwise.

## Config

```json
{json.dumps(stored_config(run), indent=2)}
```
"""
