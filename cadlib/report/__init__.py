"""All that was measured of a model on some images, as one HTML file that needs no other and no network.

Jinja2 escapes whatever comes from a file; the card is read by markdown-it, which passes no HTML, no picture and no link
on; a Content-Security-Policy forbids the browser every request. No picture of a data set is in it, so that it may be
passed on.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from cadlib import __version__
from cadlib.metrics.image_counts import Counts
from cadlib.report import charts as figures
from cadlib.report.sections import Section, Subject, Table, sections

__all__ = ["Section", "Subject", "Table", "render"]

TEMPLATE_FILE = "page.html.jinja"
INK = "#123457"
"""Stands for the colour of text, which the page replaces by its own, light or dark; no chart has it otherwise."""


def render(subject: Subject, command: str) -> str:
    """Return the report as HTML; `command` says how it was made."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return templates.get_template(TEMPLATE_FILE).render(
        title=f"{subject.record.name} {subject.record.version} on {subject.part} of {subject.figures['data']['name']}",
        subject=subject,
        facts=_facts(subject),
        sections=list(sections(subject)),
        chart=_chart,
        card=_card(subject.card),
        plotly=Markup(get_plotlyjs()),  # plotly's own code, which has no </script>
        made=f"Made {made} by cadlib {__version__}: {command}",
    )


def _facts(subject: Subject) -> list[tuple[str, str]]:
    record, found, data = subject.record, subject.figures, subject.figures["data"]
    facts = [
        ("Model", f"{record.name} {record.version}, {record.validation_claim}"),
        ("Model id", record.model_id),
        ("SHA-256 of its weights", record.weights_sha256),
        ("Images", f"{subject.part} of {data['name']}"),
        (
            "n",
            f"{found['n']:,} labelled images of {found['n_lesions']:,} lesions{_diagnosed(found)}",
        ),
    ]
    if "warning" in data:
        facts.append(("Warning", data["warning"]))
    left_out = {"without a label": found["unlabelled"], "of no known diagnosis": found["unknown"],
                "not readable": len(found.get("rejected", ()))}  # fmt: skip
    facts += [("Not counted", ", ".join(f"{n:,} {why}" for why, n in left_out.items() if n))] * any(
        left_out.values()
    )
    if "split" in data:
        facts.append(("SHA-256 of the model's split", record.training.split_sha256))
    if subject.evaluated is not None:
        ids = "\n".join(sorted(subject.evaluated.table["image"]))
        facts.append(("SHA-256 of the image ids", hashlib.sha256(ids.encode()).hexdigest()))
    return [*facts, ("Licence of the model", record.data_licence)]


def _diagnosed(figures: dict[str, Any]) -> str:
    images = Counts.of(figures)
    return f", {images.diagnosed:,} of them with a diagnosis" * images.partial


def _chart(figure: go.Figure) -> Markup:
    """Return the element of a chart and the script that draws it; plotly.js stands in the page."""
    figure = go.Figure(figure).update_layout(
        template="none", font={"color": INK, "family": "system-ui, sans-serif", "size": 13}
    )
    figure.update_xaxes(automargin=True).update_yaxes(automargin=True)
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=figures.CONFIG))


def _card(text: str) -> Markup:
    """Return Markdown as HTML, all text escaped, its headings below one of the second level."""
    reader = (
        MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .disable(["image", "link", "autolink"])
    )
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 2, 6)}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))
