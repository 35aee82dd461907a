"""Selects the reliability diagrams that metrics.json allows."""

import plotly.graph_objects as go

from cadlib.metrics.image_counts import Counts
from cadlib.metrics.summary_schema import FullSummary
from cadlib.report.charts.classification import malignant_reliability_chart, reliability_chart


def reliability_charts(metrics: FullSummary) -> tuple[tuple[str, go.Figure], ...]:
    """Return the name and the chart of each diagram.

    The first is that of the top diagnosis, and needs images with a diagnosis. The second is that of
    the malignant probability, which an earlier version did not measure.
    """
    images = Counts.of(metrics)
    charts = []
    if images.diagnosed:
        charts.append(("Reliability", reliability_chart(metrics.reliability)))
    if images.n and metrics.malignant_reliability is not None:
        chart = malignant_reliability_chart(metrics.malignant_reliability)
        charts.append(("Reliability of the malignant probability", chart))
    return tuple(charts)
