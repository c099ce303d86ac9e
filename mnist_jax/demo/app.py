"""Answers to the demo's page: readings of drawings and photographs, corrections."""

import base64
import io
import json
import threading
import time
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from mnist_jax import photos
from mnist_jax.demo.corrections import Corrections
from mnist_jax.errors import UserError
from mnist_jax.export import web_page
from mnist_jax.runs.load import Run, name_of

SIDE = 28
_PAGE = resources.files("mnist_jax.demo") / "page"
_SHARED = ("drawing.js", "sheet.js", "answer.js")


class RequestError(Exception):
    """A malformed request, which the demo's page does not send."""


class App:
    """Several networks that read the same images.

    Args:
        runs: the networks, in the order of the page.
        corrections: where misread images are saved.
    """

    def __init__(self, runs: Sequence[Run], corrections: Corrections):
        self._runs = runs
        self._corrections = corrections
        # Requests come from several threads.
        self._lock = threading.Lock()
        self.predict(bytes(SIDE * SIDE), range(len(runs)))  # compiles

    @property
    def names(self) -> list[str]:
        """A short name of each network."""
        names = [run.config.name for run in self._runs]
        return [
            f"{name}, seed {run.config.seed}" if names.count(name) > 1 else name
            for name, run in zip(names, self._runs, strict=True)
        ]

    def page(self) -> bytes:
        """Return the page."""
        described = [
            {
                "name": name,
                "about": f"{name_of(run)}: right on "
                f"{100 * run.accuracy:.2f}\N{NO-BREAK SPACE}% of its {run.tested_on} "
                "images",
                "classes": run.classes,
            }
            for name, run in zip(self.names, self._runs, strict=True)
        ]
        return web_page.assemble(
            _PAGE / "demo.html",
            styles=[web_page.PARTS / "page.css", _PAGE / "demo.css"],
            scripts=[*(web_page.PARTS / name for name in _SHARED), _PAGE / "demo.js"],
            facts={},
            data={"runs": json.dumps(described)},
        )

    def predict(self, body: bytes, chosen: Sequence[int]) -> dict[str, Any]:
        """Read an image of one digit, given by its 784 grey values, bright on dark."""
        if len(body) != SIDE * SIDE:
            raise RequestError(f"an image has {SIDE * SIDE} bytes, got {len(body)}")
        image = np.frombuffer(body, np.uint8).reshape(SIDE, SIDE)
        return self._answer(
            [photos.Digit(photos.Box(0, 0, SIDE, SIDE), image, 0)], chosen
        )

    def read(self, body: bytes, chosen: Sequence[int]) -> dict[str, Any]:
        """Read a picture, given by the content of its file.

        Raises:
            UserError: it is no image, or has no digit in it.
        """
        try:
            found = photos.find_digits(io.BytesIO(body))
        except photos.PhotoError as error:
            raise UserError(f"The picture {error}.") from error
        # All networks read the same digits: as the first one divides them.
        with self._lock:
            first = self._runs[next(iter(chosen), 0)]
            found = photos.divide(first, first.threshold[0], found)
        digits = [
            {
                "box": digit.box,
                "line": digit.line,
                "image": base64.b64encode(digit.image.tobytes()).decode(),
            }
            for digit in found
        ]
        return {"found": digits} | self._answer(found, chosen)

    def correct(self, body: bytes) -> dict[str, Any]:
        """Save an image with its label.

        Args:
            body: JSON with the image in base64, its label, and what it was read as.

        Raises:
            OSError: it cannot be written.
        """
        try:
            request = json.loads(body)
            grey = base64.b64decode(request["image"], validate=True)
            image = np.frombuffer(grey, np.uint8).reshape(SIDE, SIDE)
            label, read_as = request["label"], str(request["read_as"])
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"not a correction: {error!r}") from error
        if label not in [str(digit) for digit in range(10)]:
            raise RequestError(f"the label is {label!r}, not one of 0 to 9")
        with self._lock:
            count = self._corrections.add(image, label=label, read_as=read_as)
        return {"count": count, "folder": str(self._corrections.folder)}

    def _answer(
        self, found: Sequence[photos.Digit], chosen: Sequence[int]
    ) -> dict[str, Any]:
        """Return what each chosen network says."""
        answers = []
        for number in chosen:
            with self._lock:
                start = time.perf_counter()
                run = self._runs[number]
                said = photos.classify(run, run.threshold[0], found)
                seconds = time.perf_counter() - start
            answers.append(
                {
                    "run": number,
                    "text": str(said),
                    "milliseconds": 1000 * seconds,
                    "digits": [
                        {
                            "label": digit.label,
                            "probabilities": digit.probabilities.tolist(),
                            "unsure": digit.unsure,
                        }
                        for digit in said.digits
                    ],
                }
            )
        return {"answers": answers}
