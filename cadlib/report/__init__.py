"""Renders the metrics of a model as one HTML file.

The file needs no other file and no network. Jinja2 escapes every text of a file. markdown-it reads
the card, and drops HTML, images and links. A Content-Security-Policy forbids the browser every
request. The file has no image of a data set, so that it may be shared.
"""

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from markdown_it import MarkdownIt
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from cadlib import __version__
from cadlib.metrics.image_counts import Counts
from cadlib.metrics.summary_schema import EvaluationMetrics
from cadlib.report import charts
from cadlib.report.sections import Section, Subject, Table, sections
from cadlib.report.templates import html_template

if TYPE_CHECKING:
    from cadlib.evaluation.cached import Evaluated

__all__ = ["Section", "Subject", "Table", "render"]

TEMPLATE_FILE = "page.html.jinja"
INK = "#123457"
"""Placeholder for the colour of text, which the page replaces by its own, light or dark.

No chart uses this colour otherwise.
"""


def render(subject: Subject, command: str) -> str:
    """Return the report as HTML; `command` is the command that made it."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    model = f"{subject.record.name} {subject.record.version}"
    data_name = subject.data_name
    template = html_template(TEMPLATE_FILE)
    return template.render(
        title=f"{model} on {subject.part} of {data_name}",
        subject=subject,
        facts=_facts(subject),
        sections=list(sections(subject)),
        chart=_chart,
        card=_card(subject.card),
        plotly=Markup(get_plotlyjs()),  # plotly's own code, which has no </script>
        made=f"Made {now} by cadlib {__version__}: {command}",
    )


def _facts(subject: Subject) -> list[tuple[str, str]]:
    """Return what identifies the model and the images, as pairs of a name and a text."""
    record = subject.record
    metrics = subject.metrics
    data = metrics.data
    model = f"{record.name} {record.version}, {record.validation_claim}"
    images = f"{subject.part} of {subject.data_name}"
    facts = [
        ("Model", model),
        ("Model id", record.model_id),
        ("SHA-256 of its weights", record.weights_sha256),
        ("Images", images),
        ("n", _image_count(metrics)),
    ]
    if data and data.warning:
        facts.append(("Warning", data.warning))
    not_counted = _not_counted(metrics)
    if not_counted:
        facts.append(("Excluded", not_counted))
    # Images outside of the split have nothing to do with its hash.
    if data and data.split:
        facts.append(("SHA-256 of the model's split", record.training.split_sha256))
    evaluated = subject.evaluated
    if evaluated is not None:
        digest = _digest_of_ids(evaluated)
        facts.append(("SHA-256 of the image ids", digest))
    facts.append(("Licence of the model", record.data_licence))
    return facts


def _image_count(metrics: EvaluationMetrics) -> str:
    """Return the number of images and lesions behind the metrics."""
    n_images = f"{metrics.n:,} labelled images of {metrics.n_lesions:,} lesions"
    return n_images + _diagnosed(metrics)


def _digest_of_ids(evaluated: "Evaluated") -> str:
    """Return a hash of the image ids, so that two reports on the same images can be recognised."""
    # Sorted: the same images in another order are the same images.
    ids = sorted(evaluated.table["image"])
    text = "\n".join(ids)
    return hashlib.sha256(text.encode()).hexdigest()


def _not_counted(metrics: EvaluationMetrics) -> str:
    """Return how many images are excluded from the metrics, and why; "" for none."""
    counts = {
        "without a label": metrics.unlabelled,
        "with an unknown diagnosis": metrics.unknown,
        "not readable": len(metrics.rejected or ()),
    }
    texts = []
    for reason, n in counts.items():
        if n:
            texts.append(f"{n:,} {reason}")
    return ", ".join(texts)


def _diagnosed(metrics: EvaluationMetrics) -> str:
    """Return how many of the images have a diagnosis, where these are not all."""
    images = Counts.of(metrics)
    if not images.partial:
        return ""
    return f", {images.diagnosed:,} of them with a diagnosis"


def _chart(figure: go.Figure) -> Markup:
    """Return the element of a chart and the script that draws it; plotly.js is in the page."""
    font = {"color": INK, "family": "system-ui, sans-serif", "size": 13}
    # A copy: the chart that the caller has stays as it is.
    page_figure = go.Figure(figure).update_layout(template="none", font=font)
    page_figure.update_xaxes(automargin=True)
    page_figure.update_yaxes(automargin=True)
    element = page_figure.to_html(full_html=False, include_plotlyjs=False, config=charts.CONFIG)
    return Markup(element)


def _card(text: str) -> Markup:
    """Return Markdown as HTML: text is escaped, and headings begin at the third level."""
    reader = MarkdownIt("commonmark", {"html": False})
    reader.enable("table")
    # The file is shared, so a card must not load or link anything from elsewhere.
    reader.disable(["image", "link", "autolink"])
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            # The page has a heading for itself and one for the card; HTML ends at the sixth level.
            level = int(token.tag[1:])
            token.tag = f"h{min(level + 2, 6)}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))
