"""Every attack of a study from the fewest gradient evaluations.

An attack repeats, from x_0 = x or a random point of the epsilon-ball around the image x,

    x_{t+1} = clip(x_t + alpha d_t),    d_t = sign(g_t), or g_t / ||g_t||_2 for L2

where clip projects onto the ball and onto [-1, 1]. FGSM is one step with alpha = epsilon (Goodfellow et al. 2015).
With the gradient G(x) = grad_x J(f(x), y) of the loss J of the surrogate f, the attacks differ in g_t:

    PGD      g_t = G(x_t)                                                   Madry et al. 2018
    MI-FGSM  g_t = mu g_{t-1} + G(x_t) / mean |G(x_t)|                      Dong et al. 2018, with the sum for the mean
    NI-FGSM  MI-FGSM with G(x_t + alpha mu g_{t-1})                         Lin et al. 2020
    SI-FGSM  sum over i of the gradients of J(f(x_t / 2^i), y) for G(x_t)   Lin et al. 2020
    VMI-FGSM G(x_t) + v_{t-1} for G(x_t) in MI-FGSM,                        Wang and He 2021
             v_t = mean over i of G(x_t + r_i) - G(x_t), r_i uniform in a box of half side `spread` * epsilon
    DI-FGSM, TI-FGSM                                                        see raygrid.attacks.input_transforms

Attacks that start at the image itself share one path until they differ: in the kind of gradient, in its use, in the
step size, or at the first step at which a budget clips. Crafter computes a gradient that several attacks
share once (FGSM at any epsilon needs only PGD's first, and so does the first step of the momentum family). Results are
bitwise identical to crafting each attack alone.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from raygrid.attacks.gradients import Bfloat16, Scaled, freeze, loss_gradient
from raygrid.attacks.input_transforms import ImageDraws, diversify, smooth
from raygrid.attacks.plugins import run_plugin
from raygrid.data.images.scale import round_to_levels
from raygrid.errors import SpecError
from raygrid.spec import AttackSpec

_CLIP_TOLERANCE = 1e-9  # of epsilon: 3 x 0.01 is not 0.03 in binary
_Key = Callable[[AttackSpec], Hashable]


@dataclass(frozen=True)
class _Path:
    """A point that some attacks have reached together, with their momentum, variance and random streams.

    Attributes:
        momentum: accumulated direction, None before the first step.
        variance: VMI's correction of the next gradient, None before the first step.
        draws: streams of random numbers by purpose.
    """

    point: Tensor
    attacks: list[AttackSpec]
    momentum: Tensor | None = None
    variance: Scaled | None = None
    draws: dict[str, ImageDraws] = field(default_factory=dict)


class Crafter:
    """One surrogate, ready to be attacked through.

    Attributes:
        num_gradients: gradient evaluations per image so far.
        zero_gradients: (batch,) bool of the last `craft`: images whose first gradient is zero everywhere.
    """

    def __init__(self, surrogate: nn.Module, *, bfloat16: bool = False) -> None:
        self.surrogate = freeze(Bfloat16(surrogate) if bfloat16 else surrogate)
        self.num_gradients = 0
        self.zero_gradients = torch.zeros(0, dtype=torch.bool)

    def craft(
        self,
        images: Tensor,
        labels: Tensor,
        attacks: Sequence[AttackSpec],
        *,
        seed: int = 0,
        image_ids: Sequence[str] = (),
    ) -> Iterator[tuple[AttackSpec, Tensor]]:
        """Yield (attack, adversarial images) for every attack, each as soon as it is finished.

        A step that cannot leave the epsilon-ball is not clipped to it. Adversarial images have the shape of `images`.

        Args:
            images: (batch, channel, height, width) in [-1, 1].
            labels: (batch, outputs), 0 or 1.
            seed, image_ids: keys of the random numbers; attacks without random numbers need neither.

        Raises SpecError if an attack draws random numbers and there is not one id per image.
        """
        if any(a.draws for a in attacks) and len(image_ids) != len(images):
            raise SpecError(f"{len(image_ids)} image ids for {len(images)} images; attacks that draw need one each")
        own = [a for a in attacks if not a.is_plugin]
        paths = list(_starts(images, own, seed, image_ids))
        self.zero_gradients = torch.full((len(images),), bool(own), device=images.device)
        step = 0
        while paths:
            step += 1
            reached: list[_Path] = []
            for path in paths:
                for moved in self._moves(images, labels, path, step):
                    for attack in moved.attacks:
                        if attack.steps == step:
                            yield attack, _finished(moved.point, images, attack)
                    unfinished = [a for a in moved.attacks if a.steps > step]
                    if unfinished:
                        reached.append(_Path(moved.point, unfinished, moved.momentum, moved.variance, moved.draws))
            paths = reached
        for attack in attacks:
            if attack.is_plugin:
                adversarial, num_gradients = run_plugin(self.surrogate, images, labels, attack)
                self.num_gradients += num_gradients
                yield attack, adversarial

    def _moves(self, images: Tensor, labels: Tensor, path: _Path, step: int) -> Iterator[_Path]:
        """Yield the next path of each group of a path's attacks."""
        for together in _grouped(path.attacks, lambda a: _gradient_key(a, step)):
            numbers = _diversity_numbers(path, together[0])
            gradient = self._gradient(path, labels, together[0], numbers)
            if step == 1:
                self.zero_gradients &= gradient.values.flatten(1).eq(0).all(dim=1)
            for alike in _grouped(together, _direction_key):
                direction, momentum, variance = self._direction(path, labels, alike[0], gradient, numbers, step)
                for group in _grouped(alike, lambda a: _move_key(a, step)):
                    point = _moved(images, path.point, direction, group[0], clips=_clips(group[0], step))
                    yield _Path(point, group, momentum, variance, path.draws)

    def _gradient(self, path: _Path, labels: Tensor, attack: AttackSpec, numbers: Tensor | None) -> Scaled:
        point = path.point
        if attack.nesterov and path.momentum is not None:
            point = point + attack.alpha * attack.momentum * path.momentum
        return self._gradient_at(point, labels, attack, numbers)

    def _gradient_at(self, point: Tensor, labels: Tensor, attack: AttackSpec, numbers: Tensor | None) -> Scaled:
        """Return the gradient at a point, summed over the scaled copies of SI-FGSM."""
        shown = self.surrogate if numbers is None else _Diversified(self.surrogate, numbers, attack.diversity)
        total: Scaled | None = None
        for number in range(attack.scales):
            one = loss_gradient(
                shown,
                point,
                labels,
                targeted=attack.targeted,
                label_weights=attack.label_weights,
                contrast=0.5**number,
            )
            self.num_gradients += 1
            total = one if total is None else total.plus(one)
        assert total is not None  # there is at least one scale
        return total

    def _direction(
        self, path: _Path, labels: Tensor, attack: AttackSpec, gradient: Scaled, numbers: Tensor | None, step: int
    ) -> tuple[Tensor, Tensor | None, Scaled | None]:
        """Return the direction of the step, and the momentum and variance of the next."""
        used = gradient if path.variance is None else gradient.plus(path.variance)
        variance = None
        if attack.neighbours and step < attack.steps:  # nothing reads the last one
            variance = self._variance(path, labels, attack, gradient, numbers)
        direction = used.values if attack.smoothing == 1 else smooth(used.values, attack.smoothing)
        if not attack.momentum:
            return direction, None, variance
        direction = _per_image(direction, direction.abs().mean(dim=(1, 2, 3)))
        if path.momentum is not None:
            direction = attack.momentum * path.momentum + direction
        return direction, direction, variance

    def _variance(
        self, path: _Path, labels: Tensor, attack: AttackSpec, gradient: Scaled, numbers: Tensor | None
    ) -> Scaled:
        """Return the mean gradient at random neighbours of the point, less its own gradient."""
        total: Scaled | None = None
        for _ in range(attack.neighbours):
            near = path.point + path.draws["neighbours"].uniform(path.point) * (attack.spread * attack.epsilon)
            one = self._gradient_at(near, labels, attack, numbers)
            total = one if total is None else total.plus(one)
        assert total is not None  # asked only of attacks with neighbours
        return total.times(1 / attack.neighbours).plus(gradient, factor=-1)


class _Diversified(nn.Module):
    """A network behind one draw of `diversify`."""

    def __init__(self, network: nn.Module, numbers: Tensor, probability: float) -> None:
        super().__init__()
        self._network, self._numbers, self._probability = network, numbers, probability

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self._network(diversify(images, self._numbers, self._probability))
        return logits


def _starts(images: Tensor, attacks: Sequence[AttackSpec], seed: int, image_ids: Sequence[str]) -> Iterator[_Path]:
    """Yield the first points: the images themselves, and the points that some attacks draw.

    An attack that draws has a path of its own, so that its numbers do not depend on the other attacks.
    """
    for together in _grouped(attacks, lambda a: a if a.draws else None):
        attack = together[0]
        purposes = {
            "start": attack.random_start,
            "diversity": attack.diversity > 0,
            "neighbours": attack.neighbours > 0,
        }
        draws = {purpose: ImageDraws(seed, image_ids, purpose) for purpose, wanted in purposes.items() if wanted}
        point = _random_point(images, attack, draws["start"]) if attack.random_start else images
        yield _Path(point, together, draws=draws)


def _random_point(images: Tensor, attack: AttackSpec, draws: ImageDraws) -> Tensor:
    """Return a point of the epsilon-ball around each image, uniform in volume, clipped to [-1, 1]."""
    if attack.norm == "linf":
        change = draws.uniform(images) * attack.epsilon
    else:
        direction = draws.normal(images)
        num_values = images[0].numel()
        radius = draws.numbers(1).to(images.device, images.dtype)[:, 0] ** (1 / num_values) * attack.epsilon
        change = _per_image(direction, direction.flatten(1).norm(dim=1)) * radius.view(-1, 1, 1, 1)
    return (images + change).clamp_(-1, 1)


def _diversity_numbers(path: _Path, attack: AttackSpec) -> Tensor | None:
    """Return the draw of this step, which all its gradients use."""
    return path.draws["diversity"].numbers(4) if attack.diversity else None


def _grouped(attacks: Sequence[AttackSpec], key: _Key) -> list[list[AttackSpec]]:
    groups: dict[Hashable, list[AttackSpec]] = defaultdict(list)
    for attack in attacks:
        groups[key(attack)].append(attack)
    return list(groups.values())


def _gradient_key(attack: AttackSpec, step: int) -> Hashable:
    """Return the fields in which gradients at one point differ."""
    lookahead = attack.alpha * attack.momentum if attack.nesterov and step > 1 else 0.0
    return (lookahead, attack.diversity, attack.scales, attack.targeted, attack.label_weights)


def _direction_key(attack: AttackSpec) -> Hashable:
    """Return the fields in which the uses of one gradient differ."""
    return (attack.momentum, attack.smoothing, attack.neighbours)


def _move_key(attack: AttackSpec, step: int) -> Hashable:
    """Return the fields in which steps along one direction differ."""
    # the lookahead of NI-FGSM separates attacks at the next gradient
    return (attack.norm, attack.alpha, attack.epsilon if _clips(attack, step) else None)


def _clips(attack: AttackSpec, step: int) -> bool:
    # while step * alpha <= epsilon the ball cannot clip; clipping all the same would only round
    return attack.random_start or step * attack.alpha > attack.epsilon * (1 + _CLIP_TOLERANCE)


def _moved(images: Tensor, point: Tensor, direction: Tensor, attack: AttackSpec, *, clips: bool) -> Tensor:
    """Return the next point of one attack."""
    if attack.norm == "linf":
        moved = point + attack.alpha * direction.sign()
        if clips:
            moved = torch.minimum(torch.maximum(moved, images - attack.epsilon), images + attack.epsilon)
        return moved.clamp_(-1, 1)
    # scaled first: squares of a tiny gradient would vanish
    direction = _per_image(direction, direction.abs().amax(dim=(1, 2, 3)))
    moved = point + attack.alpha * _per_image(direction, direction.flatten(1).norm(dim=1))
    if clips:
        change = moved - images
        length = change.flatten(1).norm(dim=1)
        moved = images + change * (attack.epsilon / length.clamp(min=attack.epsilon)).view(-1, 1, 1, 1)
    return moved.clamp_(-1, 1)


def _per_image(values: Tensor, divisor: Tensor) -> Tensor:
    """Return each image's values divided by its divisor; an image with divisor 0 stays zero."""
    return values / torch.where(divisor > 0, divisor, 1).view(-1, 1, 1, 1)


def _finished(point: Tensor, images: Tensor, attack: AttackSpec) -> Tensor:
    return round_to_levels(point, images, attack.epsilon) if attack.eight_bit else point
