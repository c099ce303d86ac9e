"""Headless Chromium, and digits to draw in it."""

import contextlib
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

Stroke = Sequence[Sequence[float]]


def _arc(x: float, y: float, width: float, height: float, start: int, end: int):
    """Part of an ellipse, from one angle to another, clockwise from three o'clock."""
    angles = [math.radians(start + (end - start) * i / 11) for i in range(12)]
    return [[x + width * math.cos(a), y + height * math.sin(a)] for a in angles]


# One way to write each digit, in parts of the sheet.
DIGITS: dict[str, list[Stroke]] = {
    "0": [_arc(0.5, 0.5, 0.2, 0.33, -90, 270)],
    "1": [[[0.52, 0.15], [0.48, 0.85]]],
    "2": [_arc(0.5, 0.32, 0.2, 0.17, -170, 40) + [[0.3, 0.83], [0.74, 0.8]]],
    "3": [
        _arc(0.48, 0.3, 0.18, 0.16, -160, 90) + _arc(0.48, 0.64, 0.21, 0.18, -90, 150)
    ],
    "4": [[[0.38, 0.15], [0.3, 0.53], [0.7, 0.5]], [[0.63, 0.2], [0.6, 0.88]]],
    "5": [
        [[0.68, 0.17], [0.38, 0.18], [0.36, 0.46]]
        + _arc(0.48, 0.63, 0.2, 0.2, -100, 150)
    ],
    "6": [
        [[0.6, 0.13], [0.42, 0.35], [0.34, 0.6]]
        + _arc(0.5, 0.67, 0.16, 0.17, 180, -180)
    ],
    "7": [[[0.28, 0.2], [0.7, 0.19], [0.47, 0.86]]],
    "8": [
        _arc(0.5, 0.31, 0.15, 0.16, 90, -270) + _arc(0.5, 0.66, 0.18, 0.19, -90, 270)
    ],
    "9": [_arc(0.5, 0.34, 0.17, 0.18, 0, -360) + [[0.66, 0.45], [0.58, 0.87]]],
}


@contextlib.contextmanager
def chromium(profile: Path, *, size: tuple[int, int]) -> Iterator[Any]:
    """Start Chromium, with its own profile; skip the test where it is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium")
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in paths.items():
        if path is None:
            pytest.skip(f"{name} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"]
    width, height = size
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic",
                 "no-first-run", "disable-background-networking", "disable-sync",
                 "disable-component-update", f"user-data-dir={profile}",
                 f"window-size={width},{height}"):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(paths["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


def draw(driver: Any, strokes: Sequence[Stroke]) -> None:
    """Draw with the mouse on the page's sheet."""
    from selenium.webdriver import ActionChains

    sheet = driver.find_element("id", "sheet")
    side = sheet.size["width"]
    action = ActionChains(driver, duration=10)
    for stroke in strokes:
        places = [(int((x - 0.5) * side), int((y - 0.5) * side)) for x, y in stroke]
        action.move_to_element_with_offset(sheet, *places[0]).click_and_hold()
        for place in places[1:]:
            action.move_to_element_with_offset(sheet, *place)
        action.release()
    action.perform()
