"""Train, compare and use networks that read handwritten digits.

  mnist-jax VERB [ARGUMENT ...]     (or: python -m mnist_jax VERB [ARGUMENT ...])

The verbs:

"""

import importlib
import sys
from typing import NoReturn

import mnist_jax
from mnist_jax import commands
from mnist_jax.devices import memory

VERBS = {
    "compare": "a table of finished runs, over their seeds",
    "convert": "weights from elsewhere in this project's own format",
    "demo": "a page in the browser to draw digits in, read as you draw",
    "evaluate": "how far networks can be trusted: calibration, damaged images",
    "export": "a trained network as ONNX, StableHLO, safetensors or a page",
    "fields": "every field of an experiment, with its default and meaning",
    "predict": "the digits in photographs and other pictures",
    "sweep": "one experiment with several seeds",
}


def main() -> NoReturn:
    """Run the verb that the first argument names."""
    commands.exit_on_interrupt()
    verb = sys.argv[1] if sys.argv[1:] else ""
    if verb == "--version":
        print(f"mnist_jax {mnist_jax.__version__}")
        sys.exit()
    if verb not in VERBS:
        verbs = "\n".join(f"  {name:10} {what}" for name, what in VERBS.items())
        usage = f"{(__doc__ or '').rstrip()}\n\n{verbs}\n\n"
        usage += "mnist-jax VERB --helpshort describes a verb and its flags.\n"
        usage += "mnist-jax --version prints the version."
        if verb in ("", "help", "-h", "--help", "--helpshort"):
            print(usage)
            sys.exit()
        print(f"Error: there is no verb {verb!r}.\n{usage}", file=sys.stderr)
        sys.exit(2)
    if verb == "sweep":
        memory.keep()
    from absl import flags

    module = importlib.import_module(f"mnist_jax.commands.{verb}")
    for flag in flags.FLAGS.get_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # for --helpshort
    module.start()
    raise AssertionError("a verb ends the process")


if __name__ == "__main__":
    main()
