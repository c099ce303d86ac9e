"""Handwritten digit recognition in JAX and Flax: a small baseline that can be trusted.

run = mnist_jax.load_run("runs/lenet5/2026-01-31_12-00-00")
probabilities = run.predict(images)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_jax.combine import load as load_run

__version__ = "0.1.0"

__all__ = ["load_run"]


def __getattr__(name: str) -> Any:
    """Import lazily, since importing JAX takes a second."""
    if name == "load_run":
        from mnist_jax.combine import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what `__getattr__` imports too."""
    return sorted({*globals(), *__all__})
