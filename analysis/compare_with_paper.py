"""Print a study's tables beside the published ones, cell by cell, and which of the paper's claims each supports.

Writes STUDY/figures/beside_published_table<n>.<format> and STUDY/results/beside_published.csv.

The published scripts differ from the paper's text, which raygrid follows, in ways that move numbers
(docs/explanation/protocol.md, Where the published scripts differ): radiology crops 224 of 256 pixels, has 15
outputs and shuffles control noise over the whole batch; ophthalmology stores adversarial images as truncated 8 bits;
pathology broadcasts one label over two outputs.
"""

import argparse
from textwrap import fill

import pandas as pd

from raygrid.analysis.claims import judge_claims, sum_up
from raygrid.analysis.results import StudyResults
from raygrid.analysis.tables import beside_published, published_tables
from raygrid.cli.exit_status import guarded
from raygrid.io.files import write_text
from raygrid.io.mirror import display_path_and_url
from raygrid.report.figures import beside_published as draw
from raygrid.report.figures import save_figure
from raygrid.report.table_text import PHANTOM_NOTICE
from raygrid.store.folder import open_study


def main() -> None:
    """Read the study folder named on the command line, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="study folder, or its URL")
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png", help="of the figures")
    options = parser.parse_args()
    done = open_study(options.study)
    cells = dict(StudyResults(done).tables)
    beside = beside_published(cells)
    if done.record.phantom:
        print(f"{PHANTOM_NOTICE}; the paper's images were real.")
    for number, part in beside.groupby("table"):
        print(f"\nTable {number}: published / this study [95% interval]")
        print(_shown(part).to_string(index=False))
    print("\nClaims: published / this study")
    theirs, ours = (sum_up(judge_claims(tables, done.study.margins)) for tables in (published_tables(), cells))
    print(_side_by_side(theirs, ours).to_string(index=False))
    for claim in theirs.to_dict("records"):
        print(fill(f"{claim['claim']}  {claim['says']}", width=120, subsequent_indent=" " * (len(claim["claim"]) + 2)))
    path = done.results.path / "beside_published.csv"
    write_text(path, beside.to_csv(index=False))
    print(f"\n{display_path_and_url(path)}")
    for number in sorted(beside["table"].unique()):
        figure = draw(beside, int(number), phantom=done.record.phantom)
        print(save_figure(done.path, figure, f"beside_published_table{number}.{options.format}"))


def _shown(part: pd.DataFrame) -> pd.DataFrame:
    """Return cells as a person reads them: AUC, and relative AUC where the paper gives it."""
    rows = []
    for cell in part.to_dict("records"):
        factors = {n: cell[n] for n in part.columns[1:9] if part[n].astype(bool).any()}
        text = f"{_number(cell['published_auc'])} / {cell['auc']:.2f} [{cell['auc_low']:.2f}, {cell['auc_high']:.2f}]"
        relative = f"{_number(cell['published_relative'], '.0f')}% / {cell['relative_percent']:.0f}%"
        rows.append({**factors, "AUC": text, "relative": relative if pd.notna(cell["published_relative"]) else ""})
    return pd.DataFrame(rows)


def _number(value: float, form: str = ".2f") -> str:
    return "–" if pd.isna(value) else format(value, form)


def _side_by_side(theirs: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    both = theirs.set_index("claim")
    found = ours.set_index("claim").reindex(both.index)
    for modality in both.columns[1:]:
        both[modality] += " / " + (found[modality].fillna("–") if modality in found else "–")
    return both.drop(columns="says").reset_index()


if __name__ == "__main__":
    guarded(main)
