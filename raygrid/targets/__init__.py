"""Classifiers that raygrid did not train, asked as an attacker's victim would be (docs/how-to/targets.md).

target_identity   what stands for a target in a signature
open_target       the target as a network: images in [-1, 1] -> logits
check_target      whether it answers as it was declared to, asked before anything starts
open_surrogate    a network that can be attacked through, too: its logits have gradients
check_surrogate   whether they have
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raygrid.store.target_identity import target_identity as target_identity

if TYPE_CHECKING:
    from raygrid.targets.checks import check_target as check_target
    from raygrid.targets.surrogate import check_surrogate as check_surrogate
    from raygrid.targets.surrogate import open_surrogate as open_surrogate
    from raygrid.targets.target import ExternalTarget as ExternalTarget
    from raygrid.targets.target import open_target as open_target

# PyTorch takes seconds to import; asking what stands for a target needs none of it. There is no __all__: the reference
# lists the modules below instead of names that are not there yet.
_LATER = {
    "ExternalTarget": "raygrid.targets.target",
    "check_surrogate": "raygrid.targets.surrogate",
    "check_target": "raygrid.targets.checks",
    "open_surrogate": "raygrid.targets.surrogate",
    "open_target": "raygrid.targets.target",
}


def __getattr__(name: str) -> Any:
    """Return a public name whose module is imported when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
