"""Conversion of raygrid's images to the array that a target takes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raygrid.errors import SpecError
from raygrid.spec import InputSpec

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L


def preprocess(images: Tensor, spec: InputSpec) -> Tensor:
    """Return images (batch, channel, height, width) in [-1, 1] in the form that `spec` declares, on the same device.

    Order: size, channels, scale, mean and std, blue first, channels last, rounding.
    """
    pixels = normalize(resize(images, spec), spec)
    if spec.bgr:
        pixels = pixels.flip(1)
    if spec.channels_last:
        pixels = pixels.permute(0, 2, 3, 1)
    if spec.dtype == "uint8":
        pixels = pixels.round().clamp(0, 255).to(torch.uint8)
    return pixels.contiguous()


def resize(images: Tensor, spec: InputSpec) -> Tensor:
    """Return images in [-1, 1] with the size and the number of channels that `spec` declares."""
    if spec.size and tuple(images.shape[-2:]) != (spec.size, spec.size):
        size = (spec.size, spec.size)
        # antialias averages over all source pixels where the image shrinks, as Pillow and OpenCV's INTER_AREA do
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    if spec.channels == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if spec.channels == 1 and images.shape[1] == 3:
        return (images * images.new_tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    return images


def normalize(images: Tensor, spec: InputSpec) -> Tensor:
    """Return images in [-1, 1] scaled to the black and white of `spec`, then normalized by its mean and std."""
    pixels = (images + 1) * (0.5 * (spec.white - spec.black)) + spec.black
    if not spec.mean:
        return pixels
    mean, std = (pixels.new_tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (pixels - mean) / std


def to_array(images: Tensor, spec: InputSpec) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Return the preprocessed images as a new array, which the target may overwrite."""
    array: NDArray[np.float32] | NDArray[np.uint8] = preprocess(images.cpu(), spec).numpy().copy()
    return array


def require_input_shape(
    who: str, expected: tuple[int | None, ...], spec: InputSpec, *, channels: int, image_size: int
) -> None:
    """Check the input shape of a model file against the images that `spec` declares.

    Args:
        expected: input shape in the file; None is any number.
        channels, image_size: of the study's images.

    Raises SpecError, which names the fields to set, if the shapes differ.
    """
    size, channels = spec.size or image_size, spec.channels or channels
    given = (size, size, channels) if spec.channels_last else (channels, size, size)
    if len(expected) != 4:
        raise SpecError(f"{who} takes an array of {len(expected)} axes; expected (batch, {', '.join(map(str, given))})")
    if any(axis not in (None, length) for axis, length in zip(expected[1:], given, strict=True)):
        raise SpecError(
            f"{who} takes images of shape {list(expected[1:])}, but its InputSpec makes {list(given)}; set size, "
            "channels or channels_last of the InputSpec"
        )


def require_channels(who: str, spec: InputSpec, channels: int) -> None:
    """Check that `mean`, `std` and `bgr` fit the number of channels. Raises SpecError if they do not."""
    num_channels = spec.channels or channels
    if len(spec.mean) not in (0, 1, num_channels):
        raise SpecError(
            f"{who}: mean and std have {len(spec.mean)} values, but the images have {num_channels} channels; declare "
            "one value, or one per channel"
        )
    if spec.bgr and num_channels != 3:
        raise SpecError(f"{who}: bgr needs 3 channels, but the images have {num_channels}; set channels=3 of InputSpec")
