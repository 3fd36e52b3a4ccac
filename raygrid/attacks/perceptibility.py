"""Perceptibility: the size of a change of an image, in four measures."""

import torch
from torch import Tensor

_RANGE = 2.0  # from -1 to 1


def perceptibility(images: Tensor, changed: Tensor) -> Tensor:
    """Return the measures of `raygrid.spec.MEASURES` for each changed image against its original, (batch, 4).

    linf, l2: largest change of a value, and Euclidean length of the change, in units of [-1, 1].
    psnr: peak signal-to-noise ratio in dB, 10 log10(2² / mean squared change); infinite for an unchanged image.
    ssim: structural similarity, 1 for an unchanged image (Wang et al. 2004; window of 11 x 11 pixels, mean over
    channels).

    Args:
        images, changed: (batch, channel, height, width) in [-1, 1].
    """
    from pytorch_msssim import ssim  # crafting alone does without it

    change = (changed - images).flatten(1)
    squares = change.double().square().mean(dim=1)
    psnr = 10 * torch.log10(_RANGE**2 / squares)
    similarity = ssim(changed, images, data_range=_RANGE, size_average=False)
    return torch.stack([change.abs().amax(dim=1), change.norm(dim=1), psnr.to(change.dtype), similarity], dim=1)
