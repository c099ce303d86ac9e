"""Ensembles and classifiers, and the one function that loads any finished run.

Each kind of run has a module with a function `load(path) -> Trained`.
"""

import importlib
from pathlib import Path

from mnist_jax.devices import parallel, settings
from mnist_jax.errors import UserError
from mnist_jax.runs.folder import RunFolder
from mnist_jax.runs.trained import Trained

__all__ = ["KINDS", "load"]

KINDS = {
    "network": "mnist_jax.runs.load",
    "ensemble": "mnist_jax.combine.ensemble",
    "classifier": "mnist_jax.combine.classifier",
}
"""The modules by the `kind` in results.json."""


@settings.defaults()
def load(path: Path | str | None = None) -> Trained:
    """Load a finished run, whatever its kind.

    On the machine of the run, its logits equal those in predictions.npz bit for bit.

    Args:
        path: a run folder, published or not, or the weights.safetensors of a network.
            Default: the one that comes with this package.

    Raises:
        UserError: the run is not finished, or a file of it is missing, damaged or that
            of another run.
    """
    parallel.check_available()
    results = RunFolder(path).read_results() if path else None
    kind = results["kind"] if results else "network"
    if kind not in KINDS:
        raise UserError(
            f"{path} is a run of the kind {kind!r}, which this version cannot load "
            f"(known: {', '.join(KINDS)})."
        )
    try:
        module = importlib.import_module(KINDS[kind])
    except ImportError as error:
        raise UserError(
            f"{path} is a {kind}: {error}. Install that package."
        ) from error
    return module.load(path)
