"""Draws the first metrics of the Performance page as tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cadlib.metrics.image_counts import Counts
from cadlib.report import charts


@dataclass(frozen=True)
class _Tile:
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


def _ece_note(n: int, interval: list[float] | None) -> str:
    """Return the text under a calibration error.

    The interval is that of the error without the effect of chance.
    """
    note = f"0 is best · n = {n:,}"
    if interval is None:
        return note
    low, high = interval
    return f"{note} · without the effect of chance: 95 % CI {low:.2f} to {high:.2f}"


def _tiles(measured: dict[str, Any]) -> list[_Tile]:
    """Return the values that a reader looks for first."""
    images = Counts.of(measured)
    intervals = measured["intervals"]
    n = images.diagnosed
    melanoma = measured["n_by_class"]["MEL"]
    all_tiles = [
        _Tile(
            "Balanced accuracy",
            measured["balanced_accuracy"],
            intervals["balanced_accuracy"],
            f"n = {n:,} images, {measured['n_classes']} diagnoses",
        ),
        _Tile(
            "AUC, malignant or benign",
            measured["malignant_auc"],
            intervals["malignant_auc"],
            f"{images.malignant:,} malignant of {images.n:,} images",
        ),
        _Tile(
            "AUC, melanoma or other",
            measured["auc"]["MEL"],
            intervals["auc"]["MEL"],
            f"{melanoma:,} melanoma of {n:,} images",
        ),
        # The interval of a calibration error is not of the value beside it: see the note.
        _Tile("Calibration error (ECE)", measured["ece"], None, _ece_note(n, intervals["ece"])),
    ]
    if images.partial:
        note = _ece_note(images.n, intervals["malignant_ece"])
        all_tiles.append(
            _Tile(
                "Calibration error, malignant",
                measured["malignant_ece"],
                None,
                f"ECE of the malignant probability · {note}",
            )
        )
    return all_tiles


def headline(measured: dict[str, Any]) -> None:
    """Draw the values that a reader looks for first, each with its interval and its n."""
    with st.grid(4, min_column_width=280):
        for tile in _tiles(measured):
            with st.container(border=True, gap=None, height="stretch"):
                st.metric(tile.name, value_text(tile.value))
                caption = tile.basis
                if tile.interval:
                    low, high = tile.interval
                    caption = f"95 % CI {low:.2f} to {high:.2f} · {tile.basis}"
                st.caption(caption)
