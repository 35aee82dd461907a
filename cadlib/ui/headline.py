"""Draws the first metrics of the Performance page as tiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from msgspec import UNSET

from cadlib.metrics.image_counts import Counts
from cadlib.metrics.summary_schema import Summary
from cadlib.report import charts


@dataclass(frozen=True)
class _Tile:
    """A headline value, the 95 % interval to be shown with it, and what it is based on."""

    name: str
    value: float | None
    interval: Sequence[float] | None
    basis: str


def value_text(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a value with two digits and its interval, or that it is not defined."""
    if value is None:
        return charts.UNDEFINED
    if not interval:
        return f"{value:.2f}"
    low, high = interval
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _ece_note(n: int, interval: Sequence[float] | None) -> str:
    """Return the text under a calibration error.

    The interval is that of the error without the effect of chance.
    """
    note = f"0 is best · n = {n:,}"
    if interval is None:
        return note
    low, high = interval
    return f"{note} · without the effect of chance: 95 % CI {low:.2f} to {high:.2f}"


def _tiles(metrics: Summary) -> list[_Tile]:
    """Return the values that a reader looks for first."""
    images = Counts.of(metrics)
    intervals = metrics.intervals
    n = images.diagnosed
    melanoma = metrics.n_by_class["MEL"]
    all_tiles = [
        _Tile(
            "Balanced accuracy",
            metrics.balanced_accuracy,
            intervals.balanced_accuracy,
            f"n = {n:,} images, {metrics.n_classes} diagnoses",
        ),
        _Tile(
            "AUC, malignant or benign",
            metrics.malignant_auc,
            intervals.malignant_auc,
            f"{images.malignant:,} malignant of {images.n:,} images",
        ),
        _Tile(
            "AUC, melanoma or other",
            metrics.auc["MEL"],
            intervals.auc["MEL"],
            f"{melanoma:,} melanoma of {n:,} images",
        ),
        # The interval of a calibration error is not of the value beside it: see the note.
        _Tile("Calibration error (ECE)", metrics.ece, None, _ece_note(n, intervals.ece)),
    ]
    if images.partial:
        all_tiles.append(_malignant_tile(metrics))
    return all_tiles


def _malignant_tile(metrics: Summary) -> _Tile:
    """Return the calibration error of the malignant probability."""
    value = metrics.malignant_ece
    interval = metrics.intervals.malignant_ece
    # An earlier version, which did not measure it, counted no image without a diagnosis.
    assert value is not UNSET
    assert interval is not UNSET
    note = _ece_note(metrics.n, interval)
    basis = f"ECE of the malignant probability · {note}"
    return _Tile("Calibration error, malignant", value, None, basis)


def headline(metrics: Summary) -> None:
    """Draw the values that a reader looks for first, each with its interval and its n."""
    with st.grid(4, min_column_width=280):
        for tile in _tiles(metrics):
            with st.container(border=True, gap=None, height="stretch"):
                st.metric(tile.name, value_text(tile.value))
                caption = tile.basis
                if tile.interval:
                    low, high = tile.interval
                    caption = f"95 % CI {low:.2f} to {high:.2f} · {tile.basis}"
                st.caption(caption)
