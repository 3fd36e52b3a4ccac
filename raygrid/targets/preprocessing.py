"""raygrid's images as the array that a target takes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raygrid.errors import SpecError
from raygrid.spec import InputSpec

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L


def preprocess(images: Tensor, spec: InputSpec) -> Tensor:
    """Return images (batch, channel, height, width) in [-1, 1] as `spec` declares them, on their device.

    In this order: size, channels, scale, mean and std, blue first, channels last, rounding.
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
    """Return images in [-1, 1] of the size and channels that `spec` declares."""
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
    """Return images in [-1, 1] with black and white where `spec` has them, then less the mean, by the std."""
    pixels = (images + 1) * (0.5 * (spec.white - spec.black)) + spec.black
    if not spec.mean:
        return pixels
    mean, std = (pixels.new_tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (pixels - mean) / std


def to_array(images: Tensor, spec: InputSpec) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Return the preprocessed images as an array of its own, which the target may write to."""
    array: NDArray[np.float32] | NDArray[np.uint8] = preprocess(images.cpu(), spec).numpy().copy()
    return array


def require_input_shape(who: str, takes: tuple[int | None, ...], spec: InputSpec, *, channels: int, image_size: int) -> None:
    """Return nothing if a model file that takes `takes` (None: any) can be shown the images that `spec` declares.

    Raises SpecError that says which field to set.
    """
    size, channels = spec.size or image_size, spec.channels or channels
    shown = (size, size, channels) if spec.channels_last else (channels, size, size)
    if len(takes) != 4:
        raise SpecError(f"{who} takes an array of {len(takes)} axes; expected (batch, {', '.join(map(str, shown))})")
    if any(wanted not in (None, given) for wanted, given in zip(takes[1:], shown, strict=True)):
        raise SpecError(
            f"{who} takes images of {list(takes[1:])}, and would be shown {list(shown)}; set size, channels or "
            "channels_last of its InputSpec"
        )


def require_channels(who: str, spec: InputSpec, channels: int) -> None:
    """Return nothing if mean, std and blue-first fit the channels. Raises SpecError."""
    shown = spec.channels or channels
    if len(spec.mean) not in (0, 1, shown):
        raise SpecError(f"{who} declares {len(spec.mean)} values of mean and std, and is shown {shown} channels")
    if spec.bgr and shown != 3:
        raise SpecError(f"{who} declares bgr, and is shown {shown} channel; set channels=3 of its InputSpec")
