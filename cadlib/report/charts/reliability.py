"""Selects the reliability diagrams that metrics.json allows."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from cadlib.metrics.image_counts import Counts
from cadlib.report.charts.classification import malignant_reliability_chart, reliability_chart


def reliability_charts(figures: Mapping[str, Any]) -> tuple[tuple[str, go.Figure], ...]:
    """Return the name and the chart of each diagram.

    The first is that of the top diagnosis, and needs images with a diagnosis. The second is that of
    the malignant probability, which figures of an earlier version do not have.
    """
    images = Counts.of(figures)
    charts = []
    if images.diagnosed:
        charts.append(("Reliability", reliability_chart(figures["reliability"])))
    if images.n and "malignant_reliability" in figures:
        chart = malignant_reliability_chart(figures["malignant_reliability"])
        charts.append(("Reliability of the malignant probability", chart))
    return tuple(charts)
