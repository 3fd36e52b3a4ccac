"""Write results/ of a study folder: frames, tables, claims, effects and pages; only if something changed."""

from pathlib import Path

import pandas as pd

from raygrid.analysis import tables
from raygrid.analysis.frames import perceptibility_frame, result_frames
from raygrid.analysis.results import StudyResults
from raygrid.hashing import digest
from raygrid.io.files import read_json, write_json, write_text
from raygrid.io.mirror import display_path_and_url, pull, remove
from raygrid.progress import tell
from raygrid.report import table_text
from raygrid.store.folder import StudyFolder
from raygrid.store.samples import DEVELOPMENT_FILES
from raygrid.store.units import score_files


def write_results(folder: StudyFolder, *, again: bool = False) -> None:
    """Write results/ of a study, and print the paper's tables and the paths of the pages.

    Args:
        again: write everything even if nothing has changed.
    """
    path = folder.results.path / "summary.json"
    state = _state(folder)
    if not again and path.exists() and read_json(path).get("state") == state:
        tell("report: nothing has changed")
    else:
        tell("report: computing AUCs, tables and figures")
        remove(folder.results.path)
        _write_frames(folder)
        results = StudyResults(folder)
        for sentence in tables.labels_left_out(results.auc):
            tell(f"report: {sentence}")
        if folder.study.zoo_as_targets:
            write_tables(results)
            write_text(folder.results.path / "claims.csv", results.claims.to_csv(index=False))
            write_text(folder.results.path / "effects.csv", results.effects.to_csv(index=False))
        write_target_pages(results)
        _write_report(results)
        write_json(path, {"state": state, **_summary(results)})
    print_results(folder)


def write_tables(results: StudyResults) -> list[Path]:
    """Write the paper's three tables as CSV, Markdown, LaTeX and plain text; return the paths."""
    written = []
    phantom = results.record.phantom
    for number, cells in results.tables.items():
        texts = {
            "csv": cells[tables.CELL_COLUMNS].to_csv(index=False),
            "md": table_text.to_markdown(number, cells, phantom=phantom),
            "tex": table_text.to_latex(number, cells, phantom=phantom),
            "txt": table_text.to_terminal(number, cells, phantom=phantom),
        }
        for suffix, text in texts.items():
            written.append(results.folder.results.path / "tables" / f"table{number}.{suffix}")
            write_text(written[-1], text)
    return written


def write_target_pages(results: StudyResults) -> list[Path]:
    """Write a page about every target that raygrid did not train, and assessments.json; return the paths of the pages.

    A target without clean scores, such as an endpoint that did not answer, has no page.
    """
    if not results.study.targets:
        return []
    from raygrid.report.target_page import page_link, page_name, render_target_page
    from raygrid.report.target_pictures import attack_of_examples
    from raygrid.scoring.examples import TargetExample, craft_target_examples

    written = []
    for one in results.assessments:
        target, examples = one.target, list[TargetExample]()
        if chosen := attack_of_examples(one):
            surrogates = {s.name: s for s in results.study.surrogates_of(target.modality)}
            surrogate, attack = surrogates[chosen[0]], chosen[1]
            samples = results.samples[target.modality]
            examples = craft_target_examples(results.folder, target, samples, surrogate, attack)
        written.append(results.folder.results.path / page_name(target))
        write_text(written[-1], render_target_page(results, one, examples))
    scored = {one.target for one in results.assessments}
    for target in (target for target in results.study.targets if target not in scored):
        tell(f"report: {target.name} has no clean scores, so there is no page about it")
    write_json(results.folder.results.path / "assessments.json", [page_link(one) for one in results.assessments])
    return written


def print_results(folder: StudyFolder) -> None:
    """Print the written tables, the models that did not learn, and the paths of the pages."""
    results = folder.results.path
    if folder.study.zoo_as_targets:
        for path in sorted((results / "tables").glob("table*.txt")):
            tell("", *path.read_text(encoding="utf-8").split("\n"))
        tell(
            "AUC on test images; in parentheses, relative to clean images. Lower means more damage. The report has the "
            "intervals.",
            "",
        )
        failed = tables.unlearned(folder.results.auc())
        if failed:
            tell(
                f"report: {len(failed)} of the models did not learn (lower bound of clean AUC not above "
                f"{tables.LEARNED_BOUND:g}); do not use results that involve them: {', '.join(failed)}"
            )
    for one in read_json(results / "assessments.json") if folder.study.targets else ():
        tell(f"report: {one['name']}: {one['headline']}", f"  {display_path_and_url(results / one['page'])}")
    tell(f"report: {display_path_and_url(results / 'report.html')}")


def _write_frames(folder: StudyFolder) -> None:
    frames, perceptibility = [], []
    for modality in folder.study.studied:
        samples = folder.samples(modality.name)
        pull(samples.folder, without=DEVELOPMENT_FILES)
        frames.append(result_frames(folder, modality.name, samples))
        perceptibility.append(perceptibility_frame(folder, modality.name))
    auc, decisions = (pd.concat(parts, ignore_index=True) for parts in zip(*frames, strict=True))
    folder.results.write("auc", auc)
    folder.results.write("decisions", decisions)
    folder.results.write("visibility", pd.concat(perceptibility, ignore_index=True))


def _write_report(results: StudyResults) -> None:
    from raygrid.report.study_page import render_report
    from raygrid.scoring.examples import craft_examples

    examples = {name: craft_examples(results.folder, name, samples) for name, samples in results.samples.items()}
    write_text(results.folder.results.path / "report.html", render_report(results, examples))


def _state(folder: StudyFolder) -> str:
    """Return a hash of the inputs of the results."""
    done = {
        modality.name: [
            str(file.path.relative_to(folder.path))
            for files in score_files(folder.units(modality.name))
            for file in files
        ]
        for modality in folder.study.studied
    }
    record = folder.record
    made_by = {"versions": dict(record.versions), "git_commit": record.git_commit}
    return digest({"done": done, "study": folder.study.to_dict(), **made_by})


def _summary(results: StudyResults) -> dict[str, float]:
    """Return a few numbers that compare whole studies."""
    auc = results.zoo_auc if results.study.zoo_as_targets else results.auc
    clean = auc[auc["condition"] == "clean"]
    attacked = auc[(auc["condition"] == "adversarial") & ~auc["white_box"]]
    return {
        "clean_auc_lowest": float(clean["auc"].min()),
        "clean_auc_highest": float(clean["auc"].max()),
        "black_box_auc_mean": float(attacked["auc"].mean()) if len(attacked) else float("nan"),
    }
