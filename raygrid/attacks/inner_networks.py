"""Networks inside the wrappers that raygrid puts around them, where layers have the names of their own library."""

from typing import Any

from torch import nn

_FOLDED = "raygrid_folded"


def inner_networks(surrogate: nn.Module) -> list[nn.Module]:
    """Return the networks inside a surrogate, without the wrappers around them.

    One network, or one for each member of an ensemble. Layers have the names of the network's own library, such as
    `layer2` in a ResNet of timm, and `network.get_submodule("layer2")` is the module to hook.
    """
    wrapped: Any = getattr(surrogate, "wraps", None)  # the name of the attribute with the wrapped network, or networks
    if not isinstance(wrapped, str):
        return [surrogate]
    inside = getattr(surrogate, wrapped)
    members = list(inside) if isinstance(inside, nn.ModuleList) else [inside]
    return [network for member in members for network in inner_networks(member)]


def mark_as_folded(network: nn.Module) -> None:
    """Mark a network whose layers are no longer those that were trained."""
    setattr(network, _FOLDED, True)


def is_folded(surrogate: nn.Module) -> bool:
    """Whether some layers of a surrogate are no longer those that were trained."""
    return any(getattr(module, _FOLDED, False) for module in surrogate.modules())
