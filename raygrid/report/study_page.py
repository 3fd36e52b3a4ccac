"""The report of a study: one self-contained HTML page with tables, claims, figures, gaps and provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raygrid.analysis import tables
from raygrid.analysis.claims import judge_claims, sum_up
from raygrid.analysis.results import StudyResults
from raygrid.report import table_text
from raygrid.report.html import render
from raygrid.report.model_cards import model_rows
from raygrid.report.operational import operational_tables
from raygrid.report.pairing_grid import pairing_grids
from raygrid.report.study_pictures import Examples, study_pictures
from raygrid.report.target_page import page_link
from raygrid.report.unmoved import unmoved_sentences
from raygrid.spec import Margins, displayed

TITLES = {1: "Table 1: perturbation degree", 2: "Table 2: pre-training", 3: "Table 3: disparity"}


def render_report(results: StudyResults, examples: Examples) -> str:
    """Return the report as one HTML page that loads nothing from outside.

    Args:
        examples: modality → row label ("clean", "FGSM ε = 0.02", ...) → image, as `figures.example_images` takes it.

    Raises DataError if the AUC frame is malformed.
    """
    study = results.study
    claims = sum_up(results.claims)
    return render(
        "study_page.html.j2",
        phantom=results.record.phantom,
        study=study,
        epsilon=results.epsilon,
        unlearned=results.unlearned,
        assessed=[page_link(one) for one in results.assessments],
        summary=_summary(results) if study.zoo_as_targets else tables.labels_left_out(results.auc),
        tables=[_table(number, cells, results.record.phantom) for number, cells in results.tables.items()],
        agreement=_agreement(results.tables),
        modalities=list(claims.columns[2:]),
        claims=_claims(claims),
        judged=results.claims.to_dict("records"),
        effects=_effects(results.effects),
        conditional=_conditional(results.effects),
        operational=operational_tables(results) if study.zoo_as_targets else [],
        pictures=study_pictures(results, examples),
        models=model_rows(results),
        grids=pairing_grids(results),
        missing=results.missing.to_dict("records"),
        not_asked=_not_asked(results),
        signatures=_signatures(results.tables),
        **_provenance(results),
    )


def _agreement(cells: Mapping[int, pd.DataFrame]) -> float | None:
    """The largest difference between the cells that must be equal; None if one is missing."""
    differences = tables.check_agreement(cells[1], cells[2], cells[3])["difference"]
    return float(differences.max()) if differences.notna().all() else None


def _provenance(results: StudyResults) -> dict[str, Any]:
    """The origin of data and numbers; `counts` is modality → part (d1, test, ...) → images, patients, ... → count."""
    return {
        "record": results.record,
        "fingerprints": results.folder.sample_signatures,
        "counts": {name: samples.manifest["counts"] for name, samples in results.samples.items()},
        "notes": {name: samples.manifest.get("notes", []) for name, samples in results.samples.items()},
        "unmoved": {name: unmoved_sentences(results, name) for name in results.samples},
        "zero_gradient_share": {
            name: facts["num_zero_gradients"] / facts["num_attacked"]
            for name, facts in results.transfer.items()
            if facts["num_attacked"]
        },
        "runtime_s": {
            "training, over all trials": sum(float(card["seconds"]) for card in results.cards.values()),
            "transfer, over all units": sum(facts["seconds"] for facts in results.transfer.values()),
        },
    }


def _not_asked(results: StudyResults) -> list[str]:
    """A sentence for each target whose query budget does not cover every attack."""
    found = []
    for (modality, target), cells in results.not_asked.items():
        all_cells = len(results.study.surrogates_of(modality)) * len(results.study.transfer.attacks)
        number = f"{len(cells)} of {all_cells} (surrogate, attack) cells"
        found.append(f"{modality} {target}: {number}")
    return found


def _summary(results: StudyResults) -> list[str]:
    """The findings in sentences, each from the tables or the AUC frame."""
    auc, cells = results.zoo_auc, results.tables[1]
    clean = auc[auc["condition"] == "clean"]
    pairings = auc[auc["condition"] != "clean"].drop_duplicates(["modality", "surrogate", "target"])
    per_modality = auc.groupby("modality")[["num_images", "num_patients"]].max().sum()
    num_clean = len(clean.drop_duplicates(["modality", "target"]))
    num_modalities = clean["modality"].nunique()
    sentences = [
        f"{num_clean} models in {num_modalities} {'modality' if num_modalities == 1 else 'modalities'}; "
        f"{len(pairings):,} pairings of surrogate and target, {int(pairings['white_box'].sum())} of them white-box "
        f"references (the surrogate is the target or contains it); {int(per_modality['num_images']):,} test images of "
        f"{int(per_modality['num_patients']):,} patients."
    ]
    if num_clean:
        sentences.append(
            f"On clean images, the AUCs are between {clean['auc'].min():.2f} and {clean['auc'].max():.2f}."
        )
    for modality in cells["modality"].unique():
        sentences.append(_damage(cells[cells["modality"] == modality], modality))
    return [*sentences, *_white_and_black_box(auc, results.epsilon), *tables.labels_left_out(auc)]


def _damage(cells: pd.DataFrame, modality: str) -> str:
    """The damage at the smallest and the largest epsilon in one modality, averaged over the attacks of Table 1."""
    clean = cells.loc[cells["condition"] == "clean", "auc"].mean(skipna=False)
    attacked = cells[cells["condition"] != "clean"]
    means = attacked.groupby(["condition", "epsilon"])["auc"].apply(lambda values: values.mean(skipna=False))
    epsilons = sorted(attacked["epsilon"].unique())
    wanted = [(c, e) for e in (epsilons[0], epsilons[-1]) for c in ("adversarial", "control")] if epsilons else []
    values = [clean, *(float(means.loc[key]) for key in wanted)]
    if not wanted or np.isnan(values).any():
        return f"{modality.capitalize()}: pairings of Table 1 are missing, so there is no summary of the damage."
    text = (
        f"{modality.capitalize()}: black-box attacks between randomly initialised models change the mean AUC from "
        f"{values[0]:.2f} to {values[1]:.2f} at ε = {epsilons[0]:g}"
    )
    if len(epsilons) > 1:
        text += f" and {values[3]:.2f} at ε = {epsilons[-1]:g}"
    shuffled = f"{values[2]:.2f}" + (f" and {values[4]:.2f}" if len(epsilons) > 1 else "")
    return f"{text}; with the same perturbations shuffled over the image it is {shuffled}."


def _white_and_black_box(auc: pd.DataFrame, epsilon: float) -> list[str]:
    here = auc[(auc["condition"] == "adversarial") & np.isclose(auc["epsilon"], epsilon)]
    means = here.groupby(["modality", "white_box"], sort=False)["auc"].mean().unstack()
    if True not in means or False not in means or (both := means.dropna()).empty:
        return []
    parts = [f"{modality} {row[True]:.2f} against {row[False]:.2f}" for modality, row in both.iterrows()]
    text = f"Mean AUC at ε = {epsilon:g}, white-box references against all black-box pairings: {'; '.join(parts)}."
    if (both[True] < both[False]).all():
        text += " In every modality, white-box attacks leave the lower mean."
    return [text]


def _table(number: int, cells: pd.DataFrame, phantom: bool) -> dict[str, Any]:
    """A table as a record: header, and rows with labels and cells."""
    wide = table_text.lay_out(number, cells)
    records = cells.to_dict("records")
    columns = list(wide.columns)
    rows = []
    for values in wide.itertuples(index=False):
        places = [_place(number, records[k]) if k >= 0 else None for k in values[2:]]
        if number == 1 and places and values[2] >= 0 and records[values[2]]["condition"] == "clean":
            places = [{**places[0], "span": len(places)}] if places[0] else places
        rows.append({"group": values[0], "label": values[1], "places": places, "rows_in_group": 0})
    for k, row in enumerate(rows):  # the first row of a group has a label that spans all of them
        if k == 0 or rows[k - 1]["group"] != row["group"]:
            row["rows_in_group"] = _run_length([r["group"] for r in rows[k:]])
    return {
        "number": number,
        "title": TITLES[number],
        "caption": table_text.caption_of(number, cells).removeprefix(f"Table {number}. "),
        "notices": table_text.notices_of(cells, phantom=phantom),
        "columns": columns,
        "rows": rows,
    }


def _run_length(values: Sequence[str]) -> int:
    return next((k for k, value in enumerate(values) if value != values[0]), len(values))


def _place(number: int, cell: dict[Any, Any]) -> dict[str, Any]:
    text, _, bounds = table_text.cell_text(cell, relative=number > 1, with_interval=True).partition(" [")
    num = f"{cell['num_pairings']} of {cell['num_expected']} pairings"
    if pd.isna(cell["auc"]):
        return {"text": text, "interval": "", "title": f"only {num} are present, so there is no mean", "span": 1}
    title = (
        f"AUC {cell['auc']:.3f}, 95% interval {cell['auc_low']:.3f} to {cell['auc_high']:.3f}; relative to clean "
        f"{cell['relative_percent']:.1f}% ({cell['relative_low']:.1f}% to {cell['relative_high']:.1f}%); {num}, "
        f"{cell['num_images']:,} images of {cell['num_patients']:,} patients; signature {cell['signature'][:12]}"
    )
    return {"text": text, "interval": f"[{bounds}", "title": title, "span": 1}


def _claims(ours: pd.DataFrame) -> list[dict[str, Any]]:
    """Every claim with the verdict of this study and of the published tables in each modality."""
    theirs = sum_up(judge_claims(tables.published_tables(), Margins())).set_index("claim")
    modalities = list(ours.columns[2:])
    rows = []
    for row in ours.to_dict("records"):
        published = {m: theirs.at[row["claim"], m] if m in theirs else "–" for m in modalities}
        verdicts = [{"ours": row[m], "published": published[m]} for m in modalities]
        rows.append({"claim": row["claim"], "says": row["says"], "verdicts": verdicts})
    return rows


def _effects(effects: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per contrast: its factor and levels, the effect on relative AUC and on the logit of the AUC."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for effect in effects.to_dict("records"):
        contrast = {name: effect[name] for name in ("modality", "factor", "from", "to")}
        row = rows.setdefault(tuple(contrast.values()), {**contrast, "change": _change(effect)})
        row[effect["outcome"]] = effect
    return list(rows.values())


def _conditional(effects: pd.DataFrame) -> list[str]:
    """The modalities whose intervals of effects exclude the variation between trainings."""
    return sorted(effects.loc[effects["conditional"].astype(bool), "modality"].unique())


def _change(effect: Mapping[Any, Any]) -> str:
    levels = [str(effect[side]) for side in ("from", "to")]
    before, after = [displayed(level) for level in levels] if effect["factor"] == "attack" else levels
    return "interaction" if after == "together" else f"{before} → {after}"


def _signatures(cells: Mapping[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """The distinct signatures of cells, by table and modality."""
    every = pd.concat(cells.values())
    known = every[every["signature"] != ""]
    counted = known.groupby(["table", "modality", "signature"], sort=False).size().reset_index(name="cells")
    return [{str(k): v for k, v in row.items()} for row in counted.to_dict("records")]
