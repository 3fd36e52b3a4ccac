"""Attacks of other packages, found by entry point; their images and their side effects are checked.

An entry point of the group `raygrid.attacks` names a function

    craft(surrogate, images, labels, attack) -> adversarial images

with contiguous images (batch, channel, height, width) in [-1, 1], labels (batch, outputs) of 0 and 1, a frozen
surrogate that gives logits, and the `AttackSpec`. It may have the keywords `image_ids` (of the images) and `seed` (of
the study). The global random generators are seeded by study, attack and images, so that a block of images repeats.
"""

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from raygrid.attacks.class_attacks import ClassAttack as ClassAttack
from raygrid.attacks.class_attacks import run_class_attack as run_class_attack
from raygrid.attacks.gradients import Bfloat16, freeze, names_of_damaged
from raygrid.attacks.inner_networks import is_folded
from raygrid.attacks.plugin_guard import NetworkState, seeded
from raygrid.errors import RaygridError, SpecError, in_one_line, one_line
from raygrid.spec import AttackSpec, plugins

_TOLERANCE = 1e-5  # of rounding in a plug-in that works in another range
# of the changed values: rounding, which steps amplify, leaves 81 to 100 % of two equal MI-FGSM on untrained networks;
# different built-in attacks share 65 % at most
_SAME_SHARE = 0.75
_NEEDS = "needs_trained_network"
_FIRST = 2  # images of a block

# crafts attacks for the first images, as many as the number says, through a network
Again: TypeAlias = Callable[[nn.Module, Sequence[AttackSpec], int], Iterable[tuple[AttackSpec, Tensor]]]

Craft = TypeVar("Craft", bound=Callable[..., Any])


class PluginWarning(UserWarning):
    """An attack of another package probably did not work, or changed the surrogate, which raygrid restored."""


def needs_trained_network(craft: Craft) -> Craft:
    """Mark the function of a plug-in: it gets the network as it was trained, with all its layers, instead of folded.

    For attacks that hook layers, change skip connections, or take second derivatives. `inner_networks` gives the
    networks whose layers have names.
    """
    setattr(craft, _NEEDS, True)
    return craft


class PluginRunner:
    """Runs plug-ins through one surrogate.

    Args:
        surrogate: frozen, images to logits.
        trained: the same network as it was trained, or a function that opens it when a plug-in first needs it; by
            default the surrogate itself, if it is not folded.
        bfloat16: whether the trained network computes products in bfloat16, too.

    Attributes:
        notes: sentences about plug-ins that seem not to have worked, or changed the surrogate.
    """

    def __init__(
        self, surrogate: nn.Module, trained: nn.Module | Callable[[], nn.Module] | None, *, bfloat16: bool = False
    ) -> None:
        self.notes: list[str] = []
        self._surrogate, self._trained, self._bfloat16 = surrogate, trained, bfloat16
        self._opened: nn.Module | None = None

    def run(
        self, images: Tensor, labels: Tensor, attack: AttackSpec, *, seed: int = 0, image_ids: Sequence[str] = ()
    ) -> tuple[Tensor, int]:
        """Return the adversarial images of another package's attack, and the number of forward passes with a gradient.

        Args:
            images: (batch, channel, height, width) in [-1, 1].
            labels: (batch, outputs), 0 or 1.
            seed, image_ids: keys of the random numbers.

        Raises SpecError if the plug-in raises an exception, if its result has another shape, is not finite, or leaves
        the range or the budget, or if it needs the trained network and there is none.
        """
        craft = plugins()[attack.base].load()
        network = self._network(attack) if _needs(attack) else self._surrogate
        state, passes = NetworkState(network), 0

        def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            nonlocal passes
            if not inputs:
                return inputs  # given by keyword, and passed on as they are
            passes += torch.is_grad_enabled() and inputs[0].requires_grad
            return (_Laid.apply(inputs[0]), *inputs[1:])

        handle = network.register_forward_pre_hook(enter)
        try:
            with seeded(seed, attack.key, image_ids):
                # copies, because a plug-in may change them in place
                given = [t.clone(memory_format=torch.contiguous_format) for t in (images, labels)]
                with _named(attack):
                    adversarial = craft(network, *given, attack, **_keywords(craft, seed, image_ids))
        finally:
            handle.remove()
            changes = state.restore()
        if changes:
            others = f" and made {len(changes) - 1} more changes" if len(changes) > 1 else ""
            self._note(f"the plug-in attack {attack.base!r} {changes[0]}{others}; raygrid restored the surrogate")
        _require_limits(images, adversarial, attack, image_ids)
        return adversarial.detach().to(images.dtype).clamp(-1, 1), passes

    def compared(
        self, images: Tensor, crafted: Iterable[tuple[AttackSpec, Tensor]], again: Again
    ) -> Iterator[tuple[AttackSpec, Tensor]]:
        """Yield crafted images as they come; note plug-ins whose images equal clean or another attack's images.

        Rounding, which attacks amplify, differs between the folded and the trained network. A plug-in that gets the
        trained one is therefore compared with attacks through the trained one, crafted again for the first images.

        Args:
            again: crafts attacks for the first images through a network.
        """
        earlier: dict[AttackSpec, Tensor] = {}
        for attack, adversarial in crafted:
            if attack.is_plugin:
                self._compare(images, attack, adversarial, self._plain(attack, earlier, again))
            else:
                earlier[attack] = adversarial
            yield attack, adversarial

    def _plain(self, attack: AttackSpec, earlier: dict[AttackSpec, Tensor], again: Again) -> dict[AttackSpec, Tensor]:
        """Return the images of the built-in attacks with the budget of a plug-in, through the same network."""
        alike = {a: made for a, made in earlier.items() if (a.norm, a.epsilon) == (attack.norm, attack.epsilon)}
        if not alike or self._opened in (None, self._surrogate) or not _needs(attack):
            return alike
        assert self._opened is not None  # mypy does not see it above
        return dict(again(self._opened, list(alike), _FIRST))

    def _compare(
        self, images: Tensor, attack: AttackSpec, adversarial: Tensor, plain: dict[AttackSpec, Tensor]
    ) -> None:
        moved = (adversarial - images).abs() > _TOLERANCE
        if not moved.any():
            self._note(f"the plug-in attack {attack.name!r} left every image unchanged; check its options")
            return
        for other, theirs in plain.items():
            first = slice(len(theirs))
            either = moved[first] | ((theirs - images[first]).abs() > _TOLERANCE)
            same = ((adversarial[first] - theirs).abs() <= _TOLERANCE)[either].double().mean().item()
            if same >= _SAME_SHARE:
                self._note(
                    f"the plug-in attack {attack.name!r} resembles {other.name}: {_SAME_SHARE:.0%} or "
                    "more of the changed values are equal; check that its hooks find their layers"
                )

    def _network(self, attack: AttackSpec) -> nn.Module:
        """Return the trained network. Raises SpecError if only a folded one is there."""
        if self._opened is None and self._trained is None:
            if is_folded(self._surrogate):
                raise SpecError(
                    f"the plug-in attack {attack.base!r} needs the network as it was trained, and the surrogate is "
                    "folded; give Crafter the trained network, too: Crafter(surrogate, trained=network)"
                )
            self._opened = self._surrogate
        elif self._opened is None and self._trained is not None:
            opened = self._trained if isinstance(self._trained, nn.Module) else self._trained()
            self._opened = freeze(Bfloat16(opened) if self._bfloat16 else opened)
        assert self._opened is not None  # opened, or refused
        return self._opened

    def _note(self, text: str) -> None:
        sentence = one_line(text)
        if sentence not in self.notes:
            self.notes.append(sentence)
            warnings.warn(PluginWarning(sentence), stacklevel=2)


@contextmanager
def _named(attack: AttackSpec) -> Iterator[None]:
    """Turn exceptions of a plug-in, and even exits, into SpecError on one line; a RaygridError keeps its class."""
    who = f"the plug-in attack {attack.base!r}"
    try:
        yield
    except RaygridError as error:
        raise error.with_context(f"{who}: ") from error
    except (Exception, SystemExit) as error:  # foreign code can raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = in_one_line(error)
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise SpecError(f"{who} raised {text} ({place}); fix the package that provides it") from error


def _needs(attack: AttackSpec) -> bool:
    """Whether a plug-in asks for the trained network."""
    return bool(getattr(plugins()[attack.base].load(), _NEEDS, False))


class _Laid(torch.autograd.Function):
    """Images laid out as raygrid's own attacks pass them to a network; their gradient comes back contiguous.

    It can be used inside torch.func's transforms, too.
    """

    @staticmethod
    def forward(images: Tensor) -> Tensor:
        if images.dim() != 4 or images.is_contiguous(memory_format=torch.channels_last):
            return images.view_as(images)
        return images.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep nothing: the derivative is the identity."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.view_as(tangent)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], images: Tensor) -> tuple[Tensor, int | None]:
        return images.view_as(images), in_dims[0]


def _keywords(craft: Callable[..., Any], seed: int, image_ids: Sequence[str]) -> dict[str, Any]:
    """Return the optional keywords that a plug-in's function has."""
    try:
        parameters = inspect.signature(craft).parameters
    except (TypeError, ValueError):  # a function without a signature, as in some extension modules
        return {}
    offered = {"seed": seed, "image_ids": tuple(image_ids)}
    every = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {name: value for name, value in offered.items() if every or name in parameters}


def _require_limits(images: Tensor, adversarial: Any, attack: AttackSpec, image_ids: Sequence[str]) -> None:
    def require(claim: bool, got: str) -> None:
        if not claim:
            raise SpecError(f"the plug-in attack {attack.base!r} {got}; fix the package that provides it")

    require(isinstance(adversarial, Tensor), f"gave {type(adversarial).__name__}; expected a tensor of images")
    require(adversarial.shape == images.shape, f"gave images of shape {tuple(adversarial.shape)}")
    kind, place = (str(word).removeprefix("torch.") for word in (adversarial.dtype, adversarial.device))
    require(
        adversarial.dtype.is_floating_point and adversarial.layout == torch.strided,
        f"gave a tensor of {kind} ({str(adversarial.layout).removeprefix('torch.')}); expected dense floats",
    )
    require(adversarial.device == images.device, f"gave images on {place}; expected them on {images.device}")
    damaged = names_of_damaged(adversarial, image_ids)
    require(not damaged, f"gave non-finite values for image {damaged}")
    require(bool((adversarial.abs() <= 1 + _TOLERANCE).all()), "left the range [-1, 1]")
    change = (adversarial - images).flatten(1)
    length = (change.norm(dim=1) if attack.norm == "l2" else change.abs().amax(dim=1)).max().item()
    require(length <= attack.epsilon + _TOLERANCE, f"left its budget: {length:.6g} instead of {attack.epsilon:g}")
