"""Pictures that Pillow opens but raygrid refuses: wrong values, several images, pixels that are not square."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raygrid.errors import DataError

_DEEP = ("I;16", "I;16L", "I;16B")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", *_DEEP)
_SUBFILE, _BITS, _XRES, _YRES, _PLANAR, _COLOUR_MAP, _SAMPLE_FORMAT = 254, 258, 282, 283, 284, 320, 339
_REDUCED = 1  # bit of a TIFF page's NewSubfileType
_SQUARE_WITHIN = 0.05  # of the ratio of the resolutions: fine fax pages have 204 x 196 per inch
_MPF_ENTRIES = 0xB002  # of the multi-picture index of a JPEG file
_MOST_PAGES = 100  # whose headers are read for the message
_HOW = "save it with 8 or 16 bits per channel, unsigned"


def refuse_unsupported(path: Path, picture: Image.Image, tags: dict[int, Any]) -> None:
    """Check the header of an opened picture; `tags` are those of a TIFF file, else empty.

    Raises DataError if the pixels would come out wrong, if the file has several images, or if a pixel is not square by
    more than 5 %.
    """
    _refuse_pixels(path, picture, tags)
    _refuse_images(path, picture)
    across, down = _density(picture, tags)
    if across > 0 and down > 0 and not abs(math.log(across / down)) <= _SQUARE_WITHIN:
        raise _refused(
            path,
            f"pixels that are not square (resolution {across:g} across, {down:g} down)",
            "resample the image to square pixels, or correct the resolution in the file",
        )


def _refused(path: Path, got: str, remedy: str) -> DataError:
    return DataError(f"{path}: expected a complete PNG, JPEG, TIFF or DICOM image, got {got}; {remedy}")


def _refuse_pixels(path: Path, picture: Image.Image, tags: dict[int, Any]) -> None:
    mode = picture.mode
    form = max(np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1)))
    if mode.startswith("F") or mode == "I" or form > 1:
        raise _refused(path, f"signed, 32-bit or floating-point pixels (mode {mode}, SampleFormat {form})", _HOW)
    if mode not in _MODES:
        raise _refused(path, f"pixels of mode {mode}", _HOW)
    if tags.get(_PLANAR) == 2 and (max(np.atleast_1d(tags.get(_BITS, 1))) > 8 or mode in ("LA", "PA")):
        kind = "grey with transparency" if mode == "LA" else "16-bit colour"
        raise _refused(path, f"{kind} stored plane by plane", "save it with the channels interleaved")
    colours = tags.get(_COLOUR_MAP, ())
    if mode.startswith("P") and len(colours) and 0 < max(colours) < 256:  # all would become black
        raise _refused(
            path, f"a palette of 8-bit values (the brightest is {max(colours)} of 65535)", "save it as grey or RGB"
        )


def _refuse_images(path: Path, picture: Image.Image) -> None:
    """Raise DataError if a file has several images; previews and depth maps beside a photograph are allowed."""
    num = int(getattr(picture, "n_frames", 1))
    if num <= 1:
        return
    if picture.format == "TIFF":
        reduced = sum(_page_is_reduced(picture, page) for page in range(min(num, _MOST_PAGES)))
        picture.seek(0)
        of_them = f", {reduced} of them of reduced resolution (a pyramid or a preview)" if reduced else ""
        raise _refused(path, f"{num} pages in one file{of_them}", "save each page as a separate file")
    if picture.format == "PNG":
        raise _refused(path, f"an animated PNG image of {num} frames", "save each frame as a separate file")
    entries = getattr(picture, "mpinfo", {}).get(_MPF_ENTRIES, ())
    kinds = [str(entry.get("Attribute", {}).get("MPType", "")) for entry in entries]
    if any(kind.startswith("Multi-Frame") for kind in kinds) or _equal_sizes(picture, kinds):
        raise _refused(path, f"{num} photographs in one JPEG file", "save each photograph as a separate file")


def _page_is_reduced(picture: Any, page: int) -> bool:
    picture.seek(page)
    return bool(picture.tag_v2.get(_SUBFILE, 0) & _REDUCED)


def _equal_sizes(picture: Any, kinds: list[str]) -> bool:
    """Return whether a further picture of a JPEG file, not marked as a preview, has the size of the first."""
    size, equal = picture.size, False
    for number, kind in enumerate(kinds):
        if number and not kind.startswith("Large Thumbnail"):
            try:
                picture.seek(number)
                equal = equal or picture.size == size
            except (EOFError, OSError, SyntaxError, ValueError):  # the index is wrong: there is no such picture
                continue
    picture.seek(0)
    return equal


def _density(picture: Image.Image, tags: dict[int, Any]) -> tuple[float, float]:
    """Return the resolution (across, down) in any unit, or (0, 0) if the header has none."""
    found: Any
    if picture.format == "TIFF":
        found = (tags.get(_XRES), tags.get(_YRES))
    elif picture.format == "PNG":
        found = picture.info.get("aspect") or picture.info.get("dpi") or (0, 0)
    else:
        found = picture.info.get("jfif_density") or (0, 0)
    try:
        across, down = (float(value) for value in found)
    except (TypeError, ValueError, ZeroDivisionError):  # absent, or no numbers: it says nothing
        return 0.0, 0.0
    return (across, down) if math.isfinite(across) and math.isfinite(down) else (0.0, 0.0)
