"""Delivery of images as the real system receives them, in 8-bit files: the files limit an attack there, too."""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from raygrid.data.images.scale import GREY_LEVELS_PER_UNIT, to_unit_range
from raygrid.errors import DataError
from raygrid.hashing import digest
from raygrid.spec import TargetSpec

_DICOM_CLASS = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage
_DICOM_WRITER = "2.25.152463297706914206190813418702418391"  # identifies raygrid as the writer of a file


def deliver(images: Tensor, spec: TargetSpec) -> Tensor:
    """Return images (batch, channel, height, width) in [-1, 1] with the loss of the declared file format.

    PNG and uncompressed DICOM keep every grey level, so their only loss is the rounding to levels, and no file is
    written. A JPEG is encoded and decoded in memory.
    """
    if spec.received == "exact":
        return images
    if spec.jpeg_quality is None:
        return ((images + 1) * GREY_LEVELS_PER_UNIT).round_().clamp_(0, 255).div_(GREY_LEVELS_PER_UNIT).sub_(1)
    read = [_read_jpeg(encode(image, spec)) for image in to_levels(images)]
    return to_unit_range(np.stack(read), str(images.device))


def to_levels(images: Tensor) -> NDArray[np.uint8]:
    """Return images in [-1, 1] as grey levels, rounded to nearest: uint8 (batch, height, width, channel).

    Raises DataError if a value is not finite: as a byte it would be black.
    """
    damaged = (~images.isfinite()).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    if damaged:
        raise DataError(
            f"image number {damaged[0]} of a batch has non-finite values, so no file can store it; check the "
            "surrogate that it was crafted through"
        )
    levels = ((images + 1) * GREY_LEVELS_PER_UNIT).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def encode(levels: NDArray[np.uint8], spec: TargetSpec) -> bytes:
    """Return the bytes of an image file from uint8 (height, width, channel): equal bytes for equal images.

    Raises DataError if the format is DICOM and pydicom is not installed.
    """
    if spec.received == "dicom":
        return _dicom(levels, spec)
    picture = Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    file = io.BytesIO()
    if spec.jpeg_quality is None:
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=spec.jpeg_quality)
    return file.getvalue()


def _read_jpeg(content: bytes) -> NDArray[np.uint8]:
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _dicom(levels: NDArray[np.uint8], spec: TargetSpec) -> bytes:
    """Return an uncompressed secondary capture whose window keeps every grey level, without date or random id."""
    try:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, generate_uid
    except ImportError as error:
        raise DataError(
            f"target {spec.label!r} receives DICOM, which needs pydicom; run pip install pydicom"
        ) from error
    height, width, channels = levels.shape
    dataset: Any = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = _DICOM_WRITER  # pydicom's own changes with its version
    dataset.file_meta.ImplementationVersionName = "RAYGRID"
    dataset.SOPClassUID = _DICOM_CLASS
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[digest([height, width]), levels.tobytes().hex()])
    dataset.Modality, dataset.PatientID, dataset.PatientName = "OT", "", ""
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = height, width, channels
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PhotometricInterpretation = "MONOCHROME2" if channels == 1 else "RGB"
    if channels == 1:  # without a window a viewer stretches the range of the image
        dataset.WindowCenter, dataset.WindowWidth = 128, 256
    else:
        dataset.PlanarConfiguration = 0
    pixels = levels.tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)  # an element's length is even
    dataset["PixelData"].VR = "OB"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
