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
_DATA = {
    "mnist": ("MNIST", 10_000),
    "tfds": ("MNIST", 10_000),
    "digits": ("the digits that come with scikit-learn", 359),
}
_SETS = {"test": "test", "val": "validation"}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about a trained network.

    Attributes:
        network: what it is called.
        parameters: how many numbers it has, BatchNorm's statistics included.
        data: what it was trained on.
        accuracy: on images that it was not trained on, in 0..1.
        interval: the 95 % Wilson score interval of the accuracy.
        examples: the number of these images.
        tested_on: "test" or "validation": what set they are.
    """

    network: str
    parameters: int
    data: str
    accuracy: float
    interval: tuple[float, float]
    examples: int
    tested_on: str


def facts(run: Run) -> Facts:
    """Collect what is known about a trained network."""
    data, examples = _DATA[run.config.data.source]
    if run.results:
        examples = run.results[run.tested_on][run.results["test_weights"]]["examples"]
    elif run.tested_on == "val":
        examples = run.config.data.val_size
    return Facts(
        network=type(run.model.module).__name__,
        parameters=tree.count_parameters(run.params, run.batch_stats),
        data=data,
        accuracy=run.accuracy,
        interval=wilson_interval(round(run.accuracy * examples), examples),
        examples=examples,
        tested_on=_SETS[run.tested_on],
    )


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
    low, high = known.interval
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
| Accuracy | {known.accuracy:.4f} on {known.examples:,} {known.tested_on} images \
(95 % interval {low:.4f} to {high:.4f}) |
| SHA-256 of the parameters | `{tree.digest((run.params, run.batch_stats))}` |
{rounding}
## Use

{usage}

## Limits

The network knows digits of MNIST's kind: one digit in each image, 0 to 9, bright on a
black background, scaled to fit 20x20 pixels and placed by its centre of mass in 28x28.
Photographs and scans must be brought into this form first. Anything else, a letter, two
digits or noise, is called a digit all the same, often with a high probability. The
accuracy is that on {known.data}; other writers, pens and scanners give another one.

## Licence

mnist_jax, the program that trained this network, is under the Apache License 2.0, and
so is the network, unless whoever trained it says otherwise.

## Config

```json
{json.dumps(stored_config(run), indent=2)}
```
"""
