"""Draw in a browser and watch networks classify it.

  mnist-jax demo [RUN ...] [--port=8000] [--host=127.0.0.1]
      [--corrections=FOLDER]

RUN is a run folder or its weights.safetensors; several answer side by side.
Default: the network that comes with the package. The page also reads
photographs, and saves misread images, with the right label, for `mnist-jax
evaluate --data=FOLDER`.
"""

from absl import flags

from mnist_jax import console, files
from mnist_jax.commands import outputs

_PORT = flags.DEFINE_integer(
    "port", 8000, "The port. 0: any that is free.", lower_bound=0, upper_bound=65535
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "The address to listen on. With 0.0.0.0 others on the network can use the demo.",
)
_CORRECTIONS = flags.DEFINE_string(
    "corrections", "corrections", "A folder for misread images."
)


def main(arguments: list[str]) -> None:
    """Serve the page until interrupted."""
    # Imported late: they import JAX, and bad flags need not wait for that.
    from mnist_jax import combine, demo
    from mnist_jax.devices import compiler

    compiler.keep_compiled()
    folder = files.expand(_CORRECTIONS.value)
    outputs.check_folder(folder, flag="--corrections", sign="labels.csv")
    runs = [combine.load(argument) for argument in arguments] or [combine.load()]
    app = demo.App(runs, demo.Corrections(folder))
    with demo.Server(app, host=_HOST.value, port=_PORT.value) as server:
        console.LOGGER.info(
            f"Open {server.address} in a browser (ctrl-C ends the demo)."
        )
        server.serve_forever()
