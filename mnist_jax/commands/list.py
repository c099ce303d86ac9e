"""List the networks, the configs and the data sets.

mnist-jax list
"""

from pathlib import Path

from mnist_jax import commands, console, data, models
from mnist_jax.commands import config_flag
from mnist_jax.data import own


def main() -> None:
    """Print the lists."""
    networks = [(k, f"{v.__doc__}".splitlines()[0]) for k, v in models.MODELS.items()]
    data_sets = []
    for name, task in data.SOURCES.items():
        module = Path(data.__file__).with_name(f"{name}.py")
        about = f"{commands.first_line(module)} " if module.exists() else ""
        first, last = ", ".join(task.classes[:3]), task.classes[-1]
        about += f"{len(task.classes)} classes: {first}, ..., {last}."
        data_sets.append((name, about))
    files = "Your own files in --config.data.dir; see docs/data.md."
    data_sets += [(name, files) for name in own.READERS]
    output = console.output()
    for title, entries in (
        ("Configs: --config=NAME, NAME:VARIANT,VARIANT", config_flag.described()),
        ("Networks: --config.model.name=NAME", networks),
        ("Data sets: --config.data.source=NAME", data_sets),
    ):
        print(f"\n{title}\n")
        for name, text in entries:
            print(console.fit(f"  {name:17} {text}", output, indent=20))
