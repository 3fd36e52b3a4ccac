"""Perturbations through a surrogate, and their controls; plain PyTorch."""

from raygrid.attacks.controls import control, shuffles
from raygrid.attacks.crafter import Crafter
from raygrid.attacks.ensemble import Ensemble
from raygrid.attacks.gradients import Bfloat16, Scaled, freeze, logit_seed, loss_gradient
from raygrid.attacks.plugins import run_class_attack

__all__ = [
    "Bfloat16",
    "Crafter",
    "Ensemble",
    "Scaled",
    "control",
    "freeze",
    "logit_seed",
    "loss_gradient",
    "run_class_attack",
    "shuffles",
]
