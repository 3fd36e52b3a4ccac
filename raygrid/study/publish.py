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
    of_zoo,
    perceptibility_frame,
    result_frames,
)
from raygrid.hashing import digest
from raygrid.io.files import read_json, remove, write_json, write_text
from raygrid.io.mirror import display_path_and_url, pull
from raygrid.progress import tell
from raygrid.report import table_text
from raygrid.spec import ModelSpec, StudySpec
from raygrid.store.folder import StudyFolder
from raygrid.store.query_budget import NotAsked, QueryCell
from raygrid.store.samples import DEVELOPMENT_FILES, Samples
from raygrid.store.scores import transfer_facts
from raygrid.store.units import not_asked, score_files

if TYPE_CHECKING:  # PyTorch and matplotlib take seconds to import; a report that is up to date needs neither
    from raygrid.report.pairing_grid import ModelCard
    from raygrid.report.study_page import ReportInput
    from raygrid.report.target_page import PageInput

TABLE_MAKERS = {1: tables.table1, 2: tables.table2, 3: tables.table3}


def publish(folder: StudyFolder, *, again: bool = False) -> None:
    """Write results/ of a study, print the paper's tables, and say where the report is.

    Args:
        again: make everything anew even if nothing changed.
    """
    results = folder.path / "results"
    samples = {m.name: folder.samples(m.name) for m in folder.study.studied}
    about = read_json(folder.path / "study.json")
    state = _state(folder, samples, about)
    summary_path = results / "summary.json"
    if not again and summary_path.exists() and read_json(summary_path).get("state") == state:
        tell("report: nothing has changed")
    else:
        tell("report: computing AUCs, tables and figures")
        remove(results)
        auc = _write_results(folder, samples, about)
        summed_up = of_zoo(auc) if folder.study.zoo_as_targets else auc
        write_json(summary_path, {"state": state, **_summary(summed_up)})
    _tell_results(folder)


def _write_results(folder: StudyFolder, samples: dict[str, Samples], about: dict[str, Any]) -> pd.DataFrame:
    """Write everything below results/ but the summary, and return the AUC frame."""
    from raygrid.report.study_page import render_report

    results = folder.path / "results"
    for opened in samples.values():
        pull(opened.folder, without=DEVELOPMENT_FILES)
    frames = [result_frames(folder, name, opened) for name, opened in samples.items()]
    auc: pd.DataFrame
    auc, decisions = (pd.concat(parts, ignore_index=True) for parts in zip(*frames, strict=True))
    perceptibility = pd.concat(
        [perceptibility_frame(folder, name, opened.num_test) for name, opened in samples.items()], ignore_index=True
    )
    folder.results.write("auc", auc)
    folder.results.write("decisions", decisions)
    folder.results.write("visibility", perceptibility)
    for sentence in tables.labels_left_out(auc):
        tell(f"report: {sentence}")
    effects = all_effects(auc, seed=folder.study.seed)
    if folder.study.zoo_as_targets:
        cells = make_tables(auc, folder.study)
        write_tables(cells, results / "tables", phantom=bool(about["phantom"]))
        write_text(results / "claims.csv", judge_claims(cells, folder.study.margins).to_csv(index=False))
        write_text(results / "effects.csv", effects.to_csv(index=False))
    assessed = write_assessments(folder, auc, decisions, perceptibility)
    page = _report_input(folder, samples, about, auc, decisions, perceptibility, effects)
    page = replace(page, assessed=assessed, not_asked=_not_asked(folder))
    write_text(results / "report.html", render_report(page))
    return auc


def _tell_results(folder: StudyFolder) -> None:
    """Print the paper's tables, and say where the pages are."""
    results = folder.path / "results"
    for number in TABLE_MAKERS if folder.study.zoo_as_targets else ():
        tell("\n" + (results / "tables" / f"table{number}.txt").read_text(encoding="utf-8"))
    if folder.study.zoo_as_targets:
        tell(
            "AUC on test images, in brackets relative to clean ones: lower is more damage. The report has intervals.\n"
        )
        failed = tables.unlearned(folder.results.auc())
        if failed:
            tell(
                f"report: {len(failed)} of the models did not learn (lower bound of clean AUC not above "
                f"{tables.LEARNED_BOUND:g}), and nothing that involves them is a result: {', '.join(failed)}"
            )
    for one in read_json(results / "assessments.json") if folder.study.targets else ():
        tell(f"report: {one['name']}: {one['headline']}\n  {display_path_and_url(results / one['page'])}")
    tell(f"report: {display_path_and_url(results / 'report.html')}")


def write_assessments(
    folder: StudyFolder, auc: pd.DataFrame, decisions: pd.DataFrame, perceptibility: pd.DataFrame
) -> list[dict[str, str]]:
    """Write a page about every target that raygrid did not train; return and write the name, page and headline of each.

    Args:
        auc, decisions, perceptibility: as in `results/`.

    A target without clean scores, an endpoint that could not be asked, has no page.
    """
    if not folder.study.targets:
        return []
    from raygrid.report.target_page import headline, page_name, render_assessment

    passed_over, found = _not_asked(folder), []
    for target in folder.study.targets:
        rows, decided = (
            frame[(frame["modality"] == target.modality) & (frame["target"] == target.name)]
            for frame in (auc, decisions)
        )
        if rows.empty:
            tell(f"report: {target.name} has no clean scores, so there is no page about it")
            continue
        one = Assessment(
            study=folder.study,
            target=target,
            auc=rows,
            decisions=decided,
            perceptibility=perceptibility,
            not_asked=passed_over.get((target.modality, target.name), frozenset()),
        )
        write_text(folder.path / "results" / page_name(target), render_assessment(_page_input(folder, one)))
        name = f"{target.modality} {target.label}"
        found.append({"name": name, "page": page_name(target), "headline": headline(one)})
    write_json(folder.path / "results" / "assessments.json", found)
    return found


def _page_input(folder: StudyFolder, one: Assessment) -> "PageInput":
    """Return what the page shows beside the numbers: examples through the best look-alike, and what made it all."""
    from raygrid.report.target_page import PageInput
    from raygrid.scoring.examples import craft_target_examples

    target, about = one.target, read_json(folder.path / "study.json")
    samples = folder.samples(target.modality)
    surrogates = {s.name: s for s in folder.study.surrogates_of(target.modality)}
    examples, words = [], ""
    if one.surrogates:
        best, attack = surrogates[one.surrogates[0].name], one.reference[-1]
        examples = craft_target_examples(folder, target, samples, best, attack)
        words = f"{attack.name.upper()} at ε = {attack.epsilon:g} through {best.name}."
    trained = [m for m in folder.study.models_of(target.modality) if folder.model(m).is_trained]
    return PageInput(
        assessment=one,
        phantom=bool(about["phantom"]),
        identity=folder.identity(target),
        surrogate_auc={m.name: float(folder.model(m).card["validation_auc"]) for m in trained},
        examples=examples,
        example_words=words,
        facts={
            "Data": f"{samples.manifest['title']}, fingerprint {folder.sample_signatures[target.modality][:16]}",
            "Commit": about["git_commit"] or "not known",
            "Versions": ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        },
    )


def _not_asked(folder: StudyFolder) -> NotAsked:
    found: dict[tuple[str, str], set[QueryCell]] = {}
    for modality in folder.study.studied if folder.study.targets else ():
        found |= not_asked(folder.units(modality.name))
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
            "md": table_text.to_markdown(number, cells, phantom=phantom),
            "tex": table_text.to_latex(number, cells, phantom=phantom),
            "txt": table_text.to_terminal(number, cells, phantom=phantom),
        }
        for suffix, text in texts.items():
            written.append(folder / f"table{number}.{suffix}")
            write_text(written[-1], text)
    return written


def _state(folder: StudyFolder, samples: dict[str, Samples], about: dict[str, Any]) -> str:
    """A hash of all that the results are made from."""
    done = {
        name: [str(file.path.relative_to(folder.path)) for files in score_files(folder.units(name)) for file in files]
        for name, opened in samples.items()
    }
    made_by = {name: about[name] for name in ("versions", "git_commit")}
    return digest({"done": done, "study": folder.study.to_dict(), **made_by})


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
    folder: StudyFolder,
    samples: dict[str, Samples],
    about: dict[str, Any],
    auc: pd.DataFrame,
    decisions: pd.DataFrame,
    perceptibility: pd.DataFrame,
    effects: pd.DataFrame,
) -> "ReportInput":
    from raygrid.report.study_page import Provenance, ReportInput
    from raygrid.scoring.examples import craft_examples

    trained = [m for m in folder.study.models if folder.model(m).is_trained]
    studied = [m.name for m in folder.study.studied]
    facts = {name: transfer_facts(folder.units(name)) for name in samples}
    return ReportInput(
        study=folder.study,
        auc=auc,
        decisions=decisions,
        perceptibility=perceptibility,
        effects=effects,
        phantom=bool(about["phantom"]),
        cards=[_model_card(folder, m) for m in trained],
        provenance=Provenance(
            git_commit=about["git_commit"],
            versions=about["versions"],
            fingerprints=dict(folder.sample_signatures),
            counts={name: opened.manifest["counts"] for name, opened in samples.items()},
            zero_gradient_share={
                name: f["num_zero_gradients"] / f["num_attacked"] for name, f in facts.items() if f["num_attacked"]
            },
            runtime_s={
                "training, over all trials": sum(float(folder.model(m).card["seconds"]) for m in trained),
                "transfer, over all units": sum(f["seconds"] for f in facts.values()),
            },
        ),
        examples={name: craft_examples(folder, name, opened) for name, opened in samples.items()},
        histories={name: {m.name: folder.model(m).history for m in trained if m.modality == name} for name in studied},
    )


def _model_card(folder: StudyFolder, model: ModelSpec) -> "ModelCard":
    from raygrid.report.pairing_grid import ModelCard

    card = folder.model(model).card
    recipe = "; ".join(f"{name} {_words(value)}" for name, value in card["recipe"].items())
    return ModelCard(
        modality=model.modality,
        name=model.name,
        signature=card["signature"],
        best_epoch=card["best_epoch"],
        num_epochs=len(folder.model(model).history),
        validation_auc=card["validation_auc"],
        card_path=str((folder.model(model).path / "card.json").relative_to(folder.path)),
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
