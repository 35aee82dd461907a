"""Writes the section of the model card on similar cases."""

from typing import Any

from cadlib import command_hints
from cadlib.metrics.tables import figure_of, markdown_table
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import DIAGNOSES


def similar_cases(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Return how often similar training images have the true diagnosis, or why that is missing."""
    title = "## Similar cases"
    command = f"`{command_hints.index(record.name)}`"
    if record.neighbours is None:
        return [title, f"None: this model has no index of its training images. {command} makes it."]
    held = f"{record.neighbours.images:,} of {record.neighbours.of:,} training images"
    measured = figures.get("neighbours")
    if measured is None:
        return [
            title,
            (
                f"An index of {held}, not measured since the model was calibrated; "
                f"{command} measures it."
            ),
        ]
    return [
        title,
        (
            f"With an answer come the {measured['k']} training images most like the picture, one "
            f"a lesion, out of {held}. {_precision(measured)}"
        ),
        _by_diagnosis(measured),
        "How often the model's first diagnosis was right, by how many similar cases have it:",
        _by_agreement(measured),
    ]


def _precision(measured: dict[str, Any]) -> str:
    return (
        f"On {measured['n']:,} images of {measured['n_lesions']:,} lesions of the "
        f"{measured['data']['split']} split {figure_of(measured, 'precision')} of them had the "
        "true diagnosis; of training images drawn at random "
        f"{figure_of(measured, 'by_chance')} have. Their most frequent diagnosis was the true one "
        f"for {figure_of(measured, 'vote_accuracy')} of the images, the model's first for "
        f"{figure_of(measured, 'model_accuracy')}: they rest on the same features and are no "
        f"second opinion. {measured['taken_for_training']:,} of these images, none of which is a "
        "training image, were taken for one."
    )


def _by_diagnosis(measured: dict[str, Any]) -> str:
    head = ("diagnosis", "n", "similar cases of it", "found by their vote", "found by the model")
    rows: list[tuple[str, ...]] = []
    for diagnosis in DIAGNOSES:
        code = diagnosis.code
        row = (
            f"{diagnosis.name} ({code})",
            f"{measured['n_by_class'][code]:,}",
            figure_of(measured, "precision_by_class", code),
            figure_of(measured, "vote_sensitivity", code),
            figure_of(measured, "model_sensitivity", code),
        )
        rows.append(row)
    return markdown_table(head, rows)


def _by_agreement(measured: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = []
    for count, n in measured["n_agreeing"].items():
        cases = f"{count} of {measured['k']}"
        right = figure_of(measured, "right_when_agreeing", count)
        rows.append((cases, f"{n:,}", right))
    return markdown_table(("cases that agree", "n", "right"), rows)
