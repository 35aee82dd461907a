"""Shows the measured performance of a model, with the number of images.

Every value has its interval where one is defined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cadlib import command_hints, ui
from cadlib.metrics import tables
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.report import charts
from cadlib.taxonomy import MALIGNANT_NOTE
from cadlib.ui.metrics_source import Shown

MERITS = {
    "balanced_accuracy": "balanced accuracy",
    "malignant_auc": "AUC, malignant or benign",
}


@dataclass(frozen=True)
class Tile:
    """A headline value, the 95 % interval to be shown with it, and what it is based on."""

    name: str
    value: float | None
    interval: Sequence[float] | None
    basis: str


def value_text(value: float | None, interval: list[float] | None = None) -> str:
    """Return a value with two digits and its interval, or that it is not defined."""
    if value is None:
        return charts.UNDEFINED
    if not interval:
        return f"{value:.2f}"
    low, high = interval
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def ece_note(n: int, interval: list[float] | None) -> str:
    """Return the text under a calibration error.

    The interval is that of the error without the effect of chance.
    """
    note = f"0 is best · n = {n:,}"
    if interval is None:
        return note
    low, high = interval
    return f"{note} · without the effect of chance: 95 % CI {low:.2f} to {high:.2f}"


def headline_tiles(measured: dict[str, Any]) -> list[Tile]:
    """Return the values that a reader looks for first."""
    images = Counts.of(measured)
    intervals = measured["intervals"]
    n = images.diagnosed
    melanoma = measured["n_by_class"]["MEL"]
    all_tiles = [
        Tile(
            "Balanced accuracy",
            measured["balanced_accuracy"],
            intervals["balanced_accuracy"],
            f"n = {n:,} images, {measured['n_classes']} diagnoses",
        ),
        Tile(
            "AUC, malignant or benign",
            measured["malignant_auc"],
            intervals["malignant_auc"],
            f"{images.malignant:,} malignant of {images.n:,} images",
        ),
        Tile(
            "AUC, melanoma or other",
            measured["auc"]["MEL"],
            intervals["auc"]["MEL"],
            f"{melanoma:,} melanoma of {n:,} images",
        ),
        # The interval of a calibration error is not of the value beside it: see the note.
        Tile("Calibration error (ECE)", measured["ece"], None, ece_note(n, intervals["ece"])),
    ]
    if images.partial:
        note = ece_note(images.n, intervals["malignant_ece"])
        all_tiles.append(
            Tile(
                "Calibration error, malignant",
                measured["malignant_ece"],
                None,
                f"ECE of the malignant probability · {note}",
            )
        )
    return all_tiles


def headline(measured: dict[str, Any]) -> None:
    """Draw the values that a reader looks for first, each with its interval and its n."""
    with st.grid(4, min_column_width=180):
        for tile in headline_tiles(measured):
            with st.container(border=True, gap=None, height="stretch"):
                st.metric(tile.name, value_text(tile.value))
                caption = tile.basis
                if tile.interval:
                    low, high = tile.interval
                    caption = f"95 % CI {low:.2f} to {high:.2f} · {tile.basis}"
                st.caption(caption)


def damage(robustness: dict[str, Any] | None, name: str) -> None:
    """Draw the performance on degraded and rotated images, or the command that measures it."""
    st.subheader("Robustness to image degradation", anchor=False)
    if robustness is None:
        st.info(f"Not measured. Measure it: `{command_hints.robustness_into(name)}`.")
        return
    merit = st.segmented_control(
        "Metric",
        list(MERITS),
        default="balanced_accuracy",
        format_func=MERITS.get,
        key="merit",
        required=True,
    )
    ui.chart(charts.damage_chart(robustness, merit), key="damage")
    rate = robustness["flips"]["rate"]
    st.caption(
        f"n = {robustness['n']:,} images, seven rotated or mirrored views each. "
        f"The top diagnosis changes in {rate_text(rate['mean'])} of the views, "
        f"and in at least one view for {rate_text(rate['any'])} of the images."
    )


def rate_text(rate: float | None) -> str:
    """Return a share, 0 to 1, in percent, or that it is not defined."""
    if rate is None:
        return charts.UNDEFINED
    return ui.percent(rate)


def across(archives: dict[str, Any] | None) -> None:
    """Draw the performance on an archive that was excluded from training, if it was measured."""
    if not archives:
        return
    st.subheader("Results on unseen archives", anchor=False)
    head, *rows = tables.across_rows(archives)
    records = []
    for row in rows:
        cells = zip(head, row, strict=True)
        records.append(dict(cells))
    st.table(ui.plain_rows(records), hide_index=True)


def by_diagnosis(measured: dict[str, Any]) -> None:
    """Draw sensitivity and specificity of each diagnosis."""
    st.subheader("By diagnosis", anchor=False)
    images = Counts.of(measured)
    if not images.diagnosed:
        st.caption(NO_DIAGNOSIS_NOTE)
        return
    figure = charts.per_class_chart(measured)
    ui.chart(figure, key="per-class")
    st.caption(MALIGNANT_NOTE)


def results(shown: Shown, name: str) -> None:
    """Draw all results of the selected model on the selected images."""
    record = shown.record
    claim = ui.plain(record.validation_claim)
    claim = claim[0].upper() + claim[1:]
    model = ui.plain(f"{record.name} {record.version}")
    st.markdown(
        f"{model} {shown.about} {claim}. "
        "Brackets: 95 % CI, resampled by lesion; not shown when there are too few lesions."
    )
    ui.report(shown)
    headline(shown.figures)
    ui.threshold(shown)
    with st.grid(2, min_column_width=420, gap="medium") as grid:
        with grid.cell():
            ui.confusion(shown)
        with grid.cell():
            by_diagnosis(shown.figures)
    ui.errors(shown)
    ui.subgroups(shown, value_text)
    ui.versus(shown)
    own = ui.model_metrics(name) or {}
    damage(own.get("robustness"), name)
    across(own.get("across_archives"))


record = ui.page("Performance")
if not record:
    st.stop()
name, shown = ui.choose_figures()
if shown:
    results(shown, name)

st.subheader("Model card", anchor="model-card")
with st.expander(ui.plain(name), expanded=True, key="card"):
    st.html(ui.card_html(ui.model_card(name)))
