"""Formats how well the spread of the networks predicts errors."""

from cadlib.metrics.summary_schema import (
    NetworkSpread,
    RiskCoverage,
    SpreadAndPeer,
    SpreadMetrics,
)
from cadlib.metrics.tables import Row, aligned, change_text, metric_text

SHOWN_COVERAGES = ("1.00", "0.90", "0.80", "0.70", "0.50")
"""Points of the risk-coverage curve that a table shows."""
NOT_MEASURED = (
    "The spread of the networks was not measured: none of these images is new to all of them. "
    "Evaluate the test split, or images from elsewhere."
)
PEERS = (
    "The peer is the closeness to the threshold for a decision, and 1 minus the highest "
    "probability for a diagnosis."
)
MEASURES = (
    "The spread is the range of the networks' malignant probabilities for a decision, and their "
    "mutual information for a diagnosis."
)


def spread_table(spread: NetworkSpread) -> str:
    """Return the metrics as aligned text, or why there are none."""
    measured = spread.unseen
    if measured is None:
        return NOT_MEASURED
    images = images_text(measured, spread.trained_on)
    title = f"spread of the {spread.networks} networks on {images}"
    rows = aligned(spread_rows(measured))
    return "\n".join([title, rows, borderline_text(measured)])


def images_text(measured: SpreadMetrics, n_trained_on: int) -> str:
    """Return how many images were measured and how many were left out."""
    text = f"{measured.n:,} images of {measured.n_lesions:,} lesions that no network was trained on"
    if n_trained_on:
        return f"{text} ({n_trained_on:,} other images left out)"
    return text


def spread_rows(measured: SpreadMetrics) -> list[Row]:
    """Return a head and a row for each metric: spread, peer and their difference as text."""
    decisions = f"{measured.wrong_decisions:,} of {measured.n:,}"
    diagnoses = f"{measured.wrong_diagnoses:,} of {measured.n_diagnosed:,}"
    return [
        ("metric", "spread (95 % CI)", "peer (95 % CI)", "difference (95 % CI)"),
        _pair(f"AUROC, wrong decision ({decisions})", measured.decision_auroc),
        _pair(f"AUROC, wrong top diagnosis ({diagnoses})", measured.diagnosis_auroc),
        _pair("area under the risk-coverage curve (lower is better)", measured.aurc),
        *_coverage_rows(measured.risk_coverage),
    ]


def _coverage_rows(curve: RiskCoverage) -> list[Row]:
    ends = curve.intervals
    rows: list[Row] = []
    for coverage in SHOWN_COVERAGES:
        share = float(coverage)
        percent = round(100 * share)
        images = "all images" if percent == 100 else f"the {percent} % most certain images"
        title = f"error rate of the top diagnosis, {images}"
        by_spread = metric_text(curve.spread[coverage], ends.spread[coverage])
        by_peer = metric_text(curve.peer[coverage], ends.peer[coverage])
        rows.append((title, by_spread, by_peer, ""))
    return rows


def borderline_text(measured: SpreadMetrics) -> str:
    """Return how often the networks disagree on the decision, and how often it is wrong then."""
    borderline = measured.borderline
    ends = borderline.intervals
    share = metric_text(borderline.share, ends.share)
    inside = metric_text(borderline.error_rate, ends.error_rate)
    outside = metric_text(borderline.error_rate_of_others, ends.error_rate_of_others)
    return (
        f"Borderline (the networks disagree on the decision): {borderline.n:,} images, share "
        f"{share}. Share of wrong decisions: {inside} in these images, {outside} in all others."
    )


def _pair(title: str, pair: SpreadAndPeer) -> Row:
    ends = pair.intervals
    return (
        title,
        metric_text(pair.spread, ends.spread),
        metric_text(pair.peer, ends.peer),
        change_text(pair.difference, ends.difference),
    )
