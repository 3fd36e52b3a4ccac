"""Arrays in a NumPy `.npz` archive, read row by row: a member is unpacked once per node, proved whole, and mapped.

A deflated member cannot be entered in the middle, and one of 224 pixels has gigabytes. Nothing is unpickled.
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

from raygrid.errors import DataError, RaygridError
from raygrid.io.cache import cached_file

_LARGEST_HEADER = 10_000  # bytes, as in numpy
_LARGEST_WHOLE = 2**30  # bytes of an array that is read whole


@dataclass(frozen=True)
class NpzHeader:
    """What an archive says of one array; `offset` is where its values begin in the unpacked member, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    crc: int
    offset: int

    @property
    def num_bytes(self) -> int:
        """Size of the unpacked member."""
        return self.offset + prod(self.shape) * self.dtype.itemsize


def read_npz_header(path: Path, name: str) -> NpzHeader:
    """Return the header of array `name`. Raises DataError if there is no such array or the archive is damaged."""
    with _explained(path), zipfile.ZipFile(path) as archive:
        info = _info(path, archive, name)
        with archive.open(info) as member:
            start = io.BytesIO(member.read(_LARGEST_HEADER))
        header = _parsed(path, name, start, info.CRC)
        if header.num_bytes != info.file_size:
            raise DataError(_damaged(path, f"array {name!r} of {header.shape} in {info.file_size} bytes"))
        return header


def read_npz_array(path: Path, name: str) -> NDArray[Any]:
    """Return a small array whole. Raises DataError as `read_npz_header` does, and above 1 GiB."""
    header = read_npz_header(path, name)
    with _explained(path), zipfile.ZipFile(path) as archive:
        info = _info(path, archive, name)
        if info.file_size > _LARGEST_WHOLE:
            raise DataError(_damaged(path, f"array {name!r} of {info.file_size} bytes, expected at most 1 GiB"))
        unpacked = archive.read(info)  # zipfile checks the checksum
    return np.frombuffer(unpacked, header.dtype, offset=header.offset).reshape(header.shape)


def read_npz_row(path: Path, name: str, row: int) -> NDArray[Any]:
    """Return `array[row]` of array `name`.

    Raises DataError if the member is damaged anywhere or has no such row, StoreError if the node's cache is full.
    """
    with _explained(path):
        about = path.stat()
    rows = _mapped(path, name, about.st_mtime_ns, about.st_size)
    if isinstance(rows, str):
        raise DataError(rows)
    if not 0 <= row < len(rows):
        raise DataError(f"{path}: expected a row from 0 to {len(rows) - 1} of array {name!r}, got {row}")
    return np.array(rows[row])


@lru_cache(maxsize=6)
def _mapped(path: Path, name: str, changed: int, size: int) -> NDArray[Any] | str:
    """Return the mapped array, or why it cannot be used: a damaged one is unpacked once, not once per image."""
    try:
        header = read_npz_header(path, name)

        def unpack(file: BinaryIO) -> None:
            with zipfile.ZipFile(path) as archive, archive.open(_info(path, archive, name)) as member:
                shutil.copyfileobj(member, file)  # zipfile checks the checksum at the end

        with _explained(path):
            key = f"{path.stem}-{name}-{header.crc:08x}-{size}-{changed}.npy"
            unpacked = cached_file(key, header.num_bytes, unpack)
            return np.memmap(unpacked, header.dtype, mode="r", offset=header.offset, shape=header.shape)
    except DataError as error:
        return str(error)


def _info(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    file = f"{name}.npy"
    if file not in archive.namelist():
        held = sorted(other.removesuffix(".npy") for other in archive.namelist())
        raise DataError(f"{path}: expected an array {name!r}, got {held}; fetch the file again")
    info = archive.getinfo(file)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise DataError(_damaged(path, "a member that is encrypted or neither stored nor deflated"))
    return info


def _parsed(path: Path, name: str, start: io.BytesIO, crc: int) -> NpzHeader:
    version = np.lib.format.read_magic(start)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = reader(start)
    if dtype.hasobject:
        raise DataError(_damaged(path, f"array {name!r} of Python objects, which would be unpickled"))
    if is_fortran and len(shape) > 1:
        raise DataError(_damaged(path, f"array {name!r} in Fortran order"))
    return NpzHeader(shape, dtype, crc, start.tell())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what zipfile, zlib and numpy raise on damaged bytes into a DataError that names the file."""
    try:
        yield
    except RaygridError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ...
        raise DataError(_damaged(path, f"{type(error).__name__}: {error}")) from error


def _damaged(path: Path, got: str) -> str:
    return f"{path}: expected an archive as numpy.savez or savez_compressed writes it, got {got}; fetch the file again"
