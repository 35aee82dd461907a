"""Facets of a data set: what may be chosen, with how many images each choice would give."""

import math
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cadlib.evaluation.catalogue import RIGHT, STEPS, WRONG, Answer, Catalogue, Query, Spread
from cadlib.metrics.partial_labels import GROUPS
from cadlib.taxonomy import CODES
from cadlib.ui.text import mark, plain


@dataclass(frozen=True)
class _Scale:
    label: str
    format: str
    ends: tuple[float, float] | None = None


_FACETS = {
    "diagnosis": "Diagnosis",
    "malignancy": "Malignant or benign",
    "said": "Top diagnosis",
    "verdict": "Correctness",
    "archive": "Archive",
    "anatom_site_general": "Anatomical site",
    "sex": "Sex",
    "split": "Model split",
}
_SCALES = {
    "age_approx": _Scale("Age (years)", "%.0f", (0.0, 120.0)),
    "short_side_px": _Scale("Shorter side (px)", "%.0f"),
    "confidence": _Scale("Confidence", "%.2f", (0.0, 1.0)),
}
_ORDERS = {
    "": "data set order",
    "risk": "malignant probability, highest first",
    "uncertainty": "uncertainty, highest first",
    "loss": "loss, highest first",
    "novelty": "novelty (limit 1), highest first",
}
_SHOWN_VALUES = {RIGHT: "correct", WRONG: "incorrect"}
_HEIGHT = "1.5rem"
LABELS = {
    **_FACETS,
    **{name: scale.label for name, scale in _SCALES.items()},
    "risk": "Malignant probability",
    "uncertainty": "Uncertainty",
    "loss": "Loss",
    "novelty": "Novelty (limit 1)",
}
"""What the columns of a catalogue are called."""


def facets(catalogue: Catalogue, within: NDArray[np.bool_] | None = None) -> tuple[Query, Answer]:
    """Draw what a catalogue can be searched by; return what was asked of it, and its answer.

    `within` is a mask of the rows that are searched, (N,).
    """
    query = _query(catalogue)
    answer = catalogue.ask(query, within)
    st.text_input("Image ID contains", key="facet-text", placeholder="ISIC_0024")
    orders = [name for name in _ORDERS if not name or name in catalogue.table]
    if len(orders) > 1:
        st.selectbox("Sort by", orders, format_func=lambda name: _ORDERS[name], key="facet-order")
    for name in catalogue.facets:
        counts = answer.counts[name]
        shown = {value: f"{_marked(value)} {counts[value]:,}" for value in catalogue.values(name)}
        st.pills(
            _FACETS[name],
            list(shown),
            selection_mode="multi",
            format_func=shown.__getitem__,
            key=f"facet-{name}",
            wrap=True,
        )
    for name, scale in _SCALES.items():
        if ends := _ends(catalogue, name):
            spread, key = answer.spreads[name], f"facet-{name}"
            st.html(_histogram(scale.label, spread, ends, query.ranges.get(name, ends)))
            st.slider(
                scale.label,
                *ends,
                ends,
                STEPS[name],
                scale.format,
                key=key,
                label_visibility="collapsed",
            )
    return query, answer


def forget_facets(**instead: str) -> None:
    """Drop what was chosen in another data set, and set the widgets named `instead`."""
    st.session_state.update(instead)
    for key in [
        key for key in st.session_state if str(key).startswith(("facet-", "sample", "page"))
    ]:
        del st.session_state[key]


def said_of(query: Query, subset: str = "") -> str:
    """Return what a query asks for: "Diagnosis MEL, NV; Age (years) 30 to 60; image ID contains 0024"."""
    chosen = [
        f"{_FACETS[name]} {', '.join(map(_shown, values))}"
        for name, values in query.chosen.items()
        if values
    ]
    ranges = [
        f"{_SCALES[name].label} {low:g} to {high:g}" for name, (low, high) in query.ranges.items()
    ]
    words = [
        *[f"subset {subset}"] * bool(subset),
        *chosen,
        *ranges,
        *[f"image ID contains {query.text}"] * bool(query.text),
    ]
    return "; ".join(words) or "all images"


def _query(catalogue: Catalogue) -> Query:
    """Return what the widgets say, before they are drawn: their counts depend on it."""
    state = st.session_state
    ranges = {}
    for name in _SCALES:
        ends = _ends(catalogue, name)
        if ends and (given := state.get(f"facet-{name}", ends)) != ends:
            ranges[name] = given
    return Query(
        chosen={name: tuple(state.get(f"facet-{name}") or ()) for name in catalogue.facets},
        ranges=ranges,
        text=state.get("facet-text", "").strip(),
        order=state.get("facet-order", ""),
    )


def _ends(catalogue: Catalogue, name: str) -> tuple[float, float] | None:
    """Return the ends of a slider; None for a number that the catalogue lacks, or that is the same everywhere."""
    if name not in catalogue.table or not (span := catalogue.span(name)):
        return None
    scale = _SCALES[name]
    low, high = span
    return scale.ends or (
        math.floor(low / STEPS[name]) * STEPS[name],
        math.ceil(high / STEPS[name]) * STEPS[name],
    )


def _histogram(
    label: str, spread: Spread, ends: tuple[float, float], chosen: tuple[float, float]
) -> str:
    """Return a drawing of how many images have which number, from end to end of its slider; what is chosen stands out.

    Each bar has its count as a title.
    """
    counts = [0] * round((ends[1] - ends[0]) / spread.step)
    for place, count in enumerate(
        spread.counts.tolist(), round((spread.low - ends[0]) / spread.step)
    ):
        counts[min(place, len(counts) - 1)] += (
            count  # what is just at the end is counted with what is below it
        )
    bars, most = "", max(*counts, 1)
    for place, count in enumerate(counts):
        low = ends[0] + place * spread.step
        inside = chosen[0] <= low + 1e-6 and low <= chosen[1]
        bars += (
            f'<div title="from {low:g}: {count:,}" style="flex: 1; background: currentColor; '
            f'height: {100 * count / most:.0f}%; opacity: {0.6 if inside else 0.2}"></div>'
        )
    missing = f", missing: {spread.missing:,}" if spread.missing else ""
    return (
        f'<div style="font-size: 0.875rem; margin-bottom: 0.5rem">{label}{missing}</div>'
        f'<div style="display: flex; align-items: end; gap: 1px; height: {_HEIGHT}">{bars}</div>'
    )


def _marked(value: str) -> str:
    if value in (*CODES, *GROUPS.values()):
        return f"{mark(value)} {value}"
    return plain(_shown(value))


def _shown(value: str) -> str:
    """Return the text that a reader sees for a value of a facet."""
    return _SHOWN_VALUES.get(value, value)
