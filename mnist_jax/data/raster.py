"""The one place where image files are opened: only formats of pixels are."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import IO

from PIL import Image, UnidentifiedImageError

from mnist_jax.errors import UserError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
"""The known formats. Pillow has others: for EPS, it runs Ghostscript on the file."""


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
    except Exception as error:  # decoders raise all kinds of errors
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise  # not because of the content of the file
        raise PhotoError(f"is damaged or cut off: {error}") from error
