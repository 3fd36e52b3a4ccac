"""Write docs/reference/plug-ins.md: the layer names of some architectures, and the attacks of other libraries.

Run it after benchmarks/plugin_attacks.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raygrid.models.layers import layers_of

_ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "plugin_attacks.json"
PAGE = _ROOT / "docs" / "reference" / "plug-ins.md"
_SIDE = 96
_ARCHITECTURES = {"inception_v3": 0, "densenet121": 1, "resnet18": 0}  # and the most dots in a name
_HEAD = """\
# Layers and libraries for plug-ins

`benchmarks/plugin_page.py` writes this page. [Use an attack of another
package](../how-to/attacks.md#use-an-attack-of-another-package) shows how to write a plug-in.

## Layer names

The layers of the paper's architectures and of a ResNet that give maps, for images of 96 x 96 pixels, in the order in
which they run. `network.get_submodule(name)` of a network from `inner_networks` gives the layer. The trained network
has all of them, and the ReLU, normalisation and convolution layers inside; a folded one has only some.
`raygrid.models.layers.layers_of(arch, image_size=96, depth=2)` lists the layers of any architecture.

| architecture | layer | class | channels x height x width |
|---|---|---|---|
"""
_ATTACKS = """
## Attacks of torchattacks and TransferAttack

torchattacks {torchattacks} and TransferAttack (its repository; the package of that name on the package index has no
modules) ran unchanged with `run_class_attack` on {images} images with one label. The numbers are the rise of the
surrogate's loss as a multiple of its rise under FGSM at the same budget ({epsilon:g}). They show that an attack works;
on the surrogate itself, an attack made for transfer need not exceed PGD (`torchattacks/BIM`). "trained" means that the
attack failed or did nothing with the folded network, and got the trained one. Attacks that call `.cuda()` fail on a
machine without a GPU; here these calls did nothing. "raygrid notes" is its comparison with the clean images and with
`fgsm`, `pgd` and `mi_fgsm`.

| attack | network | {architectures} | remark |
|---|---|{bars}---|
"""
_GPU = "calls `.cuda()`"
_OWN = "changes a network of its own in `load_model`, which the adapter replaces: with the surrogate it is MI-FGSM"
# why an attack does not run or does little, and what it needs; the errors themselves are in the result file
_REMARKS = {
    "torchattacks/Jitter": "divides logits by the largest, so its loss is constant for two classes",
    "torchattacks/APGDT": "needs three classes or more",
    "torchattacks/FAB": "looks for the smallest change that turns the class",
    "torchattacks/Square": "random search without gradients; keeps only changes that turn the class",
    "torchattacks/DeepFool": "has no budget, and leaves the study's",
    "torchattacks/CW": "has no budget of its own, so other images may leave the study's",
    "torchattacks/UPGD": "is MI-FGSM by default",
    "transferattack/gra": _GPU,
    "transferattack/ssm": f"works on images of 224 x 224 pixels alone; {_GPU}",
    **{f"transferattack/{name}": f"hooks a layer; {_GPU}" for name in ("fia", "naa", "rpa", "ila", "danaa")},
    "transferattack/bfa": "hooks a layer; written for 1,000 classes",
    "transferattack/logit_margin": "attacks towards a given class alone",
    "transferattack/sgm": "hooks layers called `relu`, as in torchvision; timm has no such names",
    "transferattack/ghost": _OWN,
    "transferattack/dhf": _OWN,
    "transferattack/bpa": _OWN,
    "transferattack/linbp": f"calls torchvision's layers of a ResNet by name; {_GPU}",
    "transferattack/tgr": "for vision transformers",
}


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written to {PAGE.relative_to(_ROOT)}")


def page() -> str:
    """Return the page."""
    layers = "".join(
        f"| `{arch}` | `{layer.name}` | `{layer.kind}` | {layer.channels} x {layer.height} x {layer.width} |\n"
        for arch, depth in _ARCHITECTURES.items()
        for layer in layers_of(arch, image_size=_SIDE, depth=depth)
    )
    values = json.loads(RESULT.read_text(encoding="utf-8"))["result"]
    networks: dict[str, dict[str, Any]] = values["attacks"]
    head = _ATTACKS.format(
        **values["settings"],
        architectures=" | ".join(networks),
        bars="---|" * len(networks),
    )
    return _HEAD + layers + head + "".join(_rows(networks))


def _rows(networks: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name in next(iter(networks.values())):
        outcomes = [attacks.get(name, {}) for attacks in networks.values()]
        forms = dict.fromkeys(o["network"] for o in outcomes if "loss" in o)
        losses = " | ".join(_loss(outcome) for outcome in outcomes)
        yield f"| `{name}` | {' or '.join(forms) or '-'} | {losses} | {_remark(name, outcomes)} |\n"


def _loss(outcome: dict[str, Any]) -> str:
    return f"{outcome['loss']:.2f}" if "loss" in outcome else "does not run" if outcome else "not tried"


def _remark(name: str, outcomes: list[dict[str, Any]]) -> str:
    parts = [_REMARKS[name]] if name in _REMARKS else []
    same = dict.fromkeys(o["same_as"] for o in outcomes if o.get("same_as"))
    parts += [f"raygrid notes: as {' or '.join(same)}"] if same else []
    return "; ".join(parts)


if __name__ == "__main__":
    main()
