"""Attacks of torchattacks and TransferAttack as plug-ins: which run unchanged, what they need, and how far they get.

Two small networks learn phantom tissue patches. Each attack gets the folded surrogate first, and the trained network if
it fails or does nothing. Its change of the surrogate's loss is given as a multiple of the change by FGSM at the same
budget. Methods `cuda` do nothing here, because some attacks call them on every device.
"""

import argparse
import contextlib
import importlib
import io
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from common import RESULTS, write_result
from torch import Tensor, nn
from torch.nn import functional as F

from raygrid.attacks import Crafter, needs_trained_network, run_class_attack, transfer_attack
from raygrid.attacks.plugins import ClassAttack
from raygrid.data.datasets import open_dataset
from raygrid.data.images.scale import to_unit_range
from raygrid.models.architectures import build_classifier
from raygrid.models.epoch import start, step
from raygrid.models.folding import fold
from raygrid.models.numerics import set_numerics
from raygrid.spec import AttackSpec, DatasetSpec, Recipe, attack

_RESULT = RESULTS / "plugin_attacks.json"
ARCHITECTURES = {"resnet18": "layer2", "densenet121": "features denseblock2"}  # and the layer for feature-level attacks
SIDE, NUM_TRAINING, NUM_TEST, BATCH, TRAINING_STEPS = 96, 240, 4, 16, 40
EPSILON, STEPS = 0.04, 5
ALPHA = EPSILON / STEPS
PLAIN = (attack("fgsm", EPSILON), *(attack(name, EPSILON, steps=STEPS, alpha=ALPHA) for name in ("pgd", "mi_fgsm")))
_BUDGET = {"epsilon": EPSILON / 2, "alpha": ALPHA / 2, "epoch": STEPS}
_SHORT = {"eps": EPSILON / 2, "alpha": ALPHA / 2, "steps": STEPS}

TORCHATTACKS: dict[str, dict[str, Any]] = {
    "FGSM": {"eps": EPSILON / 2},
    "BIM": _SHORT,
    "PGD": _SHORT,
    "EOTPGD": {**_SHORT, "eot_iter": 2},
    "TPGD": _SHORT,
    "MIFGSM": _SHORT,
    "NIFGSM": _SHORT,
    "SINIFGSM": _SHORT,
    "VMIFGSM": {**_SHORT, "N": 5},
    "VNIFGSM": {**_SHORT, "N": 5},
    "DIFGSM": _SHORT,
    "TIFGSM": _SHORT,
    "UPGD": _SHORT,
    "Jitter": _SHORT,
    "APGD": {"eps": EPSILON / 2, "steps": STEPS},
    "APGDT": {"eps": EPSILON / 2, "steps": STEPS, "n_classes": 2},
    "FAB": {"eps": EPSILON / 2, "steps": STEPS, "n_classes": 2},
    "Square": {"eps": EPSILON / 2, "n_queries": 50},
    "DeepFool": {"steps": STEPS},
    "CW": {"steps": STEPS},
}
_MODEL_RELATED = ("sgm", "ghost", "dhf", "linbp", "bpa", "tgr")
_FEATURES = ("fia", "naa", "rpa", "ila", "danaa", "bfa")
TRANSFERATTACK: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("mifgsm", "nifgsm", "emifgsm", "pgn", "gra", "mig")},
    "vmifgsm": {"num_neighbor": 5},
    **{name: {} for name in ("dim", "tim", "sim", "admix", "ssm", "sia", "bsr")},
    **{name: {"num_ens": 3} for name in _FEATURES},
    **{name: {} for name in ("taig", "logit_margin", *_MODEL_RELATED)},
}


# with DenseNet, only attacks that look inside the network, and a plain one
_LOOK_INSIDE = {f"transferattack/{name}" for name in ("mifgsm", *_FEATURES, *_MODEL_RELATED)}


def main() -> None:
    """Train, attack, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transferattack", type=Path, help="folder of TransferAttack's repository")
    parser.add_argument("--arch", choices=ARCHITECTURES, help="one architecture")
    parser.add_argument("--only", default="", help="attacks such as transferattack/fia,torchattacks/PGD")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.transferattack))
    set_numerics(threads=1)
    torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor  # type: ignore[method-assign]
    nn.Module.cuda = lambda module, *args, **kwargs: module  # type: ignore[method-assign]
    rows, only = {}, [name for name in arguments.only.split(",") if name]
    for arch in [arguments.arch] if arguments.arch else ARCHITECTURES:
        network, images, labels = _trained(arch)
        rows[arch] = {
            name: _tried(name, partial(build, arch), network, images, labels)
            for name, build in _attacks()
            if (name in only or not only) and (arch == "resnet18" or name in _LOOK_INSIDE)
        }
    _add(rows)


def _add(rows: dict[str, dict[str, Any]]) -> None:
    """Write the result; outcomes of attacks that did not run this time stay."""
    before = json.loads(_RESULT.read_text(encoding="utf-8"))["result"]["attacks"] if _RESULT.exists() else {}
    names = [name for name, _ in _attacks()]
    attacks = {}
    for arch in ARCHITECTURES:
        known = {**before.get(arch, {}), **rows.get(arch, {})}
        attacks[arch] = {name: known[name] for name in names if name in known}
    settings: dict[str, Any] = {"images": NUM_TEST, "side": SIDE, "epsilon": EPSILON, "steps": STEPS}
    settings |= {"torchattacks": metadata.version("torchattacks")}
    about = (__doc__ or "").partition("\n\n")
    write_result("plugin_attacks", " ".join((about[0], about[2])), {"settings": settings, "attacks": attacks})


def _attacks() -> Iterator[tuple[str, Callable[[str, nn.Module], ClassAttack]]]:
    """Yield each attack's name, and the function that builds it for an architecture and a model of two classes."""
    for name, options in TORCHATTACKS.items():
        yield f"torchattacks/{name}", partial(_of_torchattacks, name, options)
    for name, options in TRANSFERATTACK.items():
        yield f"transferattack/{name}", partial(_of_transferattack, name, options)


def _of_torchattacks(name: str, options: dict[str, Any], arch: str, model: nn.Module) -> ClassAttack:
    made: ClassAttack = getattr(importlib.import_module("torchattacks"), name)(model, **options)
    return made


def _of_transferattack(name: str, options: dict[str, Any], arch: str, model: nn.Module) -> ClassAttack:
    attack_class = importlib.import_module("transferattack").load_attack_class(name)
    layer = {"feature_layer": ARCHITECTURES[arch]} if name in _FEATURES else {}
    return transfer_attack(attack_class, model, model_name=arch, **_BUDGET, **options, **layer)


class _Point:
    """An entry point of a package that is not installed as a plug-in."""

    def __init__(self, craft: Callable[..., Tensor]) -> None:
        self.load = lambda: craft


def _tried(
    name: str, build: Callable[[nn.Module], ClassAttack], trained: nn.Module, images: Tensor, labels: Tensor
) -> dict[str, Any]:
    """Return whether an attack runs, on which form of the network, and how much it changes the surrogate's loss."""

    def craft(surrogate: nn.Module, some: Tensor, truth: Tensor, spec: AttackSpec) -> Tensor:
        with contextlib.redirect_stdout(io.StringIO()):
            return run_class_attack(build, surrogate, some, truth)

    tries: dict[str, dict[str, Any]] = {}
    for form, function in (("folded", craft), ("trained", needs_trained_network(partial(craft)))):
        tries[form] = _outcome(function, trained, images, labels)
        if tries[form].get("same_as") == "":
            break
    ran = [form for form, outcome in tries.items() if "loss" in outcome]
    form = next((form for form in ran if not tries[form]["same_as"]), ran[0] if ran else "trained")
    outcome = {"network": form, **tries[form]}
    print(name, outcome, flush=True)
    return outcome


def _outcome(craft: Callable[..., Tensor], trained: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Any]:
    places = [f"raygrid.{place}" for place in ("spec.attacks.plugins", "attacks.plugins.plugins")]
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(mock.patch(place, return_value={"tried": _Point(craft)}))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        crafter = Crafter(fold(trained, images[:1]), trained=trained)
        try:
            made = dict(crafter.craft(images, labels, (*PLAIN, attack("tried", EPSILON)), image_ids=_ids(images)))
        except (Exception, SystemExit) as error:  # foreign code can raise anything
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            return {"error": f"{type(cause).__name__}: {cause}".partition("\n")[0][:200]}
    clean, plain, tried = (_loss(trained, some, labels) for some in (images, made[PLAIN[0]], list(made.values())[-1]))
    same = re.findall(r"'tried' changes images as (\w+) does|'tried' (left every image)", " ".join(crafter.notes))
    same_as = same[0][0] or "the clean images" if same else ""
    return {"loss": round((tried - clean) / (plain - clean), 3), "same_as": same_as}


def _ids(images: Tensor) -> list[str]:
    return [str(k) for k in range(len(images))]


def _loss(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        return F.binary_cross_entropy_with_logits(network(images), labels.float()).item()


def _trained(arch: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a trained network, and test images with their labels."""
    spec = DatasetSpec(loader="phantom_tissue", image_size=SIDE, channels=3, options={"patients": 200})
    dataset = open_dataset(spec, Path())
    index = dataset.index()
    rows = index.table.iloc[: NUM_TRAINING + NUM_TEST]
    images = np.stack([dataset.read(str(locator)) for locator in rows["locator"]])
    labels = torch.from_numpy(rows[list(index.labels)].to_numpy(dtype=np.uint8).copy())
    recipe = Recipe(epochs=1, batch_size=BATCH, learning_rate=1e-3)
    state = start(build_classifier(arch, channels=3, num_outputs=1, seed=0), recipe)
    state.classifier.train()
    generator = np.random.default_rng(0)
    for _ in range(TRAINING_STEPS):
        some = generator.choice(NUM_TRAINING, BATCH, replace=False)
        step(state, to_unit_range(images[some]), labels[some].float(), recipe)
    network = state.classifier.eval().requires_grad_(False)
    return network, to_unit_range(images[NUM_TRAINING:]), labels[NUM_TRAINING:]


if __name__ == "__main__":
    main()
