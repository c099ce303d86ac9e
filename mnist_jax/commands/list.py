"""List the networks, the configs with their variants, and the data sets.

mnist-jax list
"""

from collections.abc import Iterator
from pathlib import Path

from mnist_jax import console, data, models
from mnist_jax.commands import config_flag
from mnist_jax.data import own


def main() -> None:
    """Print the lists."""
    output = console.output()
    for title, entries in {
        "Configs: --config=NAME or --config=NAME:VARIANT,VARIANT": _configs(),
        "Networks: --config.model.name=NAME": _networks(),
        "Data sets: --config.data.source=NAME": _data_sets(),
    }.items():
        print(f"\n{title}\n")
        for name, text in entries:
            print(console.fit(f"  {name:17} {text}", output, indent=20))


def _configs() -> Iterator[tuple[str, str]]:
    for name in config_flag.names():
        variants = ", ".join(config_flag.variants(name))
        about = config_flag.describe(name)
        yield name, f"{about} Variants: {variants}." if variants else about


def _networks() -> Iterator[tuple[str, str]]:
    for name, network in models.MODELS.items():
        yield name, (network.__doc__ or "").splitlines()[0]


def _data_sets() -> Iterator[tuple[str, str]]:
    for name, task in data.SOURCES.items():
        module = Path(data.__file__).with_name(f"{name}.py")
        about = f"{config_flag.first_line(module)} " if module.exists() else ""
        first, last = ", ".join(task.classes[:3]), task.classes[-1]
        yield name, f"{about}{len(task.classes)} classes: {first}, ..., {last}."
    yield ", ".join(own.READERS), "Your own files in --config.data.dir; docs/data.md."
