"""Small AUC frames: every pairing of a few models, all with the same AUC until a test sets others."""

from collections.abc import Sequence

import pandas as pd

from raygrid.spec import DatasetSpec, ModalitySpec, ModelSpec, Recipe, SplitSpec, StudySpec, TransferSpec, attack_grid

EPSILONS = (0.02, 0.04)
UNTOUCHED = 0.9  # far from the values that tests set, so a wrong pairing in a mean shows


def model(arch: str, init: str = "random", split: str = "d1", instance: int = 0, modality: str = "eye") -> ModelSpec:
    return ModelSpec(modality=modality, arch=arch, init=init, split=split, instance=instance)


def small_study(models: Sequence[ModelSpec]) -> StudySpec:
    modalities = tuple(
        ModalitySpec(
            name=name,
            dataset=DatasetSpec(loader="phantom", image_size=32, channels=3),
            splits=SplitSpec(test_fraction=0.5),
            recipe=Recipe(epochs=2),
        )
        for name in dict.fromkeys(m.modality for m in models)
    )
    transfer = TransferSpec(attacks=attack_grid(EPSILONS))
    return StudySpec(name="small", seed=1, modalities=modalities, models=tuple(models), transfer=transfer)


def small_frame(models: Sequence[ModelSpec]) -> pd.DataFrame:
    """Return clean AUCs of 0.8, all others `UNTOUCHED`; two patients with influences (0.01, -0.01)."""
    rows = []
    for target in models:
        rows.append(_row("clean", None, target, "", 0.0, 0.8))
        for surrogate in (m for m in models if m.modality == target.modality):
            for condition in ("adversarial", "control"):
                for attack in ("fgsm", "pgd"):
                    rows += [_row(condition, surrogate, target, attack, e, UNTOUCHED) for e in EPSILONS]
    return pd.DataFrame(rows)


def set_row(
    frame: pd.DataFrame,
    surrogate: ModelSpec | None,
    target: ModelSpec,
    attack: str = "",
    epsilon: float = 0.0,
    condition: str = "adversarial",
    **values: object,
) -> None:
    """Set columns of exactly one row, in place."""
    where = _select(frame, surrogate, target) & (frame["attack"] == attack) & (frame["epsilon"] == epsilon)
    where &= frame["condition"] == (condition if surrogate else "clean")
    (row,) = frame.index[where]
    for column, value in values.items():
        frame.at[row, column] = value


def without(frame: pd.DataFrame, surrogate: ModelSpec | None, target: ModelSpec) -> pd.DataFrame:
    """Return the frame without the rows of one pairing."""
    return frame[~_select(frame, surrogate, target)]


def _select(frame: pd.DataFrame, surrogate: ModelSpec | None, target: ModelSpec) -> pd.Series:
    name = "" if surrogate is None else surrogate.name
    here = (frame["modality"] == target.modality) & (frame["target"] == target.name)
    return here & (frame["surrogate"] == name)


def with_ensemble(frame: pd.DataFrame, members: Sequence[ModelSpec], auc: float) -> pd.DataFrame:
    """Return the frame with rows of an ensemble, `ensemble-some`, against every target."""
    rows = []
    for target in dict.fromkeys(frame["target"]):
        mine = frame[(frame["target"] == target) & (frame["surrogate"] == members[0].name)]
        held = target in [m.name for m in members]
        sides = {
            "surrogate": "ensemble-some",
            "surrogate_kind": "ensemble",
            "surrogate_arch": "ensemble",
            "surrogate_instance": -1,
        }
        rows.append(mine.assign(**sides, auc=auc, white_box=held))
    return pd.concat([frame, *rows], ignore_index=True)


def _row(
    condition: str, surrogate: ModelSpec | None, target: ModelSpec, attack: str, epsilon: float, auc: float
) -> dict[str, object]:
    return {
        "modality": target.modality,
        "condition": condition,
        **_side("surrogate", surrogate),
        **_side("target", target),
        "attack": attack,
        "epsilon": epsilon,
        "white_box": surrogate == target,
        "auc": auc,
        "auc_low": auc - 0.05,
        "auc_high": auc + 0.05,
        "clean_auc": 0.8,
        "relative_auc": auc / 0.8,
        "relative_low": auc / 0.8 - 0.05,
        "relative_high": auc / 0.8 + 0.05,
        "num_images": 40,
        "num_patients": 2,
        "num_positive": 20,
        "num_labels": 1,
        "labels_left_out": "",
        "influence": [0.01, -0.01],
    }


def _side(side: str, spec: ModelSpec | None) -> dict[str, object]:
    if spec is None:
        blank: dict[str, object] = {f"{side}_{c}": "" for c in ("kind", "arch", "init", "split", "signature")}
        return {side: "", **blank, f"{side}_instance": -1}
    return {
        side: spec.name,
        f"{side}_kind": "model",
        f"{side}_arch": spec.arch,
        f"{side}_init": spec.init,
        f"{side}_split": spec.split,
        f"{side}_instance": spec.instance,
        f"{side}_signature": f"signature of {spec.modality} {spec.name}",
    }
