"""Fill HTML templates and embed figures, so that a page loads nothing."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from raygrid.analysis.number_text import fixed
from raygrid.analysis.tables import LEARNED_BOUND
from raygrid.report.table_text import PHANTOM_NOTICE
from raygrid.spec import displayed


@dataclass(frozen=True)
class Picture:
    """An embedded image with its text alternative."""

    source: str
    alt: str
    caption: str


def render(template: str, *, phantom: bool, **values: Any) -> str:
    """Return a template of `raygrid/report/templates`, filled with values.

    Args:
        phantom: whether the images are generated; the page then has a notice.

    Raises UndefinedError if the template uses a value that is not given.
    """
    environment = Environment(
        loader=PackageLoader("raygrid.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fixed"] = fixed
    environment.filters["displayed"] = displayed
    notice = PHANTOM_NOTICE if phantom else ""
    return environment.get_template(template).render(phantom_notice=notice, bound=LEARNED_BOUND, **values)


def svg_picture(figure: Figure, alt: str, caption: str) -> Picture:
    """Return a figure as an embedded drawing; equal figures give equal text."""
    stream = io.BytesIO()
    # A fixed salt and no date: the same study gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": "raygrid", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return Picture(_address("image/svg+xml", stream), alt, caption)


def png_picture(figure: Figure, alt: str, caption: str) -> Picture:
    """Return a figure as an embedded picture of pixels; equal figures give equal text."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return Picture(_address("image/png", stream), alt, caption)


def _address(kind: str, stream: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
