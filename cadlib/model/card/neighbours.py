"""The section of the card on similar cases."""

from typing import Any

from cadlib import command_hints
from cadlib.metrics.tables import figure_of, markdown_table
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import DIAGNOSES


def similar_cases(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Say how often similar training images have the true diagnosis, or that the model shows none."""
    title, make = "## Similar cases", f"`{command_hints.index(record.name)}`"
    if record.neighbours is None:
        return [title, f"None: this model has no index of its training images. {make} makes it."]
    held = f"{record.neighbours.images:,} of {record.neighbours.of:,} training images"
    if "neighbours" not in figures:
        return [
            title,
            f"An index of {held}, not measured since the model was calibrated; {make} measures it.",
        ]
    found = figures["neighbours"]
    return [
        title,
        (
            f"With an answer come the {found['k']} training images most like the picture, one a lesion, out of {held}. "
            f"On {found['n']:,} images of {found['n_lesions']:,} lesions of the {found['data']['split']} split "
            f"{figure_of(found, 'precision')} of them had the true diagnosis; of training images drawn at random "
            f"{figure_of(found, 'by_chance')} have. Their most frequent diagnosis was the true one for "
            f"{figure_of(found, 'vote_accuracy')} of the images, the model's first for "
            f"{figure_of(found, 'model_accuracy')}: they rest on the same features and are no second opinion. "
            f"{found['taken_for_training']:,} of these images, none of which is a training image, were taken for one."
        ),
        markdown_table(
            ("diagnosis", "n", "similar cases of it", "found by their vote", "found by the model"),
            (
                (
                    f"{d.name} ({d.code})",
                    f"{found['n_by_class'][d.code]:,}",
                    *(
                        figure_of(found, name, d.code)
                        for name in ("precision_by_class", "vote_sensitivity", "model_sensitivity")
                    ),
                )
                for d in DIAGNOSES
            ),
        ),
        "How often the model's first diagnosis was right, by how many similar cases have it:",
        markdown_table(
            ("cases that agree", "n", "right"),
            (
                (
                    f"{count} of {found['k']}",
                    f"{n:,}",
                    figure_of(found, "right_when_agreeing", count),
                )
                for count, n in found["n_agreeing"].items()
            ),
        ),
    ]
