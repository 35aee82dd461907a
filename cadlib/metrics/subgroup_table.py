"""Formats the metrics of subgroups as a table."""

from collections.abc import Callable, Mapping
from typing import Any

from cadlib.metrics.image_counts import Counts

COLUMNS = {"balanced_accuracy": "Balanced accuracy", "malignant_auc": "AUC malignant"}
MORE = {"sensitivity": "Sensitivity", "specificity": "Specificity"}
WORSE = "▼"
BETTER = "△"


def subgroup_rows(figures: Mapping[str, Any], text_of: Callable[..., str]) -> list[dict[str, str]]:
    """Return a row for all images and for each subgroup of metrics.json, by column heading.

    `text_of` formats a metric and its interval. A metric is marked where it differs significantly
    from that of the rest. The gap itself is shown where metrics.json has `gaps`.
    """
    parts = {"all": figures, **figures["subgroups"]}
    gaps = {}
    for gap in figures.get("gaps", []):
        gaps[gap["group"], gap["figure"]] = gap
    images = Counts.of(figures)
    rows = []
    for name, part in parts.items():
        row = _row(name, part, gaps, text_of)
        if images.partial:
            # Without any diagnosis, the heading of the page already states it.
            if not images.diagnosed:
                row["n"] = f"{part['n']:,}"
            interval = part["intervals"]["malignant_ece"]
            row["ECE malignant"] = text_of(part["malignant_ece"], interval)
        rows.append(row)
    return rows


def gaps_note(figures: Mapping[str, Any]) -> str:
    """Explain the marks and count the tested gaps that have one."""
    gaps = figures["gaps"]
    n_marked = sum(gap["beyond_chance"] for gap in gaps)
    return (
        f"{WORSE} significantly worse and {BETTER} significantly better than all other images: "
        f"{n_marked} of {len(gaps)} differences tested. With Holm's correction, the chance of one "
        "or more false marks is at most 5 %. A difference uses only the diagnoses that have at "
        "least 10 lesions on both sides."
    )


def _row(
    name: str,
    part: dict[str, Any],
    gaps: Mapping[tuple[str, str], dict[str, Any]],
    text_of: Callable[..., str],
) -> dict[str, str]:
    ends = part["intervals"]
    row = {
        "Images": name,
        "n": Counts.of(part).n_text,
        "Diagnoses": str(part["n_classes"]),
    }
    for key, heading in COLUMNS.items():
        text = text_of(part[key], ends[key])
        row[heading] = text + _mark(gaps.get((name, key)))
    row["AUC melanoma"] = text_of(part["auc"]["MEL"], ends["auc"]["MEL"])
    row["ECE"] = text_of(part["ece"], ends["ece"])
    if gaps:
        for key, heading in MORE.items():
            gap = gaps.get((name, key))
            row[f"{heading}, gap"] = _gap_text(gap, text_of)
    return row


def _gap_text(gap: dict[str, Any] | None, text_of: Callable[..., str]) -> str:
    if gap is None:
        return "–"
    difference = gap["subgroup"] - gap["rest"]
    return text_of(difference, gap["interval"]) + _mark(gap)


def _mark(gap: dict[str, Any] | None) -> str:
    """Return the mark of a gap after a space, or an empty text without a significant gap."""
    if gap is None or not gap["beyond_chance"]:
        return ""
    is_worse = gap["subgroup"] < gap["rest"]
    return f" {WORSE}" if is_worse else f" {BETTER}"
