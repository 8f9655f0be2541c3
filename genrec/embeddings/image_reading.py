"""Bytes to a picture, or a reason why not."""

import io
import warnings
from typing import Any

from genrec.embeddings.image_files import ImageFiles, TooLarge
from genrec.errors import DependencyError

# Formats that are only read; others, such as EPS, start programs or are seldom looked after.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


class Unreadable(Exception):
    """A file that is no picture we can use; the message says why."""


def require_pillow() -> Any:  # noqa: ANN401 - a module
    """Return ``PIL.Image``.

    Raises:
        DependencyError: When Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DependencyError(
            "image.path names pictures, but the package Pillow is not installed. Install it: "
            'pip install "genrec[image]"; or give ready-made vectors as image.vectors.'
        ) from error
    return Image


def read_picture(
    files: ImageFiles, name: str, *, max_bytes: int, max_pixels: int
) -> tuple[Any, bytes]:
    """Read one picture, upright and in RGB; of a moving one the first frame.

    The size is looked at before anything is decoded, and Pillow's own guard against files that
    unpack to more than memory holds stays on.

    Returns:
        The picture, a ``PIL.Image.Image``, and the bytes it was read from.

    Raises:
        Unreadable: When the file is damaged, too large or of another format.
    """
    try:
        data = files.read(name, max_bytes)
    except (TooLarge, OSError) as error:
        raise Unreadable(str(error)) from error
    return decode(data, max_pixels), data


def decode(data: bytes, max_pixels: int) -> Any:  # noqa: ANN401 - Pillow may be absent
    """Return the picture that the bytes hold, upright and in RGB.

    Raises:
        Unreadable: When they hold none, or one with more pixels.
    """
    library = require_pillow()
    from PIL import ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", library.DecompressionBombWarning)
            image = library.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise Unreadable(
                    f"has {width} x {height} pixels, more than the {max_pixels:,} of "
                    "image.max_pixels"
                )
            return ImageOps.exif_transpose(image).convert("RGB")
    except Unreadable:
        raise
    # What damaged files make decoders raise is not listed anywhere: OSError, SyntaxError,
    # ValueError, struct.error, zlib.error and more were seen.
    except (library.DecompressionBombError, Exception) as error:
        raise Unreadable(f"is no image that can be read ({error or type(error).__name__})") from (
            error
        )
