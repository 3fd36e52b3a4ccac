"""Arrays in a NumPy `.npz` archive, read row by row: a member is unpacked once per node, checked, and memory-mapped.

A deflated member can only be read from its start, and at 224 pixels it has gigabytes. Nothing is unpickled. Functions
raise DamagedFileError, to which the data set adds its remedy (`raygrid.data.damage`).
"""

import io
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from raygrid.data.damage import DamagedFileError
from raygrid.data.datasets.text_files import what_is
from raygrid.errors import DataError, RaygridError
from raygrid.io.cache import cached_file

_LARGEST_HEADER = 10_000  # bytes, as in numpy
_LARGEST_WHOLE = 2**26  # bytes of an array that is read whole; labels become eight times as large


@dataclass(frozen=True)
class NpzHeader:
    """Header of one array in an archive; its values begin `offset` bytes into the unpacked member."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    crc: int
    offset: int

    @property
    def num_bytes(self) -> int:
        """Size of the unpacked member in bytes."""
        return self.offset + prod(self.shape) * self.dtype.itemsize


def read_npz_names(path: Path) -> list[str]:
    """Return the names of the arrays, sorted. Raises DamagedFileError if the archive is damaged."""
    with _explained(path), zipfile.ZipFile(path) as archive:
        return _names(archive)


def read_npz_header(path: Path, name: str) -> NpzHeader:
    """Return the header of array `name`. Raises DamagedFileError if the array is absent or the archive is damaged."""
    with _explained(path), zipfile.ZipFile(path) as archive:
        info = _info(path, archive, name)
        with archive.open(info) as member:
            start = io.BytesIO(member.read(_LARGEST_HEADER))
        header = _parsed(path, name, start, info.CRC)
        if header.num_bytes != info.file_size:
            raise _damaged(path, f"array {name!r} of {header.shape} in {info.file_size} bytes")
        return header


def read_npz_array(path: Path, name: str) -> NDArray[Any]:
    """Return a whole array of at most 64 MiB. Raises DamagedFileError if it is larger, absent or damaged."""
    header = read_npz_header(path, name)
    with _explained(path), zipfile.ZipFile(path) as archive:
        info = _info(path, archive, name)
        if info.file_size > _LARGEST_WHOLE:
            raise _damaged(path, f"array {name!r} of {info.file_size} bytes, expected at most 64 MiB")
        unpacked = archive.read(info)  # zipfile verifies the checksum
        return np.frombuffer(unpacked, header.dtype, offset=header.offset).reshape(header.shape)


def read_npz_row(path: Path, name: str, row: int) -> NDArray[Any]:
    """Return `array[row]` of array `name`.

    Raises DamagedFileError if the array is absent or damaged anywhere, DataError if it has no such row, StoreError if
    the node's cache is full.
    """
    with _explained(path):
        about = path.stat()
    rows = _mapped(path, name, about.st_mtime_ns, about.st_size)
    if isinstance(rows, str):
        raise DamagedFileError(rows)
    if not 0 <= row < len(rows):
        raise DataError(
            f"{path}: expected a row from 0 to {len(rows) - 1} of array {name!r}, got {row}; the archive "
            "changed during the run: start it again"
        )
    return np.array(rows[row])


@lru_cache(maxsize=6)
def _mapped(path: Path, name: str, changed: int, size: int) -> NDArray[Any] | str:
    """Return the mapped array or an error message; caching it unpacks a damaged array once, not once per image."""
    try:
        header = read_npz_header(path, name)

        def unpack(file: BinaryIO) -> None:
            with zipfile.ZipFile(path) as archive, archive.open(_info(path, archive, name)) as member:
                shutil.copyfileobj(member, file)  # zipfile verifies the checksum at the end

        with _explained(path):
            key = f"{path.stem}-{name}-{header.crc:08x}-{size}-{changed}.npy"
            unpacked = cached_file(key, header.num_bytes, unpack)
            return np.memmap(unpacked, header.dtype, mode="r", offset=header.offset, shape=header.shape)
    except DamagedFileError as error:
        return str(error)


def _names(archive: zipfile.ZipFile) -> list[str]:
    return sorted(name.removesuffix(".npy") for name in archive.namelist())


def _info(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    file = f"{name}.npy"
    if file not in archive.namelist():
        raise DamagedFileError(f"{path}: expected an array {name!r}, got {_names(archive)}")
    info = archive.getinfo(file)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise DataError(
            f"{path}: expected an archive of numpy.savez or savez_compressed, got array {name!r} encrypted, or packed "
            "by another method than deflate; save it again with numpy.savez"
        )
    return info


def _parsed(path: Path, name: str, start: io.BytesIO, crc: int) -> NpzHeader:
    version = np.lib.format.read_magic(start)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = reader(start)
    if dtype.hasobject:
        raise DataError(
            f"{path}: expected arrays of numbers, got array {name!r} of Python objects, which would be unpickled, and "
            "raygrid never does that; save numbers, and all images in one size"
        )
    if is_fortran and len(shape) > 1:
        raise DataError(
            f"{path}: expected arrays in C order, got array {name!r} in Fortran order; save "
            f"numpy.ascontiguousarray({name})"
        )
    return NpzHeader(shape, dtype, crc, start.tell())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of zipfile, zlib and numpy for damaged bytes into a DamagedFileError with the file's name."""
    try:
        yield
    except RaygridError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ...
        got = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise _damaged(path, got + (what_is(path) if isinstance(error, zipfile.BadZipFile) else "")) from error


def _damaged(path: Path, got: str) -> DamagedFileError:
    return DamagedFileError(f"{path}: expected an archive of numpy.savez or savez_compressed, got {got}")
