"""Image files are opened in one place: pixels only, and one clear error otherwise."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import mnist_jax
from mnist_jax import photos
from mnist_jax.data import DataError, digits, labelled, raster
from mnist_jax.data.dataset import DIGITS
from mnist_jax.errors import UserError


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8))


def encoded(picture, kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def as_labelled(path):
    folder = path.parent / "labelled" / "7"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(path.read_bytes())
    labelled.read_folder(folder.parent)


READERS = {
    "a path": photos.find_digits,
    "an upload": lambda path: photos.find_digits(io.BytesIO(path.read_bytes())),
    "a prepared image": photos.read_prepared,
    "a labelled image": as_labelled,
}


@pytest.mark.parametrize("reader", READERS)
def test_ghostscript_is_never_run(picture, tmp_path, monkeypatch, reader):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # look again
    (tmp_path / "a.png").write_bytes(encoded(picture, "EPS"))
    with pytest.raises(UserError, match="is not an image of a known format"):
        READERS[reader](tmp_path / "a.png")
    assert not (tmp_path / "ran").exists()


def test_pillow_opens_files_nowhere_else():
    package = Path(mnist_jax.__file__).parent
    opening = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\bImage\.open\(", path.read_text())
    ]
    assert opening == ["data/raster.py"]


@pytest.mark.parametrize("kind", raster.FORMATS)
def test_every_format_is_read_and_a_damaged_file_is_one_error(picture, kind):
    whole = encoded(picture, kind)
    with raster.open_image(io.BytesIO(whole)) as image:
        assert image.convert("L").size == (28, 28)
    rng = np.random.default_rng(1)
    for length in [0, *rng.integers(1, len(whole), 20)]:
        flipped = bytearray(whole)
        flipped[length] ^= 0x55
        for content in (whole[:length], bytes(flipped)):
            try:
                with raster.open_image(io.BytesIO(content)) as image:
                    image.load()
            except raster.PhotoError as error:
                assert "\n" not in str(error)


def test_an_array_in_a_damaged_file_is_one_error(tmp_path):
    header = b"\x93NUMPY\x01\x00v\x00{(".ljust(128)  # NumPy's parser: TokenError
    for content in (b"", b"PK\3\4", b"x" * 200, header):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(raster.PhotoError, match="is not an array of numbers"):
            photos.read_prepared(tmp_path / "a.npy")


def test_a_decompression_bomb_is_refused(tmp_path):
    header = io.BytesIO()
    size = (30_000).to_bytes(4, "big")
    header.write(PngImagePlugin._MAGIC)
    PngImagePlugin.putchunk(header, b"IHDR", size, size, b"\x08\0\0\0\0")
    PngImagePlugin.putchunk(header, b"IDAT", b"")
    for reader in (photos.find_digits, photos.read_prepared):
        with pytest.raises(raster.PhotoError, match="too many pixels"):
            reader(io.BytesIO(header.getvalue()))
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "a.png").write_bytes(header.getvalue())
    with pytest.raises(DataError, match="a.png has too many pixels"):
        labelled.read_folder(tmp_path)


def test_a_part_that_claims_gigabytes_is_refused(picture):
    class Memory(io.BytesIO):
        """Of less than a gigabyte."""

        def read(self, size: int | None = -1):
            if size and size >= 1_000_000_000:
                raise MemoryError
            return super().read(size)

    file = io.BytesIO()
    picture.save(file, "PNG")
    before, _, data = file.getvalue().partition(b"IDAT")
    claiming = Memory(before[:-4] + b"\xf0\xff\xff\xff" + b"IDAT" + data)
    with pytest.raises(raster.PhotoError, match="needs more memory"):
        photos.find_digits(claiming)


def test_an_animation_is_refused(picture):
    file = io.BytesIO()
    picture.save(file, "GIF", save_all=True, append_images=[picture.rotate(90)])
    with pytest.raises(raster.PhotoError, match="has 2 frames"):
        photos.find_digits(file)


def test_prepared_and_labelled_images_are_the_same_however_they_are_stored(tmp_path):
    """16 bits, fewer of them, transparent ground, bits; dark digits are refused."""
    ink = digits.load()[1].images[0, ..., 0]
    bright, dark = (Image.new("RGB", (28, 28), name) for name in ("white", "black"))
    for layer in (bright, dark):
        layer.putalpha(Image.fromarray(ink))
    bits = (ink > 127).astype(np.uint8)
    ink = ink.copy()
    ink[14, 14] = 255
    stored = {
        "8": (Image.fromarray(ink), ink),
        "16": (Image.fromarray(ink.astype(np.uint16) * 257), ink),
        "10": (Image.fromarray(ink.astype(np.uint16) * 4), ink),
        "transparent": (bright, np.asarray(bright)[..., 3]),
        "bits": (Image.fromarray(bits), 255 * bits),
    }
    folder = tmp_path / "labelled" / "7"
    folder.mkdir(parents=True)
    for name, (image, expected) in stored.items():
        image.save(folder / f"{name}.png")
        (found,) = photos.read_prepared(folder / f"{name}.png")
        np.testing.assert_array_equal(found.image, expected, name)
    found = labelled.read_folder(tmp_path / "labelled").images[..., 0]
    in_order = [stored[name][1] for name in sorted(stored, key=lambda n: f"{n}.png")]
    np.testing.assert_array_equal(found, in_order)
    dark.save(tmp_path / "dark.png")
    as_dark = photos.read_prepared(tmp_path / "dark.png")[0].image[None, ..., None]
    with pytest.raises(DataError, match="1 of 1 images have a bright edge"):
        labelled.check_dark(as_dark, DIGITS, tmp_path)
