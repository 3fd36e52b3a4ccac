"""What the HTML pages of a study share: how templates are filled and pictures embedded, so that they load nothing."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """An embedded image with the text for those who cannot see it."""

    source: str
    alt: str
    caption: str


def render(template: str, **values: Any) -> str:
    """Return a template of `raygrid/report/templates` filled with values; a value that it lacks is an error."""
    environment = Environment(
        loader=PackageLoader("raygrid.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def as_svg(figure: Figure) -> str:
    """Return a figure as the address of an embedded drawing; equal figures give equal text."""
    stream = io.BytesIO()
    # A fixed salt and no date: the same study gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": "raygrid", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"


def as_png(figure: Figure) -> str:
    """Return a figure as the address of an embedded picture of pixels; equal figures give equal text."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
