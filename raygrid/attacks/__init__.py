"""Perturbations through a surrogate, and their controls; plain PyTorch."""

from raygrid.attacks.class_attacks import run_class_attack as run_class_attack
from raygrid.attacks.class_attacks import transfer_attack as transfer_attack
from raygrid.attacks.controls import control as control
from raygrid.attacks.controls import shuffles as shuffles
from raygrid.attacks.crafter import Crafter as Crafter
from raygrid.attacks.crafter import Obstacles as Obstacles
from raygrid.attacks.ensemble import Ensemble as Ensemble
from raygrid.attacks.gradients import Bfloat16 as Bfloat16
from raygrid.attacks.gradients import Scaled as Scaled
from raygrid.attacks.gradients import freeze as freeze
from raygrid.attacks.gradients import logit_seed as logit_seed
from raygrid.attacks.gradients import loss_gradient as loss_gradient
from raygrid.attacks.inner_networks import inner_networks as inner_networks
from raygrid.attacks.plugins import PluginWarning as PluginWarning
from raygrid.attacks.plugins import needs_trained_network as needs_trained_network
