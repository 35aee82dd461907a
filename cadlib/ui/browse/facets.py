"""Draws the filters of a data set."""

import math
from collections.abc import Iterable, Mapping
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
    """How a column of numbers is shown: its title, the format of a value, and fixed ends."""

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
"""Column of a catalogue -> its title."""


def facets(catalogue: Catalogue, within: NDArray[np.bool_] | None = None) -> tuple[Query, Answer]:
    """Draw the filters of a catalogue; return the query that they make, and its answer.

    `within` is a mask of the rows that are searched, (N,).
    """
    query = _query(catalogue)
    answer = catalogue.ask(query, within)
    st.text_input("Image ID contains", key="facet-text", placeholder="ISIC_0024")
    # Orders by a prediction exist only after the model has run.
    orders = [name for name in _ORDERS if not name or name in catalogue.table]
    if len(orders) > 1:
        st.selectbox("Sort by", orders, format_func=_ORDERS.__getitem__, key="facet-order")
    for name in catalogue.facets:
        counts = answer.counts[name]
        _draw_facet(name, catalogue.values(name), counts)
    for name in _SCALES:
        ends = _ends(catalogue, name)
        if not ends:
            continue
        spread = answer.spreads[name]
        chosen = query.ranges.get(name, ends)
        _draw_range(name, ends, spread, chosen)
    return query, answer


def _draw_facet(name: str, values: Iterable[str], counts: Mapping[str, int]) -> None:
    """Draw the values of a column to choose from, each with its number of images."""
    labels = {value: f"{_marked(value)} {counts[value]:,}" for value in values}
    st.pills(
        _FACETS[name],
        list(labels),
        selection_mode="multi",
        format_func=labels.__getitem__,
        key=f"facet-{name}",
        wrap=True,
    )


def _draw_range(
    name: str, ends: tuple[float, float], spread: Spread, chosen: tuple[float, float]
) -> None:
    """Draw a slider for a column of numbers below their histogram."""
    scale = _SCALES[name]
    st.html(_histogram(scale.label, spread, ends, chosen))
    low, high = ends
    st.slider(
        scale.label,
        low,
        high,
        ends,
        STEPS[name],
        scale.format,
        key=f"facet-{name}",
        label_visibility="collapsed",
    )


def forget_facets(**instead: str) -> None:
    """Clear the choices that were made in another data set, and set the widgets named `instead`."""
    state = st.session_state
    state.update(instead)
    # A list, because keys are deleted in the loop.
    for key in list(state):
        if str(key).startswith(("facet-", "sample", "page")):
            del state[key]


def query_words(query: Query, subset: str = "") -> str:
    """Return a query in words: "Diagnosis MEL, NV; Age (years) 30 to 60; image ID contains 0024".

    They begin with the name of the subset, if there is one.
    """
    words = []
    if subset:
        words.append(f"subset {subset}")
    for name, values in query.chosen.items():
        if values:
            shown_values = ", ".join(map(_shown, values))
            words.append(f"{_FACETS[name]} {shown_values}")
    for name, (low, high) in query.ranges.items():
        words.append(f"{_SCALES[name].label} {low:g} to {high:g}")
    if query.text:
        words.append(f"image ID contains {query.text}")
    return "; ".join(words) or "all images"


def _query(catalogue: Catalogue) -> Query:
    """Return the query of the widgets, before they are drawn: their counts depend on it."""
    state = st.session_state
    chosen = {}
    for name in catalogue.facets:
        chosen[name] = tuple(state.get(f"facet-{name}") or ())
    ranges = {}
    for name in _SCALES:
        ends = _ends(catalogue, name)
        span = state.get(f"facet-{name}", ends)
        # A slider at both of its ends filters nothing.
        if ends and span != ends:
            ranges[name] = span
    text = state.get("facet-text", "").strip()
    return Query(chosen=chosen, ranges=ranges, text=text, order=state.get("facet-order", ""))


def _ends(catalogue: Catalogue, name: str) -> tuple[float, float] | None:
    """Return the ends of a slider; None for a missing column, or one with a single value."""
    if name not in catalogue.table:
        return None
    span = catalogue.span(name)
    if not span:
        return None
    scale = _SCALES[name]
    if scale.ends:
        return scale.ends
    low, high = span
    step = STEPS[name]
    # Whole steps, or the slider could not reach its ends.
    first_step = math.floor(low / step)
    last_step = math.ceil(high / step)
    first = first_step * step
    last = last_step * step
    return first, last


def _histogram(
    label: str, spread: Spread, ends: tuple[float, float], chosen: tuple[float, float]
) -> str:
    """Return a histogram of numbers as HTML, with the chosen range highlighted.

    It reaches from end to end of the slider. Each bar has its count as a title.
    """
    first, last = ends
    counts = _counts_by_bar(spread, first, last)
    # At least 1, because the heights are divided by it.
    most = max(*counts, 1)
    bars = []
    for place, count in enumerate(counts):
        low = first + place * spread.step
        bars.append(_bar(low, count, most, chosen))
    missing = ""
    if spread.missing:
        missing = f", missing: {spread.missing:,}"
    return (
        f'<div style="font-size: 0.875rem; margin-bottom: 0.5rem">{label}{missing}</div>'
        '<div style="display: flex; align-items: end; gap: 1px; '
        f'height: {_HEIGHT}">{"".join(bars)}</div>'
    )


def _bar(low: float, count: int, most: int, chosen: tuple[float, float]) -> str:
    """Return the bar of the values from `low` on as HTML; `most` is the count of the highest."""
    # A step is a decimal fraction, so `low` may be a little below its true value.
    inside = chosen[0] <= low + 1e-6 and low <= chosen[1]
    percent = 100 * count / most
    opacity = 0.6 if inside else 0.2
    return (
        f'<div title="from {low:g}: {count:,}" style="flex: 1; background: currentColor; '
        f'height: {percent:.0f}%; opacity: {opacity}"></div>'
    )


def _counts_by_bar(spread: Spread, first: float, last: float) -> list[int]:
    """Return the counts of a spread in the bars between the two ends of its slider."""
    n_bars = round((last - first) / spread.step)
    counts = [0] * n_bars
    offset = round((spread.low - first) / spread.step)
    for place, count in enumerate(spread.counts.tolist(), offset):
        # A value at the upper end has no bar of its own: it is counted in the last one.
        bar = min(place, n_bars - 1)
        counts[bar] += count
    return counts


def _marked(value: str) -> str:
    """Return a value with the sign of its diagnosis or group, as Markdown."""
    if value in CODES or value in GROUPS.values():
        return f"{mark(value)} {value}"
    # Any other value comes from a file.
    return plain(_shown(value))


def _shown(value: str) -> str:
    """Return the text that a reader sees for a value of a facet."""
    return _SHOWN_VALUES.get(value, value)
