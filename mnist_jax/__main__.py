"""Train, compare and use networks that classify small images.

  mnist-jax VERB [ARGUMENT ...]     (or: python -m mnist_jax VERB [ARGUMENT ...])

The verbs:

"""

import importlib
import sys
from typing import NoReturn

import mnist_jax
from mnist_jax import commands

VERBS = {
    "train": "train and test one experiment",
    "sweep": "one experiment with several seeds",
    "ensemble": "several finished runs that answer together",
    "compare": "a table of finished runs, over their seeds",
    "evaluate": "how far networks can be trusted: calibration, damaged images",
    "classify": "random forests, SVMs and others on the features of a network",
    "predict": "the digits in photographs and other pictures",
    "demo": "a page in the browser to draw in, read as you draw",
    "export": "a trained network as ONNX, StableHLO, safetensors or a page",
    "list": "the networks, the configs with their variants, the data sets",
    "fields": "every field of an experiment, with its default and meaning",
}


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
        verbs = "\n".join(f"  {name:10} {what}" for name, what in VERBS.items())
        usage = f"{(__doc__ or '').rstrip()}\n\n{verbs}\n\n"
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
