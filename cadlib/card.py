"""The model card: every figure out of model.json and metrics.json, none typed.

Its sections follow Mitchell et al., Model Cards for Model Reporting (FAT* 2019).
"""

from collections.abc import Iterable
from typing import Any

from cadlib.record import ModelRecord
from cadlib.summary import DRAWS
from cadlib.tables import figure_of, figure_text
from cadlib.taxonomy import DIAGNOSES


def render(record: ModelRecord, figures: dict[str, Any]) -> str:
    """Return the card as Markdown, from a record and the content of its metrics.json."""
    sections = [
        f"# {record.name} {record.version}",
        (
            f"{record.backbone}, {record.input.size_px} × {record.input.size_px} px, made {record.created} by "
            "`python -m cadlib train`. Every figure here comes from model.json and metrics.json beside it."
        ),
        f"**Intended use.** {record.intended_use}",
        f"**Licence.** {record.data_licence}",
        "## Limits",
        "\n".join(f"- {limit}" for limit in record.known_limits),
        *_data(record, figures),
        *_figures(figures),
        *_thresholds(record, figures),
    ]
    return "\n\n".join(sections) + "\n"


def _data(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    training = record.training
    config = training.config
    return [
        "## Data and training",
        _table(
            ("split", "images", "lesion groups"),
            ((part, f"{n:,}", f"{training.lesions[part]:,}") for part, n in training.images.items()),
        ),
        (
            f"From the data set `{training.dataset}`, split by lesion (seed {training.seed}): no lesion, and no "
            f"near-duplicate, stands in two splits. {training.epochs} epochs at {config['first_px']} to "
            f"{config['last_px']} px in {training.seconds / 60:.0f} minutes, code {training.git_commit}. "
            f"{_use_of_test(figures)}"
        ),
    ]


def _figures(figures: dict[str, Any]) -> list[str]:
    data = figures["data"]
    headline = ("balanced_accuracy", "malignant_auc")
    return [
        "## How good it is",
        (
            f"On the {data['split']} split of {data['name']}, {figures['n']:,} images of {figures['n_lesions']:,} "
            f"lesions, one model, no test-time averaging. {_fitted_on(figures)} In brackets 95 % intervals, from "
            f"{DRAWS:,} draws of lesions."
        ),
        _table(
            ("images", "n", "diagnoses", "balanced accuracy", "malignant AUC", "melanoma AUC", "accuracy", "ECE"),
            (
                (
                    name,
                    f"{part['n']:,}",
                    str(part["n_classes"]),
                    *(figure_of(part, figure) for figure in headline),
                    figure_of(part, "auc", "MEL"),
                    *(figure_of(part, figure) for figure in ("accuracy", "ece")),
                )
                for name, part in (("all", figures), *figures["subgroups"].items())
            ),
        ),
        (
            "Balanced accuracy is the mean sensitivity over the diagnoses present in a row. A figure over too few "
            "lesions has no interval. The noise of its bins adds to a calibration error, and more to that of a draw: "
            "its interval lies high."
        ),
        _table(
            ("diagnosis", "", "n", "sensitivity", "specificity", "PPV", "NPV", "average precision", "AUC"),
            (
                (
                    f"{d.name} ({d.code})",
                    d.group,
                    f"{figures['n_by_class'][d.code]:,}",
                    *(
                        figure_of(figures, name, d.code)
                        for name in ("sensitivity", "specificity", "ppv", "npv", "average_precision", "auc")
                    ),
                )
                for d in DIAGNOSES
            ),
        ),
    ]


def _use_of_test(figures: dict[str, Any]) -> str:
    used = figures["data"]["split"] == "test"
    return "The test split served for the figures below alone." if used else "The test split has not been used."


def _fitted_on(figures: dict[str, Any]) -> str:
    where = "other images, those of validation" if figures["data"]["split"] == "test" else "these same images"
    return f"The temperature and the operating points were fitted on {where}."


def _thresholds(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    return [
        "## Operating points",
        _table(
            ("point", "refer at malignant probability", "sensitivity", "specificity", "malignant", "benign"),
            (
                (
                    point["name"],
                    f"≥ {point['threshold']:.3f}",
                    *(figure_text(point[name], point["intervals"][name]) for name in ("sensitivity", "specificity")),
                    f"{point['n_malignant']:,}",
                    f"{point['n_benign']:,}",
                )
                for point in figures["operating_points"]
            ),
        ),
        "## Calibration",
        (
            f"Temperature {record.temperature:.3f}. Expected calibration error {figure_of(figures, 'ece')}, before "
            f"calibration {figure_of(figures, 'ece_uncalibrated')}; Brier score {figure_of(figures, 'brier')}, before "
            f"{figure_of(figures, 'brier_uncalibrated')}; over the mix of diagnoses of these images."
        ),
    ]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
