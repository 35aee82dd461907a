"""Metrics of an evaluation for tests, made of a summary or of the shipped ones."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict

from cadlib.metrics.summary_schema import EvaluationMetrics, FullSummary, MeasuredPoint


def evaluation_metrics(
    summary: FullSummary, points: Sequence[MeasuredPoint] = (), **changes: Any
) -> EvaluationMetrics:
    """Return the metrics of an evaluation with this summary and these operating points."""
    values: dict[str, Any] = {
        **asdict(summary),
        "unlabelled": 0,
        "unknown": 0,
        "operating_points": tuple(points),
        "subgroups": {},
    }
    return EvaluationMetrics(**{**values, **changes})
