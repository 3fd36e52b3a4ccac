"""Every attack of a study from the fewest gradient evaluations.

An attack repeats, from x_0 = x or a random point of the epsilon-ball around the image x,

    x_{t+1} = clip(x_t + alpha d_t),    d_t = sign(g_t), or g_t / ||g_t||_2 for L2

where clip projects onto the ball and onto [-1, 1]. FGSM is one step with alpha = epsilon (Goodfellow et al. 2015).
With the gradient G(x) = grad_x J(f(x), y) of the loss J of the surrogate f, the attacks differ in g_t:

    PGD      g_t = G(x_t)                                                   Madry et al. 2018
    MI-FGSM  g_t = mu g_{t-1} + G(x_t) / mean |G(x_t)|                      Dong et al. 2018, with the sum for the mean
    NI-FGSM  MI-FGSM with G(x_t + alpha mu g_{t-1})                         Lin et al. 2020
    SI-NI-FGSM  sum over i of the gradients of J(f(x / 2^i), y) for G(x)    Lin et al. 2020
    VMI-FGSM G(x_t) + v_{t-1} for G(x_t) in MI-FGSM,                        Wang and He 2021
             v_t = mean over i of G(x_t + r_i) - G(x_t), r_i uniform in a box of half side `spread` * epsilon
    M-DI²-FGSM, TI-MI-FGSM                                                  see raygrid.attacks.input_transforms

docs/reference/attacks.md lists where each differs from its paper and from its authors' code.

Attacks that start at the image itself share one path until they differ: in the kind of gradient, in its use, in the
step size, or at the first step at which a budget clips. Crafter computes a gradient that several attacks
share once (FGSM at any epsilon needs only PGD's first, and so does the first step of the momentum family). Results are
bitwise identical to crafting each attack alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from raygrid.attacks.gradients import Bfloat16, Scaled, freeze, loss_gradient, named_errors, names_of_damaged
from raygrid.attacks.input_transforms import ImageDraws, diversify, smooth
from raygrid.attacks.plugins import PluginRunner
from raygrid.attacks.steps import (
    ball_clips,
    direction_key,
    finished,
    gradient_key,
    grouped,
    move_key,
    next_point,
    per_image,
    random_point,
)
from raygrid.errors import DataError, SpecError
from raygrid.spec import AttackSpec


@dataclass(frozen=True)
class Obstacles:
    """The images of a batch that one attack left as they were, and two of the reasons; (batch,) bool each.

    raygrid does not see the gradients of a plug-in: for its attacks both reasons are False everywhere.

    Attributes:
        unmoved: the adversarial image equals the clean one.
        zero_gradient: the first gradient is finite and zero everywhere.
        not_finite_gradient: some gradient had a non-finite value. Such a value counts as 0 in its step, so the
            image can have moved all the same.
    """

    unmoved: Tensor
    zero_gradient: Tensor
    not_finite_gradient: Tensor


@dataclass(frozen=True)
class _Path:
    """A point that some attacks have reached together, with their momentum, variance and random streams.

    Attributes:
        zero: (batch,) bool, images whose first gradient is zero everywhere.
        not_finite: (batch,) bool, images that had a gradient with non-finite values. Updated in place.
        momentum: accumulated direction, None before the first step.
        variance: VMI's correction of the next gradient, None before the first step.
        draws: streams of random numbers by purpose.
    """

    point: Tensor
    attacks: list[AttackSpec]
    zero: Tensor
    not_finite: Tensor
    momentum: Tensor | None = None
    variance: Scaled | None = None
    draws: dict[str, ImageDraws] = field(default_factory=dict)


class Crafter:
    """One surrogate, ready to be attacked through.

    Attributes:
        num_gradients: gradient evaluations per image so far.
        zero_gradients: (batch,) bool of the last `craft`: images whose first gradient is finite and zero everywhere,
            for every attack that is not a plug-in.
        obstacles: of the last `craft`, by attack, each known when its images are.

    Args:
        bfloat16: compute products in bfloat16.
        name: name of the surrogate, for errors.
        trained: the surrogate as it was trained, not folded, or a function that opens it; for plug-ins that need it.
    """

    def __init__(
        self,
        surrogate: nn.Module,
        *,
        bfloat16: bool = False,
        name: str = "",
        trained: nn.Module | Callable[[], nn.Module] | None = None,
    ) -> None:
        self.surrogate = freeze(Bfloat16(surrogate) if bfloat16 else surrogate)
        self._plugins = PluginRunner(self.surrogate, trained, bfloat16=bfloat16)
        self.num_gradients = 0
        self.zero_gradients = torch.zeros(0, dtype=torch.bool)
        self.obstacles: dict[AttackSpec, Obstacles] = {}
        self._who = f"surrogate {name!r}: " if name else ""

    @property
    def notes(self) -> list[str]:
        """Sentences about plug-ins that seem not to have worked, or that changed the surrogate."""
        return self._plugins.notes

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
        A non-finite value of a gradient counts as 0, and `obstacles` has the image.

        Args:
            images: (batch, channel, height, width) in [-1, 1].
            labels: (batch, outputs), 0 or 1.
            seed, image_ids: keys of the random numbers; attacks without random numbers need neither.

        Raises SpecError if an attack draws random numbers and there is not one id per image, and DataError, with the
        surrogate, the attack and the images, if adversarial images are not finite.
        """
        crafted = self._crafted(images, labels, attacks, seed, image_ids)
        if not any(attack.is_plugin for attack in attacks):
            return crafted  # a comparison would keep all images in memory

        def again(network: nn.Module, some: Sequence[AttackSpec], number: int) -> Iterator[tuple[AttackSpec, Tensor]]:
            first = images[:number], labels[:number]
            return Crafter(network).craft(*first, some, seed=seed, image_ids=image_ids[:number])

        return self._plugins.compared(images, crafted, again)

    def _crafted(
        self, images: Tensor, labels: Tensor, attacks: Sequence[AttackSpec], seed: int, image_ids: Sequence[str]
    ) -> Iterator[tuple[AttackSpec, Tensor]]:
        if any(a.draws for a in attacks) and len(image_ids) != len(images):
            raise SpecError(f"{len(image_ids)} image ids for {len(images)} images; attacks that draw need one each")
        own = [a for a in attacks if not a.is_plugin]
        paths = list(_starts(images, own, seed, image_ids))
        self.zero_gradients = torch.full((len(images),), bool(own), device=images.device)
        self.obstacles = {}
        step = 0
        while paths:
            step += 1
            reached: list[_Path] = []
            for path in paths:
                for moved in self._moves(images, labels, path, step):
                    for attack in moved.attacks:
                        if attack.steps == step:
                            yield attack, self._finished(moved, images, attack, image_ids)
                    unfinished = [a for a in moved.attacks if a.steps > step]
                    if unfinished:
                        reached.append(replace(moved, attacks=unfinished))
            paths = reached
        for attack in attacks:
            if attack.is_plugin:
                try:
                    adversarial, num_gradients = self._plugins.run(
                        images, labels, attack, seed=seed, image_ids=image_ids
                    )
                except SpecError as error:
                    raise error.with_context(self._who) from error
                self.num_gradients += num_gradients
                unseen = torch.zeros(len(images), dtype=torch.bool, device=images.device)
                yield attack, self._finished(_Path(adversarial, [attack], unseen, unseen), images, attack, image_ids)

    def _finished(self, path: _Path, images: Tensor, attack: AttackSpec, image_ids: Sequence[str]) -> Tensor:
        """Return the adversarial images of an attack, and keep its obstacles."""
        adversarial = finished(path.point, images, attack)
        if damaged := names_of_damaged(adversarial, image_ids):
            raise DataError(
                f"{self._who}{attack.key}: the adversarial image of {damaged} is not finite; check the surrogate's "
                "weights and that image"
            )
        unmoved = (adversarial == images).all(dim=(1, 2, 3))
        self.obstacles[attack] = Obstacles(unmoved, path.zero, path.not_finite)
        return adversarial

    def _moves(self, images: Tensor, labels: Tensor, path: _Path, step: int) -> Iterator[_Path]:
        """Yield the next path of each group of a path's attacks."""
        for together in grouped(path.attacks, lambda a: gradient_key(a, step)):
            here = replace(path, not_finite=path.not_finite.clone())
            numbers = _diversity_numbers(path, together[0])
            gradient = self._gradient(here, labels, together[0], numbers)
            if step == 1:
                zero = gradient.values.flatten(1).eq(0).all(dim=1) & ~here.not_finite
                self.zero_gradients &= zero
                here = replace(here, zero=zero)
            for alike in grouped(together, direction_key):
                there = replace(here, not_finite=here.not_finite.clone())
                direction, momentum, variance = self._direction(there, labels, alike[0], gradient, numbers, step)
                for group in grouped(alike, lambda a: move_key(a, step)):
                    point = next_point(images, path.point, direction, group[0], clips=ball_clips(group[0], step))
                    yield replace(there, point=point, attacks=group, momentum=momentum, variance=variance)

    def _gradient(self, path: _Path, labels: Tensor, attack: AttackSpec, numbers: Tensor | None) -> Scaled:
        point = path.point
        if attack.nesterov and path.momentum is not None:
            point = point + attack.alpha * attack.momentum * path.momentum
        return self._gradient_at(path, point, labels, attack, numbers)

    def _gradient_at(
        self, path: _Path, point: Tensor, labels: Tensor, attack: AttackSpec, numbers: Tensor | None
    ) -> Scaled:
        """Return the gradient at a point, summed over the scaled copies of SI-NI-FGSM.

        Non-finite values become 0 before a sum spreads them; the path records their images.
        """
        shown = self.surrogate if numbers is None else _Diversified(self.surrogate, numbers, attack.diversity)
        total: Scaled | None = None
        for number in range(attack.scales):
            with named_errors(self.surrogate, f"{attack.key}: "):
                one = loss_gradient(
                    shown,
                    point,
                    labels,
                    targeted=attack.targeted,
                    label_weights=attack.label_weights,
                    contrast=0.5**number,
                )
            self.num_gradients += 1
            one, finite = one.finite_part()
            path.not_finite.logical_or_(~finite)
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
        direction = per_image(direction, direction.abs().mean(dim=(1, 2, 3)))
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
            one = self._gradient_at(path, near, labels, attack, numbers)
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
    for together in grouped(attacks, lambda a: a if a.draws else None):
        attack = together[0]
        purposes = {
            "start": attack.random_start,
            "diversity": attack.diversity > 0,
            "neighbours": attack.neighbours > 0,
        }
        draws = {purpose: ImageDraws(seed, image_ids, purpose) for purpose, wanted in purposes.items() if wanted}
        point = random_point(images, attack, draws["start"]) if attack.random_start else images
        nowhere = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        yield _Path(point, together, nowhere, nowhere, draws=draws)


def _diversity_numbers(path: _Path, attack: AttackSpec) -> Tensor | None:
    """Return the draw of this step, which all its gradients use."""
    return path.draws["diversity"].numbers(4) if attack.diversity else None
