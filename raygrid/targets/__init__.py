"""Classifiers that raygrid did not train, queried the way an attacker's victim is (docs/how-to/targets.md).

A target maps images in [-1, 1] to logits. If its kind has gradients, its network can be a surrogate as well.
"""

from raygrid.targets.checks import check_target as check_target
from raygrid.targets.surrogate import check_surrogate as check_surrogate
from raygrid.targets.surrogate import open_surrogate as open_surrogate
from raygrid.targets.target import ExternalTarget as ExternalTarget
from raygrid.targets.target import open_target as open_target
