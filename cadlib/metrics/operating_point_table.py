"""Formats operating points where one group of images is missing."""

from cadlib.metrics.image_counts import Counts
from cadlib.metrics.summary_schema import EvaluationMetrics
from cadlib.metrics.tables import metric_text

ONE_GROUP_NOTE = "A threshold can be evaluated only with both malignant and benign images."


def one_group_note(metrics: EvaluationMetrics) -> str:
    """Return why no threshold can be judged on these images, and what is still measured."""
    images = Counts.of(metrics)
    # Without an image, both groups are missing, and nothing is measured.
    if not images.n:
        return ONE_GROUP_NOTE
    # One group is missing here, so any malignant image means that all are.
    if images.malignant:
        present = "malignant"
        missing = "benign"
        measured = "Sensitivity"
        not_defined = "specificity"
    else:
        present = "benign"
        missing = "malignant"
        measured = "Specificity"
        not_defined = "sensitivity"
    return (
        f"{ONE_GROUP_NOTE} All {images.n:,} images are {present}, none is {missing}. "
        f"{measured} is measured; {not_defined}, AUC, PPV, NPV and the decision curve are not "
        "defined."
    )


def point_rows(metrics: EvaluationMetrics) -> list[dict[str, str]]:
    """Return a row for each operating point of metrics.json, by the heading of its columns."""
    rows = []
    for point in metrics.operating_points:
        ends = point.intervals
        rows.append(
            {
                "Operating point": point.name,
                "Threshold": metric_text(point.threshold),
                "Sensitivity": metric_text(point.sensitivity, ends.sensitivity),
                "Malignant images": f"{point.n_malignant:,}",
                "Specificity": metric_text(point.specificity, ends.specificity),
                "Benign images": f"{point.n_benign:,}",
            }
        )
    return rows
