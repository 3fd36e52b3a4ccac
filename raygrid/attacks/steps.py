"""One step of an attack, its budget, and the fields in which attacks that share a path part.

Results of attacks that share are bitwise identical to those of each attack alone.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from raygrid.attacks.input_transforms import ImageDraws
from raygrid.data.images.scale import round_to_levels
from raygrid.spec import AttackSpec

_CLIP_TOLERANCE = 1e-9  # of epsilon: 3 x 0.01 is not 0.03 in binary
_Key = Callable[[AttackSpec], Hashable]


def random_point(images: Tensor, attack: AttackSpec, draws: ImageDraws) -> Tensor:
    """Return a point of the epsilon-ball around each image, uniform in volume, clipped to [-1, 1]."""
    if attack.norm == "linf":
        change = draws.uniform(images) * attack.epsilon
    else:
        direction = draws.normal(images)
        num_values = images[0].numel()
        radius = draws.numbers(1).to(images.device, images.dtype)[:, 0] ** (1 / num_values) * attack.epsilon
        change = per_image(direction, direction.flatten(1).norm(dim=1)) * radius.view(-1, 1, 1, 1)
    return (images + change).clamp_(-1, 1)


def grouped(attacks: Sequence[AttackSpec], key: _Key) -> list[list[AttackSpec]]:
    """Return the attacks in groups of equal keys, in their order."""
    groups: dict[Hashable, list[AttackSpec]] = defaultdict(list)
    for attack in attacks:
        groups[key(attack)].append(attack)
    return list(groups.values())


def gradient_key(attack: AttackSpec, step: int) -> Hashable:
    """Return the fields in which gradients at one point differ."""
    lookahead = attack.alpha * attack.momentum if attack.nesterov and step > 1 else 0.0
    return (lookahead, attack.diversity, attack.scales, attack.targeted, attack.label_weights)


def direction_key(attack: AttackSpec) -> Hashable:
    """Return the fields in which the uses of one gradient differ."""
    return (attack.momentum, attack.smoothing, attack.neighbours)


def move_key(attack: AttackSpec, step: int) -> Hashable:
    """Return the fields in which steps along one direction differ."""
    # the lookahead of NI-FGSM separates attacks at the next gradient
    return (attack.norm, attack.alpha, attack.epsilon if ball_clips(attack, step) else None)


def ball_clips(attack: AttackSpec, step: int) -> bool:
    """Return whether the ball can clip a step, counted from 1."""
    # while step * alpha <= epsilon the ball cannot clip; clipping all the same would only round
    return attack.random_start or step * attack.alpha > attack.epsilon * (1 + _CLIP_TOLERANCE)


def next_point(images: Tensor, point: Tensor, direction: Tensor, attack: AttackSpec, *, clips: bool) -> Tensor:
    """Return the next point of one attack."""
    if attack.norm == "linf":
        moved = point + attack.alpha * direction.sign()
        if clips:
            moved = torch.minimum(torch.maximum(moved, images - attack.epsilon), images + attack.epsilon)
        return moved.clamp_(-1, 1)
    # scaled first: squares of a tiny gradient would vanish
    direction = per_image(direction, direction.abs().amax(dim=(1, 2, 3)))
    moved = point + attack.alpha * per_image(direction, direction.flatten(1).norm(dim=1))
    if clips:
        change = moved - images
        length = change.flatten(1).norm(dim=1)
        moved = images + change * (attack.epsilon / length.clamp(min=attack.epsilon)).view(-1, 1, 1, 1)
    return moved.clamp_(-1, 1)


def per_image(values: Tensor, divisor: Tensor) -> Tensor:
    """Return each image's values divided by its divisor; an image with divisor 0 stays zero."""
    return values / torch.where(divisor > 0, divisor, 1).view(-1, 1, 1, 1)


def finished(point: Tensor, images: Tensor, attack: AttackSpec) -> Tensor:
    """Return the adversarial images of an attack that ends at a point."""
    return round_to_levels(point, images, attack.epsilon) if attack.eight_bit else point
