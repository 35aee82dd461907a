"""Formats the metrics of subgroups as a table."""

from collections.abc import Callable, Mapping, Sequence

from cadlib.metrics.image_counts import Counts
from cadlib.metrics.summary_schema import EvaluationMetrics, SubgroupGap, Summary

COLUMNS = {"balanced_accuracy": "Balanced accuracy", "malignant_auc": "AUC malignant"}
MORE = {"sensitivity": "Sensitivity", "specificity": "Specificity"}
WORSE = "▼"
BETTER = "△"


def subgroup_rows(metrics: EvaluationMetrics, text_of: Callable[..., str]) -> list[dict[str, str]]:
    """Return a row for all images and for each subgroup of metrics.json, by column heading.

    `text_of` formats a metric and its interval. A metric is marked where it differs significantly
    from that of the rest. The gap itself is shown where metrics.json has `gaps`.
    """
    # All images come first: each subgroup is read against them.
    parts: dict[str, Summary] = {"all": metrics, **metrics.subgroups}
    gaps = {}
    for gap in metrics.gaps or ():
        gaps[gap.group, gap.metric] = gap
    images = Counts.of(metrics)
    rows = []
    for name, part in parts.items():
        row = _row(name, part, gaps, text_of)
        if images.partial:
            # Without any diagnosis, the heading of the page already states it.
            if not images.diagnosed:
                row["n"] = f"{part.n:,}"
            row["ECE malignant"] = text_of(part.malignant_ece, part.intervals.malignant_ece)
        rows.append(row)
    return rows


def gaps_note(gaps: Sequence[SubgroupGap]) -> str:
    """Explain the marks and count the tested gaps that have one."""
    n_marked = sum(gap.beyond_chance for gap in gaps)
    return (
        f"{WORSE} significantly worse and {BETTER} significantly better than all other images: "
        f"{n_marked} of {len(gaps)} differences tested. With Holm's correction, the chance of one "
        "or more false marks is at most 5 %. A difference uses only the diagnoses that have at "
        "least 10 lesions on both sides."
    )


def _row(
    name: str,
    part: Summary,
    gaps: Mapping[tuple[str, str], SubgroupGap],
    text_of: Callable[..., str],
) -> dict[str, str]:
    ends = part.intervals
    row = {
        "Images": name,
        "n": Counts.of(part).n_text,
        "Diagnoses": str(part.n_classes),
    }
    for key, heading in COLUMNS.items():
        text = text_of(getattr(part, key), getattr(ends, key))
        row[heading] = text + _mark(gaps.get((name, key)))
    row["AUC melanoma"] = text_of(part.auc["MEL"], ends.auc["MEL"])
    row["ECE"] = text_of(part.ece, ends.ece)
    # Without tests the two columns would hold nothing but dashes.
    if gaps:
        for key, heading in MORE.items():
            gap = gaps.get((name, key))
            row[f"{heading}, gap"] = _gap_text(gap, text_of)
    return row


def _gap_text(gap: SubgroupGap | None, text_of: Callable[..., str]) -> str:
    if gap is None:
        return "–"
    difference = gap.subgroup - gap.rest
    return text_of(difference, gap.interval) + _mark(gap)


def _mark(gap: SubgroupGap | None) -> str:
    """Return the mark of a gap after a space, or an empty text without a significant gap."""
    if gap is None or not gap.beyond_chance:
        return ""
    # Of all four tested metrics, a higher value is better.
    is_worse = gap.subgroup < gap.rest
    return f" {WORSE}" if is_worse else f" {BETTER}"
