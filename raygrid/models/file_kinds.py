"""The kind of a model file, from its first bytes and the names inside it: nothing is unpickled, nothing is executed."""

import io
import pickletools
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_PLAIN = {  # that PyTorch's weights-only reader accepts
    *(
        "collections",
        "torch",
        "torch._utils",
        "torch._tensor",
        "torch.nn.parameter",
        "torch.storage",
        "torch.serialization",
    ),
    *("_codecs", "torch._C", "torch.torch_version", "torch.distributed.tensor", "torch._prims_common"),
}
_BUILTINS = {"builtins", "__builtin__"}
_LARGEST_PICKLE = 64 * 2**20  # bytes; names and shapes of a million tensors
_MOST_PICKLES = 5  # in a file of PyTorch before version 1.6
_SHOWN = 3  # classes in a message
_FIRST_OPCODES = 6  # of a pickle; in a dict, the first value comes later
_TO_STATE_DICT = "where it was made, save the state_dict as .safetensors"


@dataclass(frozen=True)
class FileKind:
    """A kind of file in words, and the step that makes a readable file of it."""

    words: str
    remedy: str


TORCH = FileKind("a file of torch.save", "")
SAFETENSORS = FileKind("a .safetensors file", "")
EXPORTED = FileKind("a program of torch.export", "declare the target with kind='export' and this file as its source")
TORCHSCRIPT = FileKind(
    "a TorchScript program of torch.jit.save",
    "where it was made, save torch.jit.load(FILE).state_dict() as .safetensors, or save the network with torch.export",
)
ONNX = FileKind("an ONNX file", "declare the target with kind='onnx' and this file as its source")
_HDF5 = FileKind(
    "an HDF5 file, such as Keras writes", "export the model to ONNX, and declare the target with kind='onnx'"
)
_KERAS = FileKind("a Keras archive", _HDF5.remedy)
_TENSORFLOW = FileKind("a file of TensorFlow", _HDF5.remedy)
_INDEX = FileKind("the index of a checkpoint in several files", "load all of them, and save the state_dict as one file")
_LFS = FileKind("a Git LFS pointer, not the file itself", "run git lfs pull in the clone")
_PAGE = FileKind("a web page, usually from a failed download", "download the file again")
_COMPRESSED = FileKind("a compressed file", "decompress it; a compressed pickle of joblib holds no state_dict")
_ARCHIVE = FileKind("an archive of files, but none of torch.save", "unpack it and name the file of weights inside")
PICKLE = FileKind("a pickle, not a file of torch.save", _TO_STATE_DICT)
_OLD_TAR = FileKind("a file of PyTorch before version 0.2", _TO_STATE_DICT)
EMPTY = FileKind("an empty file", "copy or download it again")
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", _HDF5),
    (b"version https://git-lfs", _LFS),
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"\x93NUMPY", FileKind("a NumPy array", _TO_STATE_DICT)),
    (b"GGUF", FileKind("a GGUF file", _TO_STATE_DICT)),
    (b"\x1f\x8b", _COMPRESSED),
    (b"BZh", _COMPRESSED),
    (b"\xfd7zxz\x00", _COMPRESSED),
    (b"x\x01", _COMPRESSED),
    (b"x\x9c", _COMPRESSED),
    (b"x^", _COMPRESSED),
    (b"x\xda", _COMPRESSED),
)
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle of torch.save before version 1.6


def kind_of_file(path: Path) -> FileKind | None:
    """Return the kind of a model file; None if it is not known.

    Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return EMPTY
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if start.startswith(_LEGACY_MAGIC):
        return TORCH
    text = start.lstrip().lower()
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning) or text.startswith(beginning):
            return kind
    return _kind_of_binary(path, start)


def _kind_of_zip(path: Path) -> FileKind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except Exception:  # zipfile raises anything for damaged bytes: BadZipFile, struct.error, NotImplementedError, ...
        return None
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return TORCHSCRIPT
    if "models/model.json" in names or "archive_format" in names:
        return EXPORTED
    if "data.pkl" in names:
        return TORCH
    if any(name.endswith(".weights.h5") for name in names):
        return _KERAS
    return _ARCHIVE


def _kind_of_binary(path: Path, start: bytes) -> FileKind | None:
    if start[4:8] in (b"TFL3",) or path.name == "saved_model.pb" or _ends_as_tensorflow(path):
        return _TENSORFLOW
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return SAFETENSORS
    if start[257:262] == b"ustar":
        return _OLD_TAR if _is_torch_tar(path) else _ARCHIVE
    if start[:1] == b"{" and (b"weight_map" in start or path.name.endswith(".index.json")):
        return _INDEX
    if (
        len(start) > 4
        and start[0] == 8
        and 0 < start[1] < 64
        and start[2] in (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42)
    ):
        return ONNX  # ModelProto: ir_version as field 1, then a field of bytes
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    return None


def _ends_as_tensorflow(path: Path) -> bool:
    """Whether a file ends as the index of a TensorFlow checkpoint, a sorted table, does."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        return file.read() == bytes.fromhex("57fb808b247547db")


def _is_torch_tar(path: Path) -> bool:
    """Whether a tar archive is a file of torch.save before version 0.2."""
    try:
        with tarfile.open(path, "r:") as archive:
            return {"pickle", "storages", "tensors"} <= set(archive.getnames())
    except Exception:  # tarfile raises anything for damaged bytes, as zipfile does
        return False


@dataclass(frozen=True)
class Pickled:
    """The classes and functions that unpickling a file would look up, in order, apart from those of tensors.

    Attributes:
        is_object: whether the file is one object of the first class, such as a network, not a dict.
    """

    classes: tuple[str, ...] = ()
    is_object: bool = False

    @property
    def words(self) -> str:
        """The first classes as one text."""
        more = f" and {len(self.classes) - _SHOWN} more" if len(self.classes) > _SHOWN else ""
        return ", ".join(self.classes[:_SHOWN]) + more


def pickled_in(path: Path) -> Pickled:
    """Return the classes that a file of torch.save, or another pickle, names.

    The opcodes are read, never run. Empty if the file holds no pickle, or one that is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                (name,) = (n for n in archive.namelist() if n.partition("/")[2] == "data.pkl")
                with archive.open(name) as file:
                    found = list(_globals(io.BytesIO(file.read(_LARGEST_PICKLE)), 1))
        else:
            with path.open("rb") as file:
                found = list(_globals(file, _MOST_PICKLES))
    except Exception:  # zipfile and pickletools raise anything for damaged bytes
        return Pickled()
    foreign = [(count, f"{module}.{name}") for count, module, name in found if not _is_plain(module, name)]
    names = tuple(dict.fromkeys(name for _, name in foreign))
    return Pickled(names, bool(foreign) and foreign[0][0] <= _FIRST_OPCODES)


def _is_plain(module: str, name: str) -> bool:
    return module in _PLAIN or (module in _BUILTINS and name in ("set", "bytearray", "complex"))


def _globals(file: IO[bytes], most: int) -> Iterator[tuple[int, str, str]]:
    """Yield every global in consecutive pickles, without running an opcode: its count of opcodes, module and name."""
    for _ in range(most):
        texts: list[str] = []  # those pushed so far; the last two are the arguments of STACK_GLOBAL
        memo: dict[int, str] = {}
        last, num_memoized = "", 0  # the text that the last opcode pushed
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name == "MEMOIZE":
                memo[num_memoized], num_memoized = last, num_memoized + 1
                continue
            if opcode.name in ("BINPUT", "LONG_BINPUT"):
                memo[int(str(argument))] = last
                continue
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                yield count, module, name
            elif opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
                yield count, texts[-2], texts[-1]
            last = _pushed_text(opcode.name, argument, memo)
            if last:
                texts.append(last)
        if not file.read(1):
            return
        file.seek(-1, io.SEEK_CUR)


def _pushed_text(opcode: str, argument: Any, memo: dict[int, str]) -> str:
    if "UNICODE" in opcode or "STRING" in opcode:
        return str(argument)
    return memo.get(int(argument), "") if opcode in ("BINGET", "LONG_BINGET") else ""
