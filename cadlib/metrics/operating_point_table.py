"""Operating points as a table where images of one group are missing, so that no threshold can be judged."""

from collections.abc import Mapping
from typing import Any

from cadlib.metrics.image_counts import Counts
from cadlib.metrics.tables import figure_text

ONE_GROUP_NOTE = "Without malignant and benign images no threshold can be judged."


def one_group_note(figures: Mapping[str, Any]) -> str:
    """Return why no threshold can be judged on these images, and what is measured all the same."""
    images = Counts.of(figures)
    if not images.n:
        return ONE_GROUP_NOTE
    there, missing = ("malignant", "benign") if images.malignant else ("benign", "malignant")
    measured, not_defined = (
        ("Sensitivity", "specificity") if images.malignant else ("Specificity", "sensitivity")
    )
    return (
        f"{ONE_GROUP_NOTE} All {images.n:,} images are {there}, none is {missing}. {measured} is measured; "
        f"{not_defined}, AUC, PPV, NPV and the decision curve are not defined."
    )


def point_rows(figures: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row for each operating point of metrics.json, by the head of its columns."""
    rows = []
    for point in figures["operating_points"]:
        ends = point["intervals"]
        rows.append(
            {
                "Operating point": point["name"],
                "Threshold": figure_text(point["threshold"]),
                "Sensitivity": figure_text(point["sensitivity"], ends["sensitivity"]),
                "Malignant images": f"{point['n_malignant']:,}",
                "Specificity": figure_text(point["specificity"], ends["specificity"]),
                "Benign images": f"{point['n_benign']:,}",
            }
        )
    return rows
