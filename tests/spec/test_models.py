"""Declaring models: the order and validation of `model_grid`, and the kinds of surrogates."""

import dataclasses
from collections.abc import Sequence

import pytest

from raygrid.errors import SpecError
from raygrid.spec import EnsembleSpec, ModelSpec, SurrogateKind, SurrogateSpec, TargetSpec, model_grid

VARIANTS = [("random", "d1", 0), ("random", "d1", 1), ("imagenet", "d2_half", 0)]


def test_grid_lists_all_variants_of_one_architecture_before_the_next() -> None:
    models = model_grid("chest", ("resnet18", "densenet121"), VARIANTS)
    assert models == tuple(
        ModelSpec(modality="chest", arch=arch, init=init, split=split, instance=instance)
        for arch, init, split, instance in [
            ("resnet18", "random", "d1", 0),
            ("resnet18", "random", "d1", 1),
            ("resnet18", "imagenet", "d2_half", 0),
            ("densenet121", "random", "d1", 0),
            ("densenet121", "random", "d1", 1),
            ("densenet121", "imagenet", "d2_half", 0),
        ]
    )


def test_grid_accepts_generators() -> None:
    grid = model_grid("chest", (arch for arch in ("resnet18", "densenet121")), (variant for variant in VARIANTS))
    assert grid == model_grid("chest", ["resnet18", "densenet121"], VARIANTS)


@pytest.mark.parametrize(
    ("architectures", "variants", "message"),
    [
        ("resnet18", VARIANTS, r"use \['resnet18'\]"),
        ([], VARIANTS, "architectures is empty"),
        (["resnet18"], [], "variants is empty"),
        (["resnet18", "resnet18"], VARIANTS, "architecture 'resnet18' is given twice"),
        (["resnet18"], [*VARIANTS, VARIANTS[0]], r"variant \('random', 'd1', 0\) is given twice"),
        (["resnet18"], [("random", "d1")], r"expected \(init, split, instance\)"),
        (["resnet18"], ["d10"], r"expected \(init, split, instance\)"),
        (["resnet18"], [("imagnet", "d1", 0)], "did you mean 'imagenet'"),
        (["resnet18"], [("random", "d2half", 0)], "did you mean 'd2_half'"),
        (["resnet18"], [("random", "d1", -1)], "instance is -1"),
    ],
)
def test_invalid_grid_is_refused(
    architectures: Sequence[str], variants: list[tuple[str, str, int]], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        model_grid("chest", architectures, variants)


@pytest.mark.parametrize(
    ("surrogate", "kind"),
    [
        (ModelSpec(modality="chest", arch="resnet18", init="random", split="d1"), "model"),
        (EnsembleSpec(modality="chest", label="pair", members=("a", "b")), "ensemble"),
        (TargetSpec(modality="chest", label="deployed", kind="callable", source="package.module:function"), "external"),
    ],
)
def test_surrogate_kind_is_known_and_enters_no_signature(surrogate: SurrogateSpec, kind: SurrogateKind) -> None:
    assert surrogate.surrogate_kind == kind
    assert "surrogate_kind" not in [field.name for field in dataclasses.fields(surrogate)]
