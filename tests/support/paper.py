"""Pictures like photographs of handwriting, drawn from images of MNIST, by a seed.

Those in docs/predict.md are made by

  python -m tests.support.paper scenes
  mnist-jax predict scenes --save=docs/predict
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

ORIENTATION = 0x0112
# How a camera turns the pixels that a viewer turns back, by the EXIF orientation.
TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def enlarge(image, factor):
    """A digit [28, 28] as smooth ink in 0..1, so many times as large."""
    size = round(28 * factor)
    ink = Image.fromarray(image.astype(np.float32) / 255)
    return np.asarray(ink.resize((size, size), Image.Resampling.BICUBIC)).clip(0, 1)


def crop(ink):
    """Ink without the empty border around it."""
    rows, columns = (np.flatnonzero((ink > 0.1).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def light(shape, rng):
    """Light from one side, and the soft shadow of a hand: 0.4 to 1."""
    rows, columns = (np.linspace(-1, 1, side) for side in shape)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.25)
    slope = np.cos(angle) * rows[:, None] + np.sin(angle) * columns
    shadow_at = rng.uniform(-0.5, 0.5)
    turn = rng.uniform(0, 2 * np.pi)
    edge = np.cos(turn) * rows[:, None] + np.sin(turn) * columns - shadow_at
    shadow = 1 / (1 + np.exp(-edge / rng.uniform(0.05, 0.3)))
    return (1 - strength * (1 + slope) / 1.4) * (1 - rng.uniform(0, 0.35) * shadow)


def ruled(shape, rng, *, spacing, squared, degrees=2):
    """The lines of paper, 0 (none) to 1: turned a little, a pixel or more wide."""
    rows, columns = np.indices(shape).astype(np.float32)
    tilt = np.radians(rng.uniform(-degrees, degrees))
    down = rows * np.cos(tilt) + columns * np.sin(tilt) + rng.uniform(0, spacing)
    across = columns * np.cos(tilt) - rows * np.sin(tilt) + rng.uniform(0, spacing)
    width = rng.uniform(1, 2.5)

    def lines(along):
        away = np.abs((along + spacing / 2) % spacing - spacing / 2)
        return (width / 2 + 0.5 - away).clip(0, 1)

    return np.maximum(lines(down), lines(across)) if squared else lines(down)


def photograph(ink, rng, *, lines=None):
    """Ink [H, W] in 0..1 as a grainy colour photograph in uneven light."""
    paper = rng.uniform(0.8, 0.97) * np.array([1, 0.98, rng.uniform(0.9, 1)])
    pen = rng.uniform(0.05, 0.3) * np.array([1, 1, rng.uniform(1, 1.6)])
    picture = np.broadcast_to(paper, (*ink.shape, 3)).copy()
    if lines is not None:
        print_ = paper * (1 - rng.uniform(0.2, 0.45))
        picture += lines[..., None] * (print_ - picture)
    picture += ink[..., None] * (np.minimum(picture, pen) - picture)
    picture *= light(ink.shape, rng)[..., None]
    picture = ndimage.gaussian_filter(picture, (0.6, 0.6, 0))
    picture += rng.normal(0, 0.012, picture.shape)
    return Image.fromarray(np.rint(255 * picture.clip(0, 1)).astype(np.uint8))


def photograph_digit(image, rng):
    """One digit, enlarged and shifted, on plain paper."""
    ink = crop(enlarge(image, rng.uniform(5, 12)))
    height, width = ink.shape
    side = max(ink.shape)
    margins = rng.uniform(0.1, 0.8, 4) * side
    top, bottom, left, right = margins.astype(int)
    page = np.zeros((top + height + bottom, left + width + right), np.float32)
    page[top : top + height, left : left + width] = ink
    return photograph(page, rng)


def photograph_touching(images, rng):
    """A number whose digits touch, on plain paper."""
    factor = rng.uniform(2.5, 5)
    digits = [crop(enlarge(image, factor * rng.uniform(0.9, 1.1))) for image in images]
    height, margin = round(30 * factor), round(10 * factor)
    width = sum(digit.shape[1] for digit in digits)
    page = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    left = margin
    for place, digit in enumerate(digits):
        rows = (
            page.shape[0] // 2 - digit.shape[0] // 2 + round(rng.normal(0, factor / 2))
        )
        part = page[rows : rows + digit.shape[0]]
        # Moved to the left until its ink meets what is there.
        while place and left > margin:
            under = part[:, left : left + digit.shape[1]]
            if np.count_nonzero((under > 0.3) & (digit > 0.3)) > factor:
                break
            left -= 1
        under = part[:, left : left + digit.shape[1]]
        np.maximum(under, digit, out=under)
        left += digit.shape[1]
    return photograph(page, rng)


def photograph_number(images, rng, *, squared, degrees=2):
    """A number of several digits on lined or squared paper, turned at most so far."""
    factor = rng.uniform(2.5, 5)
    digits = [crop(enlarge(image, factor * rng.uniform(0.9, 1.1))) for image in images]
    height = round(26 * factor)
    gaps = rng.uniform(3, 9, len(digits) + 1) * factor
    widths = [digit.shape[1] for digit in digits]
    margin = round(rng.uniform(8, 30) * factor)
    page = np.zeros(
        (2 * margin + height, round(2 * margin + sum(widths) + sum(gaps))), np.float32
    )
    left = margin
    for digit, gap in zip(digits, gaps, strict=False):
        top = margin + height // 2 - digit.shape[0] // 2 + round(rng.normal(0, factor))
        part = page[top : top + digit.shape[0], left : left + digit.shape[1]]
        np.maximum(part, digit, out=part)
        left += round(digit.shape[1] + gap)
    spacing = (rng.uniform(9, 13) if squared else rng.uniform(22, 34)) * factor
    lines = ruled(page.shape, rng, spacing=spacing, squared=squared, degrees=degrees)
    return photograph(page, rng, lines=lines)


def jpeg(picture, *, quality=85, orientation=1):
    """The bytes of a JPEG file whose pixels lie as a turned camera stores them."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if (turn := TURNED[orientation]) is not None:
        picture = picture.transpose(turn)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, exif=exif)
    return file.getvalue()


def photograph_table(images, rng):
    """Two lines of digits on a sheet that lies askew on a dark table."""
    digits = [crop(enlarge(image, 2)) for image in images]
    page = np.zeros((260, 420), np.float32)
    for place, digit in enumerate(digits):
        row, column = divmod(place, len(digits) // 2)
        top, left = 60 + 90 * row, 50 + 350 * column // (len(digits) // 2)
        page[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    flat = photograph(page, rng).convert("RGBA")
    sheet = flat.rotate(4, Image.Resampling.BICUBIC, expand=True)
    grain = rng.normal(0, 6, (sheet.height + 60, sheet.width + 60, 1))
    table = Image.fromarray((np.array([70, 55, 45]) + grain).astype(np.uint8))
    table.paste(sheet, (30, 30), sheet)
    return table


def main(folder):
    """Write the pictures in docs/predict.md."""
    from mnist_jax import config, data

    test = data.load(config.Data(test_on="test")).test
    images = [test.images[test.labels == k][0, ..., 0] for k in range(10)]
    rng = np.random.default_rng(3)
    folder.mkdir(exist_ok=True)
    for name, picture in {
        "lines": photograph_number(
            [images[k] for k in (3, 5, 2, 8)], rng, squared=False, degrees=10
        ),
        "sheet": photograph_table(images, rng),
        "touching": photograph_touching([images[k] for k in (2, 7, 3, 5)], rng),
    }.items():
        picture.save(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
