"""The experiments: the files of the top-level folder configs/, which wheels have here.

from mnist_jax.configs import base, lenet5
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


__path__ = [str(Path(__file__).resolve().parents[2] / "configs")]
