"""The kind of a file that is no image for raygrid, named for an error message from the first bytes of the file."""

import re

NUM_START_BYTES = 1024  # of a file, for `kind_of`

_EXPORT = "export it as PNG or TIFF"
_FIXED: tuple[tuple[int, bytes, str, str], ...] = (  # offset in bytes, bytes there, kind, remedy
    (0, b"version https://git-lfs", "a Git LFS pointer", "run git lfs pull"),
    (0, b"/annex/objects/", "a git-annex pointer", "run git annex get"),
    (0, b"\x00\x05\x16\x07", "an AppleDouble file, which macOS adds without pixels", "delete the files named ._*"),
    (0, b"\x00\x05\x16\x00", "an AppleSingle file", "copy the image again from its Mac"),
    (4, b"Bud1", "a .DS_Store file of macOS", "leave it out"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file, such as .xls or .doc", "leave it out"),
    (0, b"\x93NUMPY", "a NumPy array", _EXPORT),
    (0, b"\x89HDF", "an HDF5 file", _EXPORT),
    (0, b"SIMPLE  =", "a FITS image", _EXPORT),
    (0, b"NRRD", "an NRRD volume", "export each slice as DICOM, PNG or TIFF"),
    (0, b"ObjectType", "a MetaImage header (.mha, .mhd)", "export each slice as DICOM, PNG or TIFF"),
    (344, b"n+1\0", "a NIfTI volume", "export each slice as DICOM, PNG or TIFF"),
    (344, b"ni1\0", "a NIfTI header", "export each slice as DICOM, PNG or TIFF"),
    (344, b"n+2\0", "a NIfTI volume", "export each slice as DICOM, PNG or TIFF"),
    (0, b"\x5c\x01\0\0", "a NIfTI or Analyze volume", "export each slice as DICOM, PNG or TIFF"),
    (0, b"GIF8", "a GIF image", _EXPORT),
    (0, b"BM", "a BMP image", _EXPORT),
    (8, b"WEBP", "a WebP image", _EXPORT),
    (0, b"RIFF", "a RIFF file of another kind than WebP, such as sound or film", "leave it out"),
    (0, b"\x00\x00\x00\x0cjP", "a JPEG 2000 image", _EXPORT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _EXPORT),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image", _EXPORT),
    (0, b"\xff\x0a", "a JPEG XL image", _EXPORT),
    (0, b"8BPS", "a Photoshop image", _EXPORT),
    (0, b"\x00\x00\x01\x00", "an icon", _EXPORT),
    (0, b"v/1\x01", "an OpenEXR image", _EXPORT),
    (0, b"%PDF", "a PDF document", _EXPORT),
    (0, b"%!PS", "a PostScript document", _EXPORT),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (0, b"BZh", "a bzip2 archive", "unpack it"),
    (0, b"\xfd7zXZ\0", "an xz archive", "unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it"),
    (0, b"Rar!", "a RAR archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
)
_BRANDS = (  # of ISO media files, at byte 8
    (("avif", "avis"), "an AVIF image", _EXPORT),
    (("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"), "an HEIC image", _EXPORT),
    (("",), "an MP4 or QuickTime film", "leave it out"),
)
_DATA_SET = re.compile(rb"(\x02\0|\x08\0)[\0-\x18]\0([A-Z]{2}|..\0\0)", re.DOTALL)  # a first element of group 2 or 8
_NETPBM = re.compile(rb"P[1-7f F]\s")
_TEXTS = (  # the first that matches the start of a text, after blanks
    (re.compile(rb"<svg|<\?xml[^>]*>\s*<svg", re.IGNORECASE), "an SVG drawing", _EXPORT),
    (re.compile(rb"<"), "a web page or XML text", ""),
    (re.compile(rb"[{\[]"), "JSON text", ""),
    (re.compile(rb"."), "a text file", ""),
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def kind_of(start: bytes) -> tuple[str, str]:
    """Return (kind with its article, remedy) of a file that begins with these bytes, NUM_START_BYTES of them.

    The remedy is empty where the data set's own, such as another download, fits best.
    """
    if not start.strip(b"\0"):
        return "zeros instead of a header, usually from an unfinished download", ""
    for offset, magic, kind, remedy in _FIXED:
        if start[offset : offset + len(magic)] == magic:
            return kind, remedy
    if start.startswith(b"PK"):
        return _zip(start), "unpack it, or leave it out"
    if start[4:8] == b"ftyp":
        brand = start[8:12].decode("latin-1")
        return next((kind, remedy) for brands, kind, remedy in _BRANDS if brand in brands or brands == ("",))
    if _DATA_SET.match(start):
        return "a DICOM data set without the letters DICM at byte 128", "export it again as a DICOM part 10 file"
    if _NETPBM.match(start):
        return "a PBM, PGM or PPM image", _EXPORT
    return _text(start)


def image_kind_of(start: bytes) -> str:
    """Return "PNG", "JPEG" or "TIFF" for a file that begins with these bytes, empty for any other."""
    if start.startswith(b"\x89PNG"):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "TIFF" if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") else ""


def _zip(start: bytes) -> str:
    first = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    if first.endswith(b".npy"):
        return "a NumPy archive (.npz)"
    if first.startswith((b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/", b"word/", b"mimetype")):
        return "an Office file, such as .xlsx or .docx"
    return "a ZIP archive"


def _text(start: bytes) -> tuple[str, str]:
    text = start.removeprefix(_BYTE_ORDER_MARK).lstrip()
    is_text = text.isascii() and not re.search(rb"[\x00-\x08\x0e-\x1f]", text)
    return next(((kind, remedy) for form, kind, remedy in _TEXTS if is_text and form.match(text)), ("", ""))
