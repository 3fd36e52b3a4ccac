"""The cells of a table in the paper's layout, as strings, Markdown, LaTeX or terminal text."""

from typing import Any

import pandas as pd

from raygrid.analysis.tables.cells import LEARNED_BOUND
from raygrid.errors import DataError
from raygrid.spec import displayed, init_label

PHANTOM_NOTICE = "Generated phantoms: not medical evidence"

_CAPTIONS = {
    1: "Perturbation degree. AUC of random-weight targets trained on d1, averaged over the architecture pairs, under "
    "attacks through random-weight surrogates trained on d1; control: the same perturbation shuffled over the image.",
    2: "Pre-training. AUC averaged over the attacks and architecture pairs{epsilon}; relative to clean in parentheses. "
    "All models are trained on d1; each mean is over the surrogate initialisations.",
    3: "Disparity of data and architecture. AUC of random-weight targets trained on d1, averaged over the attacks and "
    "target architectures{epsilon}; relative to clean in parentheses.",
}
_NOISE = {"clean": "none (clean)", "adversarial": "adversarial", "control": "control (shuffled)"}
_ROW_LABELS = {1: ["Data", "Noise"], 2: ["Target", "Surrogate"], 3: ["Architecture", "Training set"]}
_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "ε": r"$\varepsilon$",
    "×": r"$\times$",
    "²": r"$^{2}$",
}


def lay_out(table_number: int, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the table in the paper's layout; each entry is the row number of its cell in `cells`.

    The first two columns are the row labels; an entry without a cell is -1. Table 1's clean AUC appears only in the
    first attack column, but applies to all of them.
    """
    if table_number not in _ROW_LABELS:
        raise DataError(f"table_number is {table_number}; expected 1, 2 or 3")
    place = _place_in_table1 if table_number == 1 else _place_in_table2 if table_number == 2 else _place_in_table3
    records = cells.to_dict("records")
    columns = list(dict.fromkeys(_column(table_number, c) for c in records if _column(table_number, c)))
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for number, cell in enumerate(records):
        column = _column(table_number, cell) or (columns[0] if columns else "AUC")
        rows.setdefault(place(cell), {})[column] = number
    names = [*_ROW_LABELS[table_number], *(columns or ["AUC"] * bool(records))]
    return pd.DataFrame([[*key, *(row.get(c, -1) for c in names[2:])] for key, row in rows.items()], columns=names)


def to_paper_shape(table_number: int, cells: pd.DataFrame, *, intervals: bool = True) -> pd.DataFrame:
    """Return the table in the paper's layout as strings: "0.44 [0.39, 0.49]", or "0.44 (52%) [0.39, 0.49]" with
    relative AUC in Tables 2 and 3; a cell without all its pairings reads "missing (3 of 4)".
    """
    wide = lay_out(table_number, cells)
    records = cells.to_dict("records")
    for column in wide.columns[2:]:
        texts = [
            "" if number < 0 else cell_text(records[number], relative=table_number > 1, with_interval=intervals)
            for number in wide[column]
        ]
        wide[column] = pd.Series(texts, dtype=object, index=wide.index)
    return wide


def cell_text(cell: dict[Any, Any], *, relative: bool, with_interval: bool) -> str:
    """Return one cell as text."""
    if pd.isna(cell["auc"]):
        return f"missing ({cell['num_pairings']} of {cell['num_expected']})"
    if cell["surrogate_init"] == "mean":  # the paper gives only the relative AUC here
        text = "–" if pd.isna(cell["relative_percent"]) else f"{cell['relative_percent']:.0f}%"
        bounds = f"[{cell['relative_low']:.0f}%, {cell['relative_high']:.0f}%]"
    else:
        known = relative and not pd.isna(cell["relative_percent"])
        text = f"{cell['auc']:.2f}" + (f" ({cell['relative_percent']:.0f}%)" if known else "")
        bounds = f"[{cell['auc_low']:.2f}, {cell['auc_high']:.2f}]"
    return f"{text} {bounds}" if with_interval else text


def caption_of(table_number: int, cells: pd.DataFrame) -> str:
    """Return the caption without notices."""
    attacked = cells.loc[cells["condition"] == "adversarial", "epsilon"]
    epsilon = f" at ε = {attacked.min():g}" if len(attacked) else ""
    return f"Table {table_number}. {_CAPTIONS[table_number].format(epsilon=epsilon)} In brackets: 95% intervals."


def void_notice(cells: pd.DataFrame) -> str:
    """Return the notice that a table is void because models behind its cells did not learn; "" if all learned."""
    names = sorted({name for text in cells["unlearned"] for name in text.split("; ") if name})
    if not names:
        return ""
    return (
        f"VOID: not to be read as results. {len(names)} of the models involved did not learn "
        f"(lower bound of clean AUC not above {LEARNED_BOUND:g}): {', '.join(names)}"
    )


def notices_of(cells: pd.DataFrame, *, phantom: bool) -> list[str]:
    """Return the notices of a table: generated images, models that did not learn, missing cells."""
    missing = int(cells["auc"].isna().sum())
    lines = [PHANTOM_NOTICE if phantom else "", void_notice(cells)]
    if missing:
        lines.append(
            f"{missing} of {len(cells)} cells lack pairings and are shown as missing, not averaged over the rest"
        )
    return [line + "." for line in lines if line]


def to_markdown(table_number: int, cells: pd.DataFrame, *, phantom: bool = False, intervals: bool = True) -> str:
    """Return the table as GitHub Markdown, caption and notices first."""
    header, body = _strings(table_number, cells, intervals)
    lines = [f"**{line}**" for line in notices_of(cells, phantom=phantom)]
    lines = ["\n\n".join([caption_of(table_number, cells), *lines]), ""]
    lines += [_markdown_row(header), _markdown_row(["---"] * 2 + ["---:"] * (len(header) - 2))]
    return "\n".join([*lines, *map(_markdown_row, body)]) + "\n"


def to_latex(table_number: int, cells: pd.DataFrame, *, phantom: bool = False, intervals: bool = True) -> str:
    """Return the table as a LaTeX table environment (packages: booktabs, graphicx for \\resizebox)."""
    header, body = _strings(table_number, cells, intervals)
    # The class numbers the table itself.
    caption = " ".join([caption_of(table_number, cells), *notices_of(cells, phantom=phantom)]).split(". ", 1)[1]
    groups = [row[0] for row in body]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\label{{tab:raygrid-{table_number}}}",
    ]
    lines += [r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}", r"\toprule"]
    lines += [_latex_row(header), r"\midrule"]
    for row, group, before in zip(body, groups, [*groups[:1], *groups], strict=False):
        lines += [r"\addlinespace"] if group != before else []
        lines.append(_latex_row(row))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]) + "\n"


def to_terminal(table_number: int, cells: pd.DataFrame, *, phantom: bool = False, intervals: bool = False) -> str:
    """Return the table as aligned plain text; without intervals by default, to fit a terminal."""
    header, body = _strings(table_number, cells, intervals)
    widths = [max(len(row[k]) for row in [header, *body]) for k in range(len(header))]
    rule = "  ".join("-" * width for width in widths)

    def line(row: list[str]) -> str:
        aligned = [t.ljust(w) if k < 2 else t.rjust(w) for k, (t, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(aligned).rstrip()

    title = f"Table {table_number}. {_CAPTIONS[table_number].split('.')[0]}"
    return "\n".join([title, *notices_of(cells, phantom=phantom), line(header), rule, *map(line, body)]) + "\n"


def _place_in_table1(cell: dict[Any, Any]) -> tuple[str, str]:
    return cell["modality"], _NOISE[cell["condition"]]


def _place_in_table2(cell: dict[Any, Any]) -> tuple[str, str]:
    return init_label(cell["target_init"]), init_label(cell["surrogate_init"])


def _place_in_table3(cell: dict[Any, Any]) -> tuple[str, str]:
    if cell["condition"] == "clean":
        return "–", "none (clean)"
    return cell["architecture"], cell["surrogate_split"].replace("_half", "/2").replace("_tenth", "/10")


def _column(table_number: int, cell: dict[Any, Any]) -> str:
    if table_number > 1:
        return str(cell["modality"])
    return f"{displayed(cell['attack'])} ε = {cell['epsilon']:g}" if cell["attack"] else ""


def _strings(table_number: int, cells: pd.DataFrame, intervals: bool) -> tuple[list[str], list[list[str]]]:
    wide = to_paper_shape(table_number, cells, intervals=intervals)
    return [str(c) for c in wide.columns], [[str(v) for v in row] for row in wide.itertuples(index=False)]


def _markdown_row(row: list[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |"


def escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(row: list[str]) -> str:
    return f"{' & '.join(map(escape_latex, row))} \\\\"
