"""Arrays in a NumPy `.npz` archive, read row by row without unpacking the archive to memory or disk.

A deflated member cannot be entered in the middle. It is unpacked once per process, a piece at a time: that proves its
checksum before any row is used, and leaves copies of the decompressor at up to 256 places from which later reads
resume (the method of zlib's zran.c). A stored member is proved in the same way and then read at its offset.
Costs: one pass at about 200 MB/s per process, at most 30 MB kept. Nothing is unpickled.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raygrid.errors import DataError

_MOST_PLACES = 256
_LEAST_STRIDE = 8 * 2**20  # unpacked bytes between two places: unpacked in 30 ms
_PACKED_PIECE = 64 * 2**10  # bytes; a place keeps up to one such piece
_UNPACKED_PIECE = 2**20  # bytes; whatever the archive promises, no more is unpacked at once
_LARGEST_HEADER = 10_000  # bytes, as in numpy
_LARGEST_WHOLE = 2**30  # bytes of an array that is read whole
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: the lengths of its name and its extra field

_Place = tuple[int, int, Any]  # unpacked position, packed position, a decompressor that stands there


@dataclass(frozen=True)
class NpzHeader:
    """What an archive says of one array; `offset` is where its values begin in the unpacked member, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    crc: int
    offset: int


def read_npz_header(path: Path, name: str) -> NpzHeader:
    """Return the header of array `name`. Raises DataError if there is no such array or the archive is damaged."""
    with _explained(path), zipfile.ZipFile(path) as archive:
        info = _info(path, archive, name)
        with archive.open(info) as member:
            start = io.BytesIO(member.read(_LARGEST_HEADER))
        header = _parsed(path, name, start, info.CRC)
        if header.offset + prod(header.shape) * header.dtype.itemsize != info.file_size:
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
    """Return `array[row]` of array `name`, proved whole. Raises DataError if the member is damaged or has no such row.

    Not for several threads of one process.
    """
    with _explained(path):
        info = path.stat()
        member = _member(path, name, info.st_mtime_ns, info.st_size)
        if isinstance(member, str):
            raise DataError(member)
        header = member.header
        if not 0 <= row < header.shape[0]:
            raise DataError(f"{path}: expected a row from 0 to {header.shape[0] - 1} of array {name!r}, got {row}")
        num_bytes = prod(header.shape[1:]) * header.dtype.itemsize
        values = member.read(header.offset + row * num_bytes, num_bytes)
    return np.frombuffer(values, header.dtype).reshape(header.shape[1:])


@lru_cache(maxsize=6)
def _member(path: Path, name: str, changed: int, size: int) -> "_Member | str":
    """Return the proved member, or why it cannot be used: a damaged one is read once, not once per image."""
    del changed, size  # only part of the key
    try:
        header = read_npz_header(path, name)
        with _explained(path):
            with zipfile.ZipFile(path) as archive:
                info = _info(path, archive, name)
            with open(path, "rb") as file:
                file.seek(info.header_offset)
                lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            member = _Member(path, header, info, info.header_offset + _LOCAL_HEADER.size + sum(lengths))
            member.prove()
            return member
    except DataError as error:
        return str(error)


@dataclass
class _Member:
    path: Path
    header: NpzHeader
    info: zipfile.ZipInfo
    start: int  # of the packed bytes in the file
    places: list[_Place] = field(default_factory=list)
    last: _Place | None = None  # where the last read ended: the next image usually follows

    def prove(self) -> None:
        """Read the member once from end to end and leave places to resume from. Raises DataError if it is damaged."""
        stride, crc, size = max(_LEAST_STRIDE, self.info.file_size // _MOST_PLACES), 0, 0
        is_deflated = self.info.compress_type == zipfile.ZIP_DEFLATED
        self.places = [(0, 0, zlib.decompressobj(-zlib.MAX_WBITS) if is_deflated else None)]
        for piece, (unpacked, packed, decompressor) in self._pieces(self.places[0]):
            crc, size = zlib.crc32(piece, crc), size + len(piece)
            if decompressor is not None and unpacked - self.places[-1][0] >= stride:
                self.places.append((unpacked, packed, decompressor.copy()))
            if size > self.info.file_size:
                break
        if size != self.info.file_size or crc != self.info.CRC:
            got = f"array of {size} bytes with checksum {crc:08x}, not {self.info.file_size} with {self.info.CRC:08x}"
            raise DataError(_damaged(self.path, got))

    def read(self, start: int, num_bytes: int) -> bytes:
        """Return unpacked bytes from `start` on."""
        begin = max((p for p in self.places if p[0] <= start), key=lambda p: p[0])
        if self.last is not None and begin[0] <= self.last[0] <= start:
            begin = self.last  # the next image usually follows the last
        parts, end = [], begin
        for piece, end in self._pieces(begin, start, start + num_bytes):
            parts.append(piece[max(0, start - (end[0] - len(piece))) :])
        self.last = end
        found = b"".join(parts)
        if len(found) != num_bytes:
            raise DataError(_damaged(self.path, "fewer bytes than a moment ago"))
        return found

    def _pieces(self, begin: _Place, start: int = 0, stop: int | None = None) -> Iterator[tuple[bytes, _Place]]:
        """Yield the unpacked bytes from `begin` on (up to `stop` exactly), each with the place where it ends."""
        unpacked, packed, decompressor = begin
        if decompressor is None:  # stored: any position can be entered
            unpacked = packed = max(unpacked, start)
        else:
            decompressor = decompressor.copy()
        with open(self.path, "rb") as file:  # not kept open: a forked process would move its position
            file.seek(self.start + packed)
            rest = b""
            while stop is None or unpacked < stop:
                most = _UNPACKED_PIECE if stop is None else min(_UNPACKED_PIECE, stop - unpacked)
                left = self.info.compress_size - packed
                if decompressor is None:
                    piece = given = file.read(min(most, left))
                    packed += len(given)
                else:
                    given = rest or file.read(min(_PACKED_PIECE, left))
                    piece = decompressor.decompress(given, most)
                    rest = decompressor.unconsumed_tail
                    packed += len(given) - len(rest)
                if not piece and not given:
                    return
                unpacked += len(piece)
                yield piece, (unpacked, packed, decompressor)


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
    except DataError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ...
        raise DataError(_damaged(path, f"{type(error).__name__}: {error}")) from error


def _damaged(path: Path, got: str) -> str:
    return f"{path}: expected an archive as numpy.savez or savez_compressed writes it, got {got}; fetch the file again"
