"""The frames of results/, computed from the scores of a study.

An AUC row describes one pairing, attack, epsilon and condition; a decision row describes one finding of it at a fixed
operating point (`raygrid.analysis.operating_point`).

The column `influence` holds the effect of every test patient on the AUC. The interval of any mean, ratio or difference
of rows follows from it and accounts for the correlation between the rows (`raygrid.analysis.auc`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.analysis.auc import AucEstimate, auc_with_influence, interval, ratio_influence, ratio_interval
from raygrid.analysis.operating_point import decide, thresholds_of
from raygrid.errors import StoreError
from raygrid.spec import (
    ENSEMBLE,
    EXTERNAL,
    MEASURES,
    MODEL,
    AnyTarget,
    Case,
    EnsembleSpec,
    SurrogateSpec,
    TargetSpec,
)
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import Samples
from raygrid.store.scores import cases_of, read_logits, read_perceptibility
from raygrid.store.units import Unit, covered_by_all, score_files

MIXED = "mixed"
_CASE = ["condition", "attack", "epsilon"]
_NO_AUC = AucEstimate(np.empty(0), np.empty((0, 0)), np.empty((0, 0)), (), ())


@dataclass(frozen=True)
class _Test:
    """The test images of a modality and the clean AUC of every target."""

    image_ids: list[str]
    labels: NDArray[np.uint8]
    clusters: NDArray[np.intp]
    num_patients: int
    label_names: tuple[str, ...]


@dataclass(frozen=True)
class _Clean:
    """Every target on clean images: AUCs, logits (targets, n, labels), and thresholds (targets, labels).

    `place` maps the position of a target in the study to its position in these arrays.
    """

    place: dict[int, int]
    auc: AucEstimate
    logits: NDArray[np.float32]
    thresholds: NDArray[np.float32]


@dataclass(frozen=True)
class _Block:
    """The scores of all targets under attacks through one surrogate, or on clean images (None).

    Attributes:
        pairs: (target, case), the positions of the complete ones, target by target.
        logits: (pairs, n, labels).
        auc: of every pair.
    """

    surrogate: SurrogateSpec | None
    cases: list[Case]
    pairs: list[tuple[int, int]]
    logits: NDArray[np.float32]
    auc: AucEstimate


def result_frames(folder: StudyFolder, modality: str, samples: Samples) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the AUC rows and the decision rows of one modality.

    A pairing with incomplete scores has no rows, nor has an external target without clean scores.

    Raises StoreError if the clean scores of a model are incomplete: relative AUCs need them.
    """
    test = _test_images(samples)
    targets = folder.study.targets_of(modality)
    units = folder.units(modality)
    rows: list[dict[str, Any]] = []
    decisions: list[pd.DataFrame] = []
    clean: _Clean | None = None
    for surrogate in (None, *folder.study.surrogates_of(modality)):
        block = _read_block(folder, surrogate, [unit for unit in units if unit.surrogate == surrogate], test)
        if clean is None:
            clean = _clean_of(block, targets, test)
        rows += _rows(folder, targets, block, clean, test)
        decisions += _decisions(folder, targets, block, clean, test)
    return pd.DataFrame(rows), pd.concat(decisions, ignore_index=True)


def external_clean(
    folder: StudyFolder, modality: str, samples: Samples
) -> list[tuple[TargetSpec, float, float, float]]:
    """Return (target, clean AUC, lower bound, upper bound) of every external target with complete clean scores."""
    test, targets = _test_images(samples), folder.study.targets_of(modality)
    units = [unit for unit in folder.units(modality) if unit.surrogate is None]
    block = _read_block(folder, None, units, test)
    counts = (int(test.labels.sum(axis=0).min()), int(len(test.labels) - test.labels.sum(axis=0).max()))
    found = []
    for k, (t, _) in enumerate(block.pairs):
        if isinstance(target := targets[t], TargetSpec):
            auc = float(block.auc.auc[k])
            found.append((target, auc, *interval(auc, block.auc.influence[k], degenerate_n=counts)))
    return found


def of_zoo(frame: pd.DataFrame, auc: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the rows with neither an external surrogate nor an external target.

    Args:
        frame: AUC rows, or decision rows.
        auc: the AUC frame of the same study, for decision rows: they have no column of kinds.
    """
    kinds, keep = frame if auc is None else auc, pd.Series(True, index=frame.index)
    for side in ("surrogate", "target"):
        keep &= ~frame[side].isin(set(kinds.loc[kinds[f"{side}_kind"] == EXTERNAL, side]))
    return frame[keep]


def of_single_models(auc: pd.DataFrame) -> pd.DataFrame:
    """Return the AUC rows of single models of the study on both sides, and of their clean images."""
    return auc[auc["surrogate_kind"].isin(("", MODEL)) & (auc["target_kind"] == MODEL)]


def _read_block(folder: StudyFolder, surrogate: SurrogateSpec | None, units: Sequence[Unit], test: _Test) -> _Block:
    """Return the scores in the units of one surrogate."""
    cases, there = cases_of(folder.study, surrogate), covered_by_all(units)
    names = units[0].wanted.names
    expected = np.array([[(case.attack, name) in there for case in cases] for name in names], dtype=bool)
    pairs = [(int(t), int(c)) for t, c in np.argwhere(expected)]
    if not pairs:
        return _Block(surrogate, cases, [], np.empty((0, *test.labels.shape), np.float32), _NO_AUC)
    logits = read_logits(units, test.image_ids, cases, len(test.label_names), expected)[expected]
    return _Block(surrogate, cases, pairs, logits, auc_with_influence(test.labels, logits, test.clusters))


def _clean_of(block: _Block, targets: Sequence[AnyTarget], test: _Test) -> _Clean:
    place = {t: k for k, (t, _) in enumerate(block.pairs)}
    absent = [t.name for k, t in enumerate(targets) if k not in place and not isinstance(t, TargetSpec)]
    if absent or not place:
        names = ", ".join(absent) or "all targets"
        raise StoreError(
            f"{targets[0].modality}: the clean scores of {names} are incomplete; run the study again to complete them"
        )
    decided = [isinstance(target := targets[t], TargetSpec) and target.answers_decisions for t in place]
    return _Clean(place, block.auc, block.logits, thresholds_of(test.labels, block.logits, decided))


def perceptibility_frame(folder: StudyFolder, modality: str) -> pd.DataFrame:
    """Return the perceptibility of the changes: a row per surrogate, condition, attack and epsilon, means over images.

    Columns: modality, surrogate, condition, attack, epsilon, `MEASURES`, num_images. The PSNR of an unchanged image is
    infinite; the mean PSNR leaves it out.
    """
    units = [unit for unit in folder.units(modality) if unit.surrogate is not None]
    frames = []
    for unit, done in zip(units, score_files(units), strict=True):
        assert unit.surrogate is not None  # clean images were left out
        for path in (file.perceptibility_path for file in done if file.perceptibility_path.exists()):
            frames.append(read_perceptibility(path).assign(surrogate=unit.surrogate.name))
    if not frames:
        return pd.DataFrame(columns=["modality", "surrogate", *_CASE, *MEASURES, "num_images"])
    rows = pd.concat(frames, ignore_index=True).replace([np.inf], np.nan)
    grouped = rows.groupby(["surrogate", *_CASE], sort=False)
    means = grouped[list(MEASURES)].mean().assign(num_images=grouped.size()).reset_index()
    wanted = {(case.condition, case.attack_name, case.epsilon) for case in cases_of(folder.study, units[0].surrogate)}
    asked = [key in wanted for key in means[_CASE].itertuples(index=False, name=None)]
    means.insert(0, "modality", modality)
    return means[asked].reset_index(drop=True)


def _test_images(samples: Samples) -> _Test:
    table = samples.test_table()
    codes, patients = pd.factorize(table["patient_id"], sort=True)
    labels = table[list(samples.labels)].to_numpy(dtype=np.uint8)
    return _Test(table["image_id"].tolist(), labels, codes, len(patients), samples.labels)


def _rows(
    folder: StudyFolder, targets: Sequence[AnyTarget], block: _Block, clean: _Clean, test: _Test
) -> list[dict[str, Any]]:
    result, surrogate = block.auc, block.surrogate
    used = test.labels[:, list(result.used_labels)]
    num_positive = int(used.sum(axis=0).min()) if block.pairs else 0
    counts = (num_positive, int(len(used) - used.sum(axis=0).max())) if block.pairs else (0, 0)
    rows = []
    for k, (t, c) in enumerate(block.pairs):
        if t not in clean.place:
            continue  # no relative AUC without clean scores
        target, case = targets[t], block.cases[c]
        auc, influence = float(result.auc[k]), result.influence[k]
        clean_auc = float(clean.auc.auc[clean.place[t]])
        low, high = interval(auc, influence, degenerate_n=counts)
        change = ratio_influence(auc, influence, clean_auc, clean.auc.influence[clean.place[t]])
        relative_low, relative_high = ratio_interval(auc / clean_auc, change, degenerate_n=counts)
        rows.append(
            {
                "modality": target.modality,
                "condition": case.condition,
                **_model_columns("surrogate", surrogate, folder),
                **_model_columns("target", target, folder),
                "attack": case.attack_name,
                "epsilon": case.epsilon,
                "white_box": surrogate is not None and folder.study.is_white_box(surrogate, target),
                "auc": auc,
                "auc_low": low,
                "auc_high": high,
                "clean_auc": clean_auc,
                "relative_auc": auc / clean_auc,
                "relative_low": relative_low,
                "relative_high": relative_high,
                "num_images": len(test.image_ids),
                "num_patients": test.num_patients,
                "num_positive": num_positive,
                "num_labels": len(result.used_labels),
                "labels_left_out": ", ".join(test.label_names[i] for i in result.unused_labels),
                "influence": influence.astype(np.float64),
            }
        )
    return rows


def _decisions(
    folder: StudyFolder, targets: Sequence[AnyTarget], block: _Block, clean: _Clean, test: _Test
) -> list[pd.DataFrame]:
    """Return one frame per case, with a row per target and finding."""
    by_label = np.full((len(block.pairs), len(test.label_names)), np.nan)
    if block.pairs:
        by_label[:, list(block.auc.used_labels)] = block.auc.by_label
    frames = []
    for c, case in enumerate(block.cases):
        mine = [(k, t) for k, (t, place) in enumerate(block.pairs) if place == c and t in clean.place]
        if not mine:
            continue
        here, known = [k for k, _ in mine], [clean.place[t] for _, t in mine]
        found = decide(test.labels, block.logits[here], clean.logits[known], clean.thresholds[known])
        asked = [targets[t] for _, t in mine]
        surrogate, positives = block.surrogate, np.tile(test.labels.sum(axis=0, dtype=int), len(asked))
        white = [surrogate is not None and folder.study.is_white_box(surrogate, target) for target in asked]
        frames.append(
            pd.DataFrame(
                {
                    "modality": asked[0].modality,
                    "condition": case.condition,
                    "surrogate": "" if surrogate is None else surrogate.name,
                    "target": [target.name for target in asked for _ in test.label_names],
                    "attack": case.attack_name,
                    "epsilon": case.epsilon,
                    "white_box": [is_one for is_one in white for _ in test.label_names],
                    "label": list(test.label_names) * len(asked),
                    "auc": by_label[here].reshape(-1),
                    "threshold": clean.thresholds[known].reshape(-1),
                    **{name: values.reshape(-1) for name, values in vars(found).items()},
                    "num_positive": positives,
                    "num_negative": len(test.labels) - positives,
                }
            )
        )
    return frames


def _model_columns(role: str, model: SurrogateSpec | TargetSpec | None, folder: StudyFolder) -> dict[str, str | int]:
    """Return the columns of one side of a pairing.

    An ensemble has the initialisation and split of its members if they agree, else `mixed`. Of an external model only
    the name and the identity are known.
    """
    if model is None:
        blank = {f"{role}_{name}": "" for name in ("kind", "arch", "init", "split", "signature")}
        return {role: "", **blank, f"{role}_instance": -1}
    kind = model.surrogate_kind
    if isinstance(model, TargetSpec):
        facts = {"kind": kind, "arch": EXTERNAL, "init": "", "split": "", "signature": folder.identity(model)}
        return {role: model.name, **{f"{role}_{name}": v for name, v in facts.items()}, f"{role}_instance": -1}
    members = folder.study.members_of(model)
    init, split = ({getattr(m, name) for m in members} for name in ("init", "split"))
    return {
        role: model.name,
        f"{role}_kind": kind,
        f"{role}_arch": ENSEMBLE if isinstance(model, EnsembleSpec) else model.arch,
        f"{role}_init": init.pop() if len(init) == 1 else MIXED,
        f"{role}_split": split.pop() if len(split) == 1 else MIXED,
        f"{role}_instance": -1 if isinstance(model, EnsembleSpec) else model.instance,
        f"{role}_signature": folder.surrogate_signature(model),
    }
