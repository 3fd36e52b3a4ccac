"""One self-contained HTML page about a study: tables, figures, what is missing and what made it. A pure function."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raygrid.analysis import tables
from raygrid.analysis.claims import judge_claims, sum_up
from raygrid.analysis.frames import of_zoo
from raygrid.report import figures, table_text
from raygrid.report.html import Picture, as_png, as_svg, render
from raygrid.report.operational import practice_tables
from raygrid.report.pairing_grid import ModelCard, model_rows, pairing_grids
from raygrid.spec import Margins, StudySpec
from raygrid.store.query_budget import NotAsked

TITLES = {1: "Table 1: perturbation degree", 2: "Table 2: pre-training", 3: "Table 3: disparity"}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made the numbers.

    Attributes:
        versions: package → version.
        fingerprints: modality → fingerprint of its prepared samples.
        counts: modality → part (d1, d2, test, ...) → what is counted (images, patients, ...) → count.
        zero_gradient_share: modality → share, 0 to 1, of attacked images whose gradient was all zero.
        runtime_s: stage → seconds.
        created: when the report was made, in words; "" leaves it out, so that equal results give equal pages.
    """

    git_commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    zero_gradient_share: Mapping[str, float] = field(default_factory=dict)
    runtime_s: Mapping[str, float] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """All that the page is made of.

    Attributes:
        auc: the AUC frame of `results/auc.parquet`.
        decisions, perceptibility: of `results/decisions.parquet` and `visibility.parquet`; without them the page has no
            section on practice.
        effects: of `results/effects.csv`.
        phantom: whether the images are generated; puts the banner and watermarks on.
        examples: modality → row label ("clean", "FGSM ε = 0.02", ...) → image, as `figures.example_images` takes it.
        histories: modality → model name → records with epoch, loss, validation_auc.
        reference_epsilon: of Tables 2 and 3 and the heat maps; by default 0.02, or the smallest of a study without it.
        instances: "published" or "all", see `tables.table1`.
        assessed: of every target that raygrid did not train: its name, its page beside this one, the page's headline.
        not_asked: what budgets do not cover, which is not missing.
    """

    study: StudySpec
    auc: pd.DataFrame
    phantom: bool
    decisions: pd.DataFrame | None = None
    perceptibility: pd.DataFrame | None = None
    effects: pd.DataFrame | None = None
    cards: Sequence[ModelCard] = ()
    provenance: Provenance = field(default_factory=Provenance)
    examples: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    histories: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]] = field(default_factory=dict)
    reference_epsilon: float | None = None
    instances: tables.Instances = "published"
    assessed: Sequence[Mapping[str, str]] = ()
    not_asked: NotAsked = field(default_factory=dict)


def render_report(inputs: ReportInput) -> str:
    """Return the report as one HTML page that loads nothing from outside.

    Raises:
        DataError: the AUC frame is malformed, or `reference_epsilon` is not among its epsilons.
    """
    study, auc, everything = inputs.study, of_zoo(inputs.auc), inputs.auc
    epsilon = inputs.reference_epsilon or tables.default_epsilon(a.epsilon for a in study.transfer.attacks)
    options: dict[str, Any] = {"study": study, "instances": inputs.instances}
    cells = {
        1: tables.table1(auc, **options),
        2: tables.table2(auc, reference_epsilon=epsilon, **options),
        3: tables.table3(auc, reference_epsilon=epsilon, **options),
    }
    agreement = tables.check_agreement(cells[1], cells[2], cells[3])
    judged = judge_claims(cells, study.margins)
    return render(
        "report.html.j2",
        study=study,
        zoo_attacked=study.zoo_as_targets,
        assessed=inputs.assessed,
        phantom_notice=table_text.PHANTOM_NOTICE if inputs.phantom else "",
        unlearned=tables.unlearned(auc),
        bound=tables.LEARNED_BOUND,
        summary=_summary(auc, cells[1], epsilon) if study.zoo_as_targets else tables.labels_left_out(everything),
        tables=[_table(number, part, inputs.phantom) for number, part in cells.items()],
        practice=[]
        if inputs.decisions is None or inputs.perceptibility is None or not study.zoo_as_targets
        else practice_tables(auc, of_zoo(inputs.decisions, inputs.auc), inputs.perceptibility, epsilon),
        claims=_claims(judged),
        modalities=list(sum_up(judged).columns[2:]),
        judged=judged.to_dict("records"),
        effects=_effects(inputs.effects),
        conditional=_conditional(inputs.effects),
        agreement=float(agreement["difference"].max()) if agreement["difference"].notna().all() else None,
        pictures=_pictures(inputs, cells[1], epsilon),
        models=model_rows(study, auc, inputs.cards),
        grids=pairing_grids(everything, inputs.cards, epsilon, inputs.not_asked),
        missing=tables.missing_pairings(everything, study, inputs.not_asked).to_dict("records"),
        not_asked=_not_asked(inputs),
        provenance=inputs.provenance,
        signatures=_signatures(cells),
        epsilon=epsilon,
    )


def _not_asked(inputs: ReportInput) -> list[str]:
    """A sentence for each target with a budget that does not cover all."""
    found = []
    for (modality, target), cells in inputs.not_asked.items():
        all_cells = len(inputs.study.surrogates_of(modality)) * len(inputs.study.transfer.attacks)
        found.append(
            f"{modality} {target}: {len(cells)} of {all_cells} (surrogate, attack) cells, its budget is too small"
        )
    return found


def _summary(auc: pd.DataFrame, cells: pd.DataFrame, epsilon: float) -> list[str]:
    """The findings in plain words, each from the tables or the AUC frame."""
    clean = auc[auc["condition"] == "clean"]
    pairings = auc[auc["condition"] != "clean"].drop_duplicates(["modality", "surrogate", "target"])
    per_modality = auc.groupby("modality")[["num_images", "num_patients"]].max().sum()
    num_clean = len(clean.drop_duplicates(["modality", "target"]))
    num_modalities = clean["modality"].nunique()
    sentences = [
        f"{num_clean} models in {num_modalities} {'modality' if num_modalities == 1 else 'modalities'}; "
        f"{len(pairings):,} pairings of surrogate and target, {int(pairings['white_box'].sum())} of them white-box "
        f"references (the surrogate is the target, or holds it); {int(per_modality['num_images']):,} test images of "
        f"{int(per_modality['num_patients']):,} patients."
    ]
    if num_clean:
        sentences.append(f"On clean images the AUCs lie between {clean['auc'].min():.2f} and {clean['auc'].max():.2f}.")
    for modality in cells["modality"].unique():
        sentences.append(_damage(cells[cells["modality"] == modality], modality))
    return [*sentences, *_white_and_black_box(auc, epsilon), *tables.labels_left_out(auc)]


def _damage(cells: pd.DataFrame, modality: str) -> str:
    """What the smallest and the largest epsilon do in one modality, averaged over the attacks of Table 1."""
    clean = cells.loc[cells["condition"] == "clean", "auc"].mean(skipna=False)
    attacked = cells[cells["condition"] != "clean"]
    means = attacked.groupby(["condition", "epsilon"])["auc"].apply(lambda values: values.mean(skipna=False))
    epsilons = sorted(attacked["epsilon"].unique())
    wanted = [(c, e) for e in (epsilons[0], epsilons[-1]) for c in ("adversarial", "control")] if epsilons else []
    values = [clean, *(float(means.loc[key]) for key in wanted)]
    if not wanted or np.isnan(values).any():
        return f"{modality.capitalize()}: pairings of Table 1 are missing, so the damage is not summed up here."
    text = (
        f"{modality.capitalize()}: black-box attacks between randomly initialised models take the mean AUC from "
        f"{values[0]:.2f} to {values[1]:.2f} at ε = {epsilons[0]:g}"
    )
    if len(epsilons) > 1:
        text += f" and {values[3]:.2f} at ε = {epsilons[-1]:g}"
    shuffled = f"{values[2]:.2f}" + (f" and {values[4]:.2f}" if len(epsilons) > 1 else "")
    return f"{text}; the same perturbations shuffled over the image leave {shuffled}."


def _white_and_black_box(auc: pd.DataFrame, epsilon: float) -> list[str]:
    here = auc[(auc["condition"] == "adversarial") & np.isclose(auc["epsilon"], epsilon)]
    means = here.groupby(["modality", "white_box"], sort=False)["auc"].mean().unstack()
    if True not in means or False not in means or (both := means.dropna()).empty:
        return []
    parts = [f"{modality} {row[True]:.2f} against {row[False]:.2f}" for modality, row in both.iterrows()]
    text = f"Mean AUC at ε = {epsilon:g}, white-box references against all black-box pairings: {'; '.join(parts)}."
    if (both[True] < both[False]).all():
        text += " An attacker who has the target itself does more damage than one with a look-alike."
    return [text]


def _table(number: int, cells: pd.DataFrame, phantom: bool) -> dict[str, Any]:
    """A table as the template walks it: header, and rows of labels and places."""
    wide = table_text.lay_out(number, cells)
    records = cells.to_dict("records")
    columns = list(wide.columns)
    rows = []
    for values in wide.itertuples(index=False):
        places = [_place(number, records[k]) if k >= 0 else None for k in values[2:]]
        if number == 1 and places and values[2] >= 0 and records[values[2]]["condition"] == "clean":
            places = [{**places[0], "span": len(places)}] if places[0] else places
        rows.append({"group": values[0], "label": values[1], "places": places, "rows_in_group": 0})
    for k, row in enumerate(rows):  # the first row of a group carries its label over all of them
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
        return {"text": text, "interval": "", "title": f"{num} are there; no average over the rest", "span": 1}
    title = (
        f"AUC {cell['auc']:.3f}, 95% interval {cell['auc_low']:.3f} to {cell['auc_high']:.3f}; relative to clean "
        f"{cell['relative_percent']:.1f}% ({cell['relative_low']:.1f}% to {cell['relative_high']:.1f}%); {num}, "
        f"{cell['num_images']:,} images of {cell['num_patients']:,} patients; signature {cell['signature'][:12]}"
    )
    return {"text": text, "interval": f"[{bounds}", "title": title, "span": 1}


def _claims(judged: pd.DataFrame) -> list[dict[str, Any]]:
    """Every claim with the verdict of this study and of the published tables in each modality."""
    ours = sum_up(judged)
    theirs = sum_up(judge_claims(tables.published_tables(), Margins())).set_index("claim")
    modalities = list(ours.columns[2:])
    rows = []
    for row in ours.to_dict("records"):
        published = {m: theirs.at[row["claim"], m] if m in theirs else "–" for m in modalities}
        verdicts = [{"ours": row[m], "published": published[m]} for m in modalities]
        rows.append({"claim": row["claim"], "says": row["says"], "verdicts": verdicts})
    return rows


def _pictures(inputs: ReportInput, cells: pd.DataFrame, epsilon: float) -> dict[str, list[Picture]]:
    auc, phantom = of_zoo(inputs.auc), inputs.phantom
    pictures: dict[str, list[Picture]] = {"examples": [], "curves": [], "heat_maps": [], "clean": [], "learning": []}
    pictures |= {"practice": [], "effects": []}
    if inputs.examples:
        figure = figures.example_images(inputs.examples, phantom=phantom)
        alt = f"Example test images of {', '.join(inputs.examples)}: the clean image above its attacked versions."
        caption = "Figure 1. One test image per modality, clean and attacked at every ε."
        pictures["examples"].append(Picture(as_png(figure), alt, caption))
    if not inputs.study.zoo_as_targets:
        return pictures | {"learning": _learning(inputs)}
    caption = "AUC against ε. Solid: adversarial; dashed: the same perturbation shuffled; dotted: clean; bands: 95%."
    curves = figures.epsilon_curves(cells, phantom=phantom)
    pictures["curves"].append(Picture(as_svg(curves), "Line plots of AUC against ε; numbers in Table 1.", caption))
    for modality in cells["modality"].unique():
        for attack in sorted({a.name for a in inputs.study.transfer.attacks if math.isclose(a.epsilon, epsilon)}):
            figure = figures.heat_map(auc, modality, attack, epsilon, phantom=phantom)
            caption = f"{modality.capitalize()}, {attack.upper()} at ε = {epsilon:g}: AUC of every pairing."
            alt = f"{caption} Surrogates in rows, targets in columns, white-box references hatched."
            pictures["heat_maps"].append(Picture(as_svg(figure), alt, caption))
    forest = figures.clean_auc_plot(auc, phantom=phantom)
    alt = "Forest plot of the clean AUC of every model with its interval; numbers in the table of models."
    pictures["clean"].append(
        Picture(as_svg(forest), alt, "Clean AUC of every model on the test images, 95% intervals.")
    )
    if inputs.effects is not None and len(inputs.effects):
        relative = inputs.effects[inputs.effects["outcome"] == "relative"]
        caption = "What each factor changes, with 95% intervals; grey where the interval holds 0."
        alt = "Forest plot of the effect of every factor on the relative AUC; numbers in the table below."
        pictures["effects"].append(Picture(as_svg(figures.effects_plot(relative, phantom=phantom)), alt, caption))
    if inputs.perceptibility is not None:
        table = tables.damage_and_perceptibility(auc, inputs.perceptibility)
        caption = (
            "Damage against visibility: each line is one attack, its points are the ε, mean over black-box pairings."
        )
        alt = "Line plots of relative AUC against structural similarity; numbers in the table beside."
        figure = figures.damage_against_perceptibility(table, phantom=phantom)
        pictures["practice"].append(Picture(as_svg(figure), alt, caption))
    return pictures | {"learning": _learning(inputs)}


def _learning(inputs: ReportInput) -> list[Picture]:
    pictures = []
    for modality, histories in inputs.histories.items():
        figure = figures.learning_curves(histories, title=modality, phantom=inputs.phantom)
        alt = f"Training loss and validation AUC against epoch of {len(histories)} models of {modality}."
        pictures.append(Picture(as_svg(figure), alt, f"Learning curves, {modality}."))
    return pictures


def _effects(effects: pd.DataFrame | None) -> list[dict[str, Any]]:
    """One row per contrast: its words, and the effect on the relative AUC and on the logit of the AUC."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for effect in [] if effects is None else effects.to_dict("records"):
        contrast = {name: effect[name] for name in ("modality", "factor", "from", "to")}
        row = rows.setdefault(tuple(contrast.values()), {**contrast, "change": _change(effect)})
        row[effect["outcome"]] = effect
    return list(rows.values())


def _conditional(effects: pd.DataFrame | None) -> list[str]:
    """The modalities whose effects do not hold the variation between trainings."""
    return [] if effects is None else sorted(effects.loc[effects["conditional"].astype(bool), "modality"].unique())


def _change(effect: Mapping[Any, Any]) -> str:
    return "interaction" if effect["to"] == "together" else f"{effect['from']} → {effect['to']}"


def _signatures(cells: Mapping[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """The distinct cell signatures: which table and modality each made."""
    every = pd.concat(cells.values())
    known = every[every["signature"] != ""]
    counted = known.groupby(["table", "modality", "signature"], sort=False).size().reset_index(name="cells")
    return [{str(k): v for k, v in row.items()} for row in counted.to_dict("records")]
