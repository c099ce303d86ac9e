"""Answers to the demo's page: readings of drawings and photographs, corrections."""

import base64
import io
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_jax import photos
from mnist_jax.demo.corrections import Corrections
from mnist_jax.errors import UserError
from mnist_jax.export import web_page
from mnist_jax.runs import trained
from mnist_jax.runs.trained import Trained

SIDE = 28
_PAGE = Path(__file__).with_name("page")
_SCRIPTS = ("drawing.js", "sheet.js", "answer.js", "demo.js")


class RequestError(Exception):
    """A request that the demo's page does not send: its HTTP status, and the reason."""


class App:
    """Several networks that read the same images, and a folder of corrections.

    Raises:
        UserError: a network takes other images than those that can be drawn.
    """

    def __init__(self, networks: Sequence[Trained], corrections: Corrections):
        for each in networks:
            if (shape := each.task.image_shape) != (SIDE, SIDE, 1):
                raise UserError(
                    f"{each.path} takes images of {shape}, not {SIDE}x{SIDE}x1."
                )
        self.networks = networks
        self.classes = list(
            dict.fromkeys(name for each in networks for name in each.classes)
        )
        self._corrections = corrections
        # Requests come from several threads.
        self._lock = threading.Lock()
        self.predict(bytes(SIDE * SIDE), range(len(networks)))  # compiles

    def page(self) -> bytes:
        """Return the page."""
        described = [
            {"name": name, "about": trained.describe(each), "classes": each.classes}
            for name, each in zip(
                trained.names(self.networks), self.networks, strict=True
            )
        ]
        return web_page.assemble(
            _PAGE / "demo.html",
            styles=["page.css", "demo.css"],
            scripts=_SCRIPTS,
            classes=self.classes,
            networks=described,
        )

    def predict(self, body: bytes, chosen: Sequence[int]) -> dict[str, Any]:
        """Classify an image, given by its 784 grey values, bright on dark."""
        if len(body) != SIDE * SIDE:
            raise RequestError(
                400, f"an image has {SIDE * SIDE} bytes, got {len(body)}"
            )
        image = np.frombuffer(body, np.uint8).reshape(SIDE, SIDE)
        return self._answer(
            [photos.Digit(photos.Box(0, 0, SIDE, SIDE), image, 0)], chosen
        )

    def read(self, body: bytes, chosen: Sequence[int]) -> dict[str, Any]:
        """Read a picture, given by the content of its file.

        It is turned as `mnist-jax predict` would, for the first of the networks.

        Raises:
            UserError: it is not an image, or has no digit in it.
        """
        reader = self.networks[chosen[0] if chosen else 0]
        try:
            with self._lock:
                reading = reader.read(io.BytesIO(body))
        except photos.PhotoError as error:
            raise UserError(f"The picture {error}.") from error
        digits = [
            {
                "box": digit.box,
                "line": digit.line,
                "image": base64.b64encode(digit.image.tobytes()).decode(),
            }
            for digit in reading.digits
        ]
        about = {"found": digits, "turned": reading.turned}
        return about | self._answer(reading.digits, chosen)

    def correct(self, body: bytes, chosen: Sequence[int]) -> dict[str, Any]:
        """Save an image with its label and the networks' answers, given as JSON."""
        try:
            request = json.loads(body)
            grey = base64.b64decode(request["image"], validate=True)
            image = np.frombuffer(grey, np.uint8).reshape(SIDE, SIDE)
            label, read_as = request["label"], str(request["read_as"])
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise RequestError(400, f"not a correction: {error!r}") from error
        if label not in self.classes:
            known = ", ".join(self.classes)
            raise RequestError(400, f"the label is {label!r}, not one of {known}")
        with self._lock:
            count = self._corrections.add(image, label=label, read_as=read_as)
        return {"count": count, "folder": str(self._corrections.folder)}

    def _answer(
        self, found: Sequence[photos.Digit], chosen: Sequence[int]
    ) -> dict[str, Any]:
        """Return the answers of the chosen networks."""
        answers = []
        for number in chosen:
            network = self.networks[number]
            with self._lock:
                start = time.perf_counter()
                said = photos.classify(network, network.threshold[0], found)
                seconds = time.perf_counter() - start
            digits = [
                {
                    "label": digit.label,
                    "probabilities": digit.probabilities.tolist(),
                    "unsure": digit.unsure,
                }
                for digit in said.digits
            ]
            about = {"run": number, "text": str(said), "milliseconds": 1000 * seconds}
            answers.append(about | {"digits": digits})
        return {"answers": answers}
