"""Image files to grey levels: PNG, JPEG and TIFF by Pillow, DICOM in `dicom.py`; damaged or huge files raise DataError.

A damaged file raises DamagedFileError, to which the data set adds its remedy (`raygrid.data.damage`). Pillow reads TIFF
here, not tifffile: it has its own codecs (LZW, JPEG, deflate), and it decodes rotated TIFF correctly from an open file,
as here. `refusals.py` refuses the kinds that it decodes wrongly; `png.py`, `jpeg.py` and `tiff.py` find damage that it
does not report.
"""

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from raygrid.data.damage import DamagedFileError, SuspectImageWarning
from raygrid.data.images.dicom import dicom_levels, dicom_size
from raygrid.data.images.intensity import (
    Window,
    as_levels,
    require_decodable,
    resize_square,
    square_picture,
    tell_if_dark,
    tell_if_flat,
    too_large,
    with_channels,
)
from raygrid.data.images.jpeg import require_whole_jpeg
from raygrid.data.images.kinds import NUM_START_BYTES, image_kind_of, kind_of
from raygrid.data.images.png import require_all_colours, require_all_rows, require_whole_png
from raygrid.data.images.refusals import refuse_unsupported
from raygrid.data.images.tiff import describe_tiff, require_whole_tiff
from raygrid.errors import DataError

_FORMATS = ("PNG", "JPEG", "TIFF")
_EXPECTED = "a complete PNG, JPEG, TIFF or DICOM image"
_DICOM_SUFFIXES = (".dcm", ".dicom")
_PREFIX_END = 132  # bytes: 128 of preamble, then the letters DICM
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_WINDOWED_MODES = ("L", "I;16", "I;16L", "I;16B")


def decode_image(
    path: Path, channels: int, *, size: int | None = None, upright: bool = False, window: Window | None = None
) -> NDArray[np.uint8]:
    """Return the image, uint8 (height, width, channels); `channels` is 1 (grey) or 3 (RGB).

    Palettes are resolved and transparency is dropped. Of 16 bits per channel the upper 8 are kept: the full range
    of the depth, linearly. DICOM: `raygrid.data.images.dicom`.

    Args:
        size: side in pixels to which the whole image is brought, as by `resize_square`; None leaves it unchanged.
        upright: apply the EXIF orientation (always applied to TIFF).
        window: (low, high) intensities that become black and white, for grey images of any depth.

    Raises DataError if the file is too large, or its pixels are of an unsupported kind or more than one image;
    DamagedFileError if it is absent, empty, damaged or of another format.
    """
    with _opened(path) as file:
        if _is_dicom(path, file):
            levels = dicom_levels(path, file, window)
        else:
            with _picture(path, file) as picture:
                tags: dict[int, Any] = dict(getattr(picture, "tag_v2", {}))
                refuse_unsupported(path, picture, tags)
                content = _content(picture, file)
                _require_whole(path, picture, file, content, tags)
                levels = picture_levels(path, picture, channels, size, upright, window)
                if picture.format == "PNG":
                    require_all_rows(path, content, picture)
                    require_all_colours(path, content, picture)
    image = with_channels(levels, channels)
    return image if size is None else resize_square(image, size)


def image_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Return (height, width) in pixels from the file's header. Raises the errors of `decode_image`."""
    with _opened(path) as file:
        if _is_dicom(path, file):
            return dicom_size(path, file)
        with _picture(path, file) as picture:
            width, height = picture.size
            return (width, height) if upright and _lies_on_its_side(picture) else (height, width)


def _lies_on_its_side(picture: Image.Image) -> bool:
    if picture.format == "TIFF":  # Pillow has exchanged the sides already
        return False
    if picture.format == "PNG" and "exif" not in picture.info:  # Pillow would decode all pixels to look behind them
        return False
    return _orientation(picture) in _QUARTER_TURNS


def _orientation(picture: Image.Image) -> object:
    """Return the EXIF orientation, None if the file has none that can be read: its pixels are right without it."""
    try:
        return picture.getexif().get(0x0112)
    except Exception:  # the parser raises anything
        return None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield the file; any error of a decoder in the block becomes a DataError with the file's name."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would block
            raise _bad(path, "a folder" if stat.S_ISDIR(mode) else "a pipe or device", "name an image file")
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about metadata; damaged pixels are errors
            warnings.simplefilter("always", SuspectImageWarning)
            if not file.peek(1):
                raise _bad(path, "an empty file (0 bytes)")
            yield file
    except DataError:
        raise
    except FileNotFoundError as error:
        raise _bad(path, "no such file") from error
    except PermissionError as error:
        raise _bad(path, "a file without read permission", f"run chmod u+r {path}") from error
    except MemoryError as error:
        raise _bad(path, "more pixels than fit into memory", "shrink the image, or run fewer workers") from error
    except Exception as error:  # decoders raise anything: struct.error, SyntaxError, zlib.error, KeyError, ...
        raise _bad(path, f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _bad(path: Path, got: str, remedy: str = "") -> DataError:
    """Return the error for a file that is not a usable image; without a remedy here, the loader adds its own."""
    message = f"{path}: expected {_EXPECTED}, got {got}"
    return DataError(f"{message}; {remedy}") if remedy else DamagedFileError(message)


def _is_dicom(path: Path, file: BinaryIO) -> bool:
    start = file.read(NUM_START_BYTES)
    file.seek(0)
    if start[_PREFIX_END - 4 : _PREFIX_END] == b"DICM":
        return True
    if path.suffix.lower() not in _DICOM_SUFFIXES:
        return False
    if image := image_kind_of(start):
        raise _bad(path, f"a {image} image named {path.suffix}", "rename it")
    kind, remedy = kind_of(start)
    if kind:
        raise _bad(path, f"{kind} (it begins with {start[:16]!r})", remedy)
    raise _bad(path, "a file without the letters DICM at byte 128", "export it again as a DICOM part 10 file")


@contextmanager
def _picture(path: Path, file: BinaryIO) -> Iterator[Image.Image]:
    """Yield the opened image after a check of its header; no pixel is decoded yet."""
    try:
        picture = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        raise _unidentified(path, file) from error
    except Image.DecompressionBombError as error:  # Pillow's own limit is a little above ours
        raise too_large(path, str(error)) from error
    with picture:
        width, height = picture.size
        require_decodable(path, height, width)
        yield picture


def _unidentified(path: Path, file: BinaryIO) -> DataError:
    """Return the error for a file that Pillow does not recognise."""
    start = file.read(NUM_START_BYTES)
    image = image_kind_of(start)
    if image == "TIFF":
        return _bad(path, *describe_tiff(file))
    if image:
        return _bad(path, f"a {image} image with an unreadable header (it begins with {start[:16]!r})")
    kind, remedy = kind_of(start)
    return _bad(path, f"{kind or 'an unknown format'} (it begins with {start[:16]!r})", remedy)


def _content(picture: Image.Image, file: BinaryIO) -> bytes:
    """Return all bytes of a PNG or JPEG file, whose position stays; of a TIFF file none, it may be long."""
    if picture.format == "TIFF":
        return b""
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    return content


def _require_whole(path: Path, picture: Image.Image, file: BinaryIO, content: bytes, tags: dict[int, Any]) -> None:
    """Raise DamagedFileError if the file has damage that Pillow does not report."""
    if picture.format == "TIFF":
        require_whole_tiff(path, file, tags)
    elif picture.format == "PNG":
        require_whole_png(path, content)
    else:
        require_whole_jpeg(path, content)


def picture_levels(
    path: Path, picture: Image.Image, channels: int, size: int | None, upright: bool, window: Window | None
) -> NDArray[np.uint8]:
    """Return the pixels of a picture that `refuse_unsupported` accepts, uint8 (height, width) or (height, width, 3)."""
    tags: dict[int, Any] = dict(getattr(picture, "tag_v2", {}))
    bits = max(np.atleast_1d(tags.get(258, 16)))
    mode = picture.mode
    if window is not None and mode not in _WINDOWED_MODES:
        raise _bad(path, f"mode {mode} where a window is set", "a window needs grey images: remove the option window")
    turned = ImageOps.exif_transpose(picture) if upright and _orientation(picture) else picture
    if not mode.startswith("I;16"):
        wanted = "RGB" if channels == 3 or mode == "LAB" else "L"  # Pillow turns LAB into RGB only
        shown = turned if turned.mode == wanted else turned.convert(wanted)
        if window is not None:
            return _windowed(path, np.asarray(shown), window)
        # shrunk before it becomes an array: at full size each copy costs
        return np.asarray(shown if size is None else square_picture(shown, size))
    values = np.asarray(turned)
    if tags.get(262) == 0:  # white is zero: Pillow turns that round for 8 bits only
        values = 2**bits - 1 - values
    if window is not None:
        return _windowed(path, values, window)
    # The upper 8 bits, as Pillow takes them of 16-bit colour: grey stored as colour gives the same levels.
    levels: NDArray[np.uint8] = (values >> (bits - 8)).astype(np.uint8)
    tell_if_flat(path, values, levels)
    if bits == 16:
        tell_if_dark(path, values, levels)
    return levels


def _windowed(path: Path, values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    levels = as_levels(values, window)
    tell_if_flat(path, values, levels)
    return levels
