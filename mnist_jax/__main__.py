"""Train, compare and use networks that classify small images.

  mnist-jax VERB [ARGUMENT ...]     (or: python -m mnist_jax VERB [ARGUMENT ...])

The verbs:

"""

import importlib
import sys
from pathlib import Path
from typing import NoReturn

import mnist_jax
from mnist_jax import commands

VERBS = ("train", "sweep", "compare", "evaluate", "predict", "demo", "ensemble")
VERBS += ("classify", "export", "list", "fields")


def main() -> NoReturn:
    """Run the verb that the first argument names."""
    commands.exit_on_interrupt()
    if sys.argv[1:2] == ["help"] and sys.argv[2:]:
        sys.argv[1:] = [sys.argv[2], "--help"]
    verb = sys.argv[1] if sys.argv[1:] else ""
    if verb in ("-V", "--version"):
        print(f"mnist_jax {mnist_jax.__version__}")
        sys.exit()
    if verb not in VERBS:
        folder = Path(commands.__file__).parent
        lines = [f"  {v:9} {commands.first_line(folder / f'{v}.py')}" for v in VERBS]
        usage = "\n".join([f"{__doc__}".rstrip(), "", *lines, "", ""])
        usage += "mnist-jax VERB --help describes a verb and its flags.\n"
        usage += "mnist-jax --version prints the version."
        if verb in ("", "help", "-h", "-help", "--help", "--helpshort"):
            print(usage)
            sys.exit()
        print(f"Error: there is no verb {verb!r}.\n{usage}", file=sys.stderr)
        sys.exit(2)
    command = importlib.import_module(f"mnist_jax.commands.{verb}")
    from mnist_jax.commands import cli

    cli.run(command, verb=verb)


if __name__ == "__main__":
    main()
