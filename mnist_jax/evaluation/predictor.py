"""The interface of trained classifiers, whether networks or not."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32


class Predictor(Protocol):
    """A trained classifier of images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class, in the order of the logits."""
        ...

    def logits(self, images: Any) -> Float32[np.ndarray, "n classes"]:
        """Return unnormalised log-probabilities.

        Args:
            images: [n, height, width] or [n, height, width, channels], uint8 in 0..255
                or floating-point in 0..1.

        Raises:
            ValueError: the images have another shape, type or range, or NaNs.
        """
        ...
