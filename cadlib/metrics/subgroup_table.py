"""For whom a model is how good, as a table, and where the gap to the others is larger than chance makes it."""

from collections.abc import Callable, Mapping
from typing import Any

from cadlib.metrics.image_counts import Counts

COLUMNS = {"balanced_accuracy": "Balanced accuracy", "malignant_auc": "AUC malignant"}
MORE = {"sensitivity": "Sensitivity", "specificity": "Specificity"}
WORSE, BETTER = "▼", "△"


def subgroup_rows(figures: Mapping[str, Any], told: Callable[..., str]) -> list[dict[str, str]]:
    """Return a row for all images and for each subgroup of metrics.json, by the head of its columns.

    `told` makes text of a figure and its interval. A figure is marked where it is not that of the rest; the gap itself
    stands there where metrics.json has `gaps`.
    """
    parts = {"all": figures, **figures["subgroups"]}
    found = {(gap["group"], gap["figure"]): gap for gap in figures.get("gaps", [])}
    rows = [_row(name, part, found, told) for name, part in parts.items()]
    images = Counts.of(figures)
    if images.partial:
        for row, part in zip(rows, parts.values(), strict=True):
            if not images.diagnosed:  # the heading of the page has said it of all
                row["n"] = f"{part['n']:,}"
            row["ECE malignant"] = told(part["malignant_ece"], part["intervals"]["malignant_ece"])
    return rows


def gaps_note(figures: Mapping[str, Any]) -> str:
    """Say what the marks mean, and how many of the gaps that were tested have one."""
    gaps = figures["gaps"]
    return (
        f"{WORSE} worse and {BETTER} better than all other images by more than chance: "
        f"{sum(gap['beyond_chance'] for gap in gaps)} of {len(gaps)} gaps tested. With Holm's steps over all of them, "
        "the chance of even one false mark is at most 5 %. A gap is over the diagnoses that both sides have, with 10 "
        "lesions of each or more."
    )


def _row(
    name: str, part: dict[str, Any], found: dict[Any, dict[str, Any]], told: Callable[..., str]
) -> dict[str, str]:
    def marked(figure: str) -> str:
        gap = found.get((name, figure))
        if gap is None or not gap["beyond_chance"]:
            return ""
        return f" {WORSE if gap['subgroup'] < gap['rest'] else BETTER}"

    def gap_of(figure: str) -> str:
        gap = found.get((name, figure))
        if gap is None:
            return "–"
        return told(gap["subgroup"] - gap["rest"], gap["interval"]) + marked(figure)

    ends = part["intervals"]
    return {
        "Images": name,
        "n": Counts.of(part).n_text,
        "Diagnoses": str(part["n_classes"]),
        **{text: told(part[key], ends[key]) + marked(key) for key, text in COLUMNS.items()},
        "AUC melanoma": told(part["auc"]["MEL"], ends["auc"]["MEL"]),
        "ECE": told(part["ece"], ends["ece"]),
        **({f"{text}, gap": gap_of(key) for key, text in MORE.items()} if found else {}),
    }
