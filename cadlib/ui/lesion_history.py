"""Draws a lesion over its visits: images and results."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.metrics.operating_point import two_digits
from cadlib.report.charts.lesion_history import HistoryPoint, history_chart
from cadlib.taxonomy import diagnosis
from cadlib.ui.blind import hidden_images
from cadlib.ui.frame import chart
from cadlib.ui.text import day_text, plain
from cadlib.ui.work_table import stored_thumbnail

if TYPE_CHECKING:
    from cadlib.cases.records import CaseFile, StoredAssessment, StoredImage
    from cadlib.cases.store import CaseStore

SIDE_PX = 240
"""Width of an image in the row of visits."""
FEWEST = 2
"""Images from which on there is a history."""
CAUTION = (
    "A change can come from the lesion, or from light, focus and distance of the image. Compare "
    "the images first."
)


@dataclass(frozen=True)
class _Item:
    """An image of a lesion, its day, and its latest result, None where it must not be shown."""

    image: "StoredImage"
    day: date
    result: "StoredAssessment | None"


def lesion_history(store: "CaseStore", stored: "CaseFile", key: str) -> None:
    """Draw all images of the lesion of a stored case by visit; nothing for a single image."""
    items = _read(store, stored)
    if len(items) < FEWEST:
        return
    st.markdown(f"**History of lesion {plain(stored.lesion.details.label)}**")
    with st.container(horizontal=True, gap="small", key=f"history-{key}"):
        for item in items:
            _draw_image(store, item, is_shown=item.image.id == stored.image.id)
    points = [_point(item.day, item.result) for item in items if item.result]
    if len(points) < FEWEST:
        return
    # The threshold of the last result; an earlier model may have had another.
    thresholds = [item.result.threshold for item in items if item.result]
    chart(history_chart(points, thresholds[-1]), key=f"history-chart-{key}")
    st.caption(CAUTION)


def _read(store: "CaseStore", stored: "CaseFile") -> list[_Item]:
    """Return the images of the lesion, the earliest visit first."""
    from cadlib.cases import queries  # noqa: PLC0415

    items = []
    with store.read() as connection:
        visits = queries.visits(connection, stored.patient.id)
        day_of = {visit.id: visit.details.day for visit in visits}
        images = queries.images(connection, stored.lesion.id)
        # A reader who reads blind sees earlier images, but no result that is still hidden.
        hidden = hidden_images([image.id for image in images])
        for image in images:
            results = queries.assessments(connection, image.id)
            is_visible = results and image.id not in hidden
            items.append(_Item(image, day_of[image.visit_id], results[-1] if is_visible else None))
    return sorted(items, key=lambda item: (item.day, item.image.recorded_at))


def _draw_image(store: "CaseStore", item: _Item, *, is_shown: bool) -> None:
    """Draw an image with its day and result; `is_shown` is the one on the page."""
    with st.container(width=SIDE_PX, gap="xsmall"):
        day = day_text(item.day)
        picture = stored_thumbnail(store, item.image.sha256, SIDE_PX)
        if picture:
            st.image(picture, width=SIDE_PX, alt=f"Lesion on {day}")
        st.caption(f"{day}, this image" if is_shown else day)
        if item.result:
            of = diagnosis(item.result.diagnosis)
            probability = two_digits(item.result.malignant_probability)
            st.caption(f"malignant probability {probability} · {of.mark} {of.name}")


def _point(day: date, result: "StoredAssessment") -> HistoryPoint:
    return HistoryPoint(
        day=day,
        probability=result.malignant_probability,
        low=result.malignant_low,
        high=result.malignant_high,
        model=result.model_id,
    )
