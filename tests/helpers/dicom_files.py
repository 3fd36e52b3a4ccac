"""DICOM files for tests, with any header and any pixels."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid


def write_dicom(
    path: Path,
    values: np.ndarray,
    *,
    syntax: str = ExplicitVRLittleEndian,
    frames: list[bytes] | None = None,
    **header: Any,
) -> Path:
    """Write unchanged integers (height, width) or (height, width, 3) as a DICOM file and return its path.

    `header` sets or replaces elements; None leaves an element out. In a compressed transfer syntax the file holds
    `frames`, or else the values, not really compressed.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(entropy_srcs=["test"])
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 1 if values.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes() + bytes(values.nbytes % 2)
    dataset["PixelData"].VR = "OB" if values.itemsize == 1 else "OW"
    for name, value in header.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.PixelData = encapsulate(frames or [dataset.PixelData])
        dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def table_item(descriptor: list[int], data: bytes | list[int], vr: str = "US") -> Dataset:
    """Return a lookup table: a descriptor of the VR US or SS, and data of the VR OW (bytes) or US (numbers)."""
    item = Dataset()
    item.add_new("LUTDescriptor", vr, descriptor)
    item.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return item


def item_of(**elements: Any) -> Dataset:
    """Return a data set with these elements, for a sequence."""
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def compressed(path: Path) -> Path:
    """Compress a file with RLE, which keeps all bits of a value."""
    dataset = dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    return path


def jpeg(values: np.ndarray, **options: Any) -> bytes:
    """Return a JPEG frame of values, uint8 (height, width) or (height, width, 3)."""
    file = BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def lossless_jpeg(values: np.ndarray, precision: int) -> bytes:
    """Return a lossless JPEG frame (process 14, selection value 1) of values (height, width) below 2 ** precision."""
    height, width = values.shape
    left = np.concatenate([np.roll(values[:, :1].astype(int), 1, axis=0), values[:, :-1].astype(int)], axis=1)
    left[0, 0] = 2 ** (precision - 1)
    bits = ""
    for difference in (values.astype(int) - left).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:05b}"  # the code of a size is the size itself
        if size:
            bits += f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}"
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    codes = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    frame = bytes([precision]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    segments = ((0xC3, frame), (0xC4, b"\0" + codes), (0xDA, b"\x01\x01\x00\x01\x00\x00"))
    head = b"".join(bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body for code, body in segments)
    return b"\xff\xd8" + head + coded + b"\xff\xd9"


def jpeg_2000(values: np.ndarray, **options: Any) -> bytes:
    """Return a lossless JPEG 2000 frame of values, uint8 or uint16."""
    file = BytesIO()
    Image.fromarray(values).save(file, "JPEG2000", irreversible=False, no_jp2=True, **options)
    return file.getvalue()


def by_pillow(frame: bytes) -> np.ndarray:
    """Return the pixels of a frame as Pillow reads them, colour as RGB."""
    return np.asarray(Image.open(BytesIO(frame)))
