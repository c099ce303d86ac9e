"""The one place where image files are opened: only formats of pixels are."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_jax.data import idx
from mnist_jax.errors import UserError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""The known formats. Pillow has others: for EPS, it runs Ghostscript on the file, and
for JPEG 2000, it allocates as much memory as a header claims."""


def endings() -> set[str]:
    """Return the endings of the names of such files, such as ".png"."""
    known = Image.registered_extensions().items()
    return {ending for ending, kind in known if kind in FORMATS}


class PhotoError(UserError):
    """A picture that cannot be read; the message says why, after the picture's name."""


@contextlib.contextmanager
def open_image(
    source: str | os.PathLike[str] | IO[bytes] | Image.Image,
) -> Iterator[Image.Image]:
    """Open a picture, whose pixels are to be decoded within the block.

    Args:
        source: a path, a file opened to read bytes, or a Pillow image, which is
            returned as it is.

    Raises:
        PhotoError: it is not an image, too large, animated, damaged or cut off.
        OSError: the file cannot be read.
    """
    try:
        with contextlib.ExitStack() as stack:
            # Pillow warns of large images and of harmless faults in metadata.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            if not isinstance(source, Image.Image):
                source = stack.enter_context(Image.open(source, formats=FORMATS))
            frames = getattr(source, "n_frames", 1)
            # An MPO is a photograph with a preview or a second view behind it.
            if frames > 1 and source.format != "MPO":
                raise PhotoError(f"has {frames} frames: save one of them as a picture")
            yield source
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(
            "is not an image of a known format: save it as PNG or JPEG"
        ) from error
    except Image.DecompressionBombError as error:
        raise PhotoError("has too many pixels: shrink it, or cut a part out") from error
    except MemoryError as error:  # a damaged header may claim gigabytes
        raise PhotoError("needs more memory than there is: shrink it") from error
    except Exception as error:  # decoders raise all kinds of errors
        if getattr(error, "errno", None):
            raise  # not because of the content of the file
        raise PhotoError(f"is damaged or cut off: {error}") from error


def read_prepared(
    source: str | os.PathLike[str] | IO[bytes],
) -> UInt8[np.ndarray, "n 28 28"]:
    """Read images that are as MNIST's already: 28x28, bright digits on black.

    Args:
        source: an image, or one or several in NumPy's format (.npy) or in IDX format
            (.idx, -ubyte, with .gz or not).

    Raises:
        PhotoError: it has no such images.
        OSError: the file cannot be read.
    """
    name = str(source).removesuffix(".gz")
    if name.endswith(".npy"):
        content = Path(name).read_bytes()
        try:
            images = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        except Exception as error:  # NumPy raises half a dozen kinds
            raise PhotoError(f"is not an array of numbers: {error}") from error
    elif name.endswith((".idx", "-ubyte")):
        images = idx.read(Path(str(source)))
    else:
        with open_image(source) as image:
            images = np.asarray(to_grey(ImageOps.exif_transpose(image)))
    images = as_bytes(images)
    if images.shape[-1:] == (1,):
        images = images[..., 0]
    if images.ndim == 2:
        images = images[np.newaxis]
    if images.shape[1:] != (28, 28) or not len(images):
        raise PhotoError(
            f"holds uint8 of shape {list(images.shape)}, where prepared images are "
            "[28, 28]; without --raw it is read as a photograph"
        )
    return images


def as_bytes(array: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Return grey values in 0..255 of bytes, bits or floating-point numbers in 0..1.

    Bytes that are all 0 or 1 are bits.

    Raises:
        PhotoError: the array has another type, or numbers outside 0..1.
    """
    if np.issubdtype(array.dtype, np.floating) or array.dtype == bool:
        if not np.all((array >= 0) & (array <= 1)):  # also where they are NaN
            raise PhotoError("has floating-point numbers outside 0..1")
        return np.rint(255.0 * array).astype(np.uint8)
    if array.dtype != np.uint8:
        raise PhotoError(f"is an array of {array.dtype}; give uint8, or floats in 0..1")
    return 255 * array if array.size and array.max() == 1 else array


def from_array(array: np.ndarray) -> Image.Image:
    """Return an array [height, width] or [height, width, 3 or 4] as an image.

    Raises:
        PhotoError: it has another shape, no pixels, or is refused by `as_bytes`.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        shapes = "a picture is [height, width] or [height, width, 3 or 4]"
        raise PhotoError(f"is an array of shape {list(array.shape)}, where {shapes}")
    if not array.size:
        raise PhotoError("has no pixels")
    return Image.fromarray(np.ascontiguousarray(as_bytes(array)))


def to_grey(image: Image.Image) -> Image.Image:
    """Return an image of mode L (0..255), or of mode F (0..1) if it has more bits.

    It is as bright as its brightest pixel if it has 16 bits, of which cameras use 12.
    Transparent parts are white, or black if no dark ink is left on white.
    """
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float32)
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0).clip(0)
        least = 1 if image.mode == "F" else 1e-9
        return Image.fromarray(values / max(least, values.max()))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        for colour in ("white", "black"):
            ground = Image.new("RGBA", layer.size, colour)
            image = Image.alpha_composite(ground, layer).convert("RGB").convert("L")
            if np.min(np.asarray(image)) < 128:
                break
    grey = image.convert("RGB" if image.mode == "CMYK" else "L").convert("L")
    return Image.fromarray(as_bytes(np.asarray(grey)))
