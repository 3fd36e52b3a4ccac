"""Results of a study folder: the AUC frame, tables, figures and the report, made again only where something changed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raygrid.analysis import tables
from raygrid.analysis.assessment import Assessment
from raygrid.analysis.claims import judge_claims
from raygrid.analysis.effects import all_effects
from raygrid.analysis.frames import (
    read_frame,
    result_frames,
    visibility_frame,
    write_auc,
    write_decisions,
    write_visibility,
)
from raygrid.hashing import digest
from raygrid.io.files import read_json, remove, write_json, write_text
from raygrid.io.mirror import pull, whereabouts
from raygrid.progress import tell
from raygrid.spec import ModelSpec, StudySpec
from raygrid.store.folder import Zoo
from raygrid.store.query_budget import Cell, NotAsked
from raygrid.store.samples import DEVELOPMENT_FILES, Samples, samples_dir
from raygrid.store.scores import transfer_facts
from raygrid.store.units import not_asked, plan_units, score_files

if TYPE_CHECKING:  # PyTorch and matplotlib take seconds to import; a report that is up to date needs neither
    from raygrid.report.pairing_grid import ModelCard
    from raygrid.report.study_page import ReportInput
    from raygrid.report.target_page import PageInput

TABLE_MAKERS = {1: tables.table1, 2: tables.table2, 3: tables.table3}


def publish(zoo: Zoo, *, again: bool = False) -> None:
    """Write results/ of a study, print the paper's tables, and say where the report is.

    Args:
        again: make everything anew even if nothing changed.
    """
    results = zoo.study_dir / "results"
    samples = {m.name: Samples(samples_dir(zoo.study_dir, m.name, zoo.samples[m.name])) for m in zoo.study.studied}
    about = read_json(zoo.study_dir / "study.json")
    state = _state(zoo, samples, about)
    summary_path = results / "summary.json"
    if not again and summary_path.exists() and read_json(summary_path).get("state") == state:
        tell("report: nothing has changed")
    else:
        tell("report: computing AUCs, tables and figures")
        remove(results)
        auc = _write_results(zoo, samples, about)
        summed_up = tables.of_zoo(auc) if zoo.study.zoo_as_targets else auc
        write_json(summary_path, {"state": state, **_summary(summed_up)})
    _tell_results(zoo)


def _write_results(zoo: Zoo, samples: dict[str, Samples], about: dict[str, Any]) -> pd.DataFrame:
    """Write everything below results/ but the summary, and return the AUC frame."""
    from raygrid.report.study_page import render_report

    results = zoo.study_dir / "results"
    for opened in samples.values():
        pull(opened.folder, without=DEVELOPMENT_FILES)
    frames = [result_frames(zoo, name, opened) for name, opened in samples.items()]
    auc: pd.DataFrame
    auc, decisions = (pd.concat(parts, ignore_index=True) for parts in zip(*frames, strict=True))
    seen = [visibility_frame(zoo, name, opened.num_test) for name, opened in samples.items()]
    visibility = pd.concat(seen, ignore_index=True)
    write_auc(zoo.study_dir, auc)
    write_decisions(zoo.study_dir, decisions)
    write_visibility(zoo.study_dir, visibility)
    for sentence in tables.labels_left_out(auc):
        tell(f"report: {sentence}")
    effects = all_effects(auc, seed=zoo.study.seed)
    if zoo.study.zoo_as_targets:
        cells = make_tables(auc, zoo.study)
        write_tables(cells, results / "tables", phantom=bool(about["phantom"]))
        write_text(results / "claims.csv", judge_claims(cells, zoo.study.margins).to_csv(index=False))
        write_text(results / "effects.csv", effects.to_csv(index=False))
    assessed = write_assessments(zoo, auc, decisions, visibility)
    page = _report_input(zoo, samples, about, auc, decisions, visibility, effects)
    page = replace(page, assessed=assessed, not_asked=_not_asked(zoo))
    write_text(results / "report.html", render_report(page))
    return auc


def _tell_results(zoo: Zoo) -> None:
    """Print the paper's tables, and say where the pages are."""
    results = zoo.study_dir / "results"
    for number in TABLE_MAKERS if zoo.study.zoo_as_targets else ():
        tell("\n" + (results / "tables" / f"table{number}.txt").read_text(encoding="utf-8"))
    if zoo.study.zoo_as_targets:
        tell(
            "AUC on test images, in brackets relative to clean ones: lower is more damage. The report has intervals.\n"
        )
        failed = tables.unlearned(read_frame(zoo.study_dir, "auc"))
        if failed:
            tell(
                f"report: {len(failed)} of the models did not learn (lower bound of clean AUC not above "
                f"{tables.LEARNED_BOUND:g}), and nothing that involves them is a result: {', '.join(failed)}"
            )
    for one in read_json(results / "assessments.json") if zoo.study.targets else ():
        tell(f"report: {one['name']}: {one['headline']}\n  {whereabouts(results / one['page'])}")
    tell(f"report: {whereabouts(results / 'report.html')}")


def write_assessments(
    zoo: Zoo, auc: pd.DataFrame, decisions: pd.DataFrame, visibility: pd.DataFrame
) -> list[dict[str, str]]:
    """Write a page about every target that raygrid did not train; return and write the name, page and headline of each.

    Args:
        auc, decisions, visibility: as in `results/`.

    A target without clean scores, an endpoint that could not be asked, has no page.
    """
    if not zoo.study.targets:
        return []
    from raygrid.report.target_page import headline, page_name, render_assessment

    passed_over, found = _not_asked(zoo), []
    for target in zoo.study.targets:
        rows, decided = (
            frame[(frame["modality"] == target.modality) & (frame["target"] == target.name)]
            for frame in (auc, decisions)
        )
        if rows.empty:
            tell(f"report: {target.name} has no clean scores, so there is no page about it")
            continue
        one = Assessment(
            study=zoo.study,
            target=target,
            auc=rows,
            decisions=decided,
            visibility=visibility,
            not_asked=passed_over.get((target.modality, target.name), frozenset()),
        )
        write_text(zoo.study_dir / "results" / page_name(target), render_assessment(_page_input(zoo, one)))
        name = f"{target.modality} {target.label}"
        found.append({"name": name, "page": page_name(target), "headline": headline(one)})
    write_json(zoo.study_dir / "results" / "assessments.json", found)
    return found


def _page_input(zoo: Zoo, one: Assessment) -> "PageInput":
    """Return what the page shows beside the numbers: examples through the best look-alike, and what made it all."""
    from raygrid.report.target_page import PageInput
    from raygrid.scoring.examples import craft_target_examples

    target, about = one.target, read_json(zoo.study_dir / "study.json")
    samples = Samples(samples_dir(zoo.study_dir, target.modality, zoo.samples[target.modality]))
    surrogates = {s.name: s for s in zoo.study.surrogates_of(target.modality)}
    examples, words = [], ""
    if one.surrogates:
        best, attack = surrogates[one.surrogates[0].name], one.reference[-1]
        examples = craft_target_examples(zoo, target, samples, best, attack)
        words = f"{attack.name.upper()} at ε = {attack.epsilon:g} through {best.name}."
    trained = [m for m in zoo.study.models_of(target.modality) if zoo.is_trained(m)]
    return PageInput(
        assessment=one,
        phantom=bool(about["phantom"]),
        identity=zoo.identity(target),
        surrogate_auc={m.name: float(zoo.card(m)["validation_auc"]) for m in trained},
        examples=examples,
        example_words=words,
        facts={
            "Data": f"{samples.manifest['title']}, fingerprint {zoo.samples[target.modality][:16]}",
            "Commit": about["git_commit"] or "not known",
            "Versions": ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        },
    )


def _not_asked(zoo: Zoo) -> NotAsked:
    found: dict[tuple[str, str], set[Cell]] = {}
    for modality in zoo.study.studied if zoo.study.targets else ():
        samples = Samples(samples_dir(zoo.study_dir, modality.name, zoo.samples[modality.name]))
        found |= not_asked(plan_units(zoo, modality.name, samples.num_test))
    return found


def make_tables(auc: pd.DataFrame, study: StudySpec) -> dict[int, pd.DataFrame]:
    """Return the cells of the paper's three tables by number."""
    return {number: make(auc, study=study) for number, make in TABLE_MAKERS.items()}


def write_tables(tables_by_number: Mapping[int, pd.DataFrame], folder: Path, *, phantom: bool) -> list[Path]:
    """Write the paper's three tables as CSV, Markdown, LaTeX and plain text; return the paths."""
    written = []
    for number, cells in tables_by_number.items():
        texts = {
            "csv": cells[tables.CELL_COLUMNS].to_csv(index=False),
            "md": tables.to_markdown(number, cells, phantom=phantom),
            "tex": tables.to_latex(number, cells, phantom=phantom),
            "txt": tables.to_terminal(number, cells, phantom=phantom),
        }
        for suffix, text in texts.items():
            written.append(folder / f"table{number}.{suffix}")
            write_text(written[-1], text)
    return written


def _state(zoo: Zoo, samples: dict[str, Samples], about: dict[str, Any]) -> str:
    """A hash of all that the results are made from."""
    done = {
        name: [
            str(file.path.relative_to(zoo.study_dir))
            for files in score_files(plan_units(zoo, name, opened.num_test))
            for file in files
        ]
        for name, opened in samples.items()
    }
    made_by = {name: about[name] for name in ("versions", "git_commit")}
    return digest({"done": done, "study": zoo.study.to_dict(), **made_by})


def _summary(auc: pd.DataFrame) -> dict[str, float]:
    """A few numbers for the comparison of whole studies."""
    clean = auc[auc["condition"] == "clean"]
    attacked = auc[(auc["condition"] == "adversarial") & ~auc["white_box"]]
    return {
        "clean_auc_lowest": float(clean["auc"].min()),
        "clean_auc_highest": float(clean["auc"].max()),
        "black_box_auc_mean": float(np.mean(attacked["auc"])) if len(attacked) else float("nan"),
    }


def _report_input(
    zoo: Zoo,
    samples: dict[str, Samples],
    about: dict[str, Any],
    auc: pd.DataFrame,
    decisions: pd.DataFrame,
    visibility: pd.DataFrame,
    effects: pd.DataFrame,
) -> "ReportInput":
    from raygrid.report.study_page import Provenance, ReportInput
    from raygrid.scoring.examples import craft_examples

    trained = [m for m in zoo.study.models if zoo.is_trained(m)]
    studied = [m.name for m in zoo.study.studied]
    facts = {name: transfer_facts(zoo, name, opened.num_test) for name, opened in samples.items()}
    return ReportInput(
        study=zoo.study,
        auc=auc,
        decisions=decisions,
        visibility=visibility,
        effects=effects,
        phantom=bool(about["phantom"]),
        cards=[_model_card(zoo, m) for m in trained],
        provenance=Provenance(
            git_commit=about["git_commit"],
            versions=about["versions"],
            fingerprints=dict(zoo.samples),
            counts={name: opened.manifest["counts"] for name, opened in samples.items()},
            zero_gradient_share={
                name: f["num_zero_gradients"] / f["num_attacked"] for name, f in facts.items() if f["num_attacked"]
            },
            runtime_s={
                "training, over all trials": sum(float(zoo.card(m)["seconds"]) for m in trained),
                "transfer, over all units": sum(f["seconds"] for f in facts.values()),
            },
        ),
        examples={name: craft_examples(zoo, name, opened) for name, opened in samples.items()},
        histories={name: {m.name: zoo.history(m) for m in trained if m.modality == name} for name in studied},
    )


def _model_card(zoo: Zoo, model: ModelSpec) -> "ModelCard":
    from raygrid.report.pairing_grid import ModelCard

    card = zoo.card(model)
    recipe = "; ".join(f"{name} {_words(value)}" for name, value in card["recipe"].items())
    return ModelCard(
        modality=model.modality,
        name=model.name,
        signature=card["signature"],
        best_epoch=card["best_epoch"],
        num_epochs=len(zoo.history(model)),
        validation_auc=card["validation_auc"],
        card_path=str((zoo.folder(model) / "card.json").relative_to(zoo.study_dir)),
        facts={
            "Architecture": model.arch,
            "Initialisation": model.init,
            "Started from": card["starts_from"] or "–",
            "Split, instance": f"{model.split}, {model.instance}",
            "Labels": ", ".join(card["labels"]),
            "Images": f"{card['num_training_images']:,} for training, {card['num_validation_images']:,} for validation",
            "Parameters": f"{card['num_parameters']:,}",
            "Recipe": recipe,
            "Data": card["data"]["title"],
            "Weights, SHA-256": card["weights_sha256"],
            "Commit": card.get("git_commit") or "not known",
        },
    )


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)
