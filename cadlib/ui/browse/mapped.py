"""Draws the images that match the filters on a map."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.evaluation.catalogue import Answer, Catalogue, Rows
from cadlib.model.record import ModelRecord
from cadlib.ui.browse.catalogues import answers_folder
from cadlib.ui.browse.facets import LABELS
from cadlib.ui.imagemap import image_map, map_places


def mapped(
    dataset: Dataset, record: ModelRecord, catalogue: Catalogue, answer: Answer
) -> Rows | None:
    """Draw the images of an answer on the map of their data set; return the places of the selected.

    The result is None without a selection.
    """
    folder = answers_folder(dataset, record)
    if folder is None:
        st.error("An image of this data set is missing. Reopen the data set.")
        return None
    column = _choose_colour(catalogue)
    # Of the whole data set, so that a filter does not move the images.
    places = map_places(dataset.table, record, f"map-{folder.name}")
    if places is None:
        return None
    rows = _readable(answer.rows, places)
    unread = len(answer.rows) - len(rows)
    if unread:
        st.caption(_about_the_unread(unread))
    if not len(rows):
        st.caption("No image matches the filters.")
        return None
    images = catalogue.table.iloc[rows]
    chosen = image_map(images, places[rows], column, "dataset-map", LABELS[column])
    if chosen is None:
        return None
    # The answer's own order, which may be by malignant probability.
    is_chosen = catalogue.holds(chosen)
    return answer.rows[is_chosen[answer.rows]]


def _choose_colour(catalogue: Catalogue) -> str:
    """Let a column with more than one value be selected for the colours."""
    columns = [name for name in LABELS if name in catalogue.facets or catalogue.span(name)]
    return st.selectbox("Colour", columns, format_func=LABELS.__getitem__, key="map-colour")


def _readable(rows: Rows, places: NDArray[np.float32]) -> Rows:
    """Return the rows that have a place, in the order of the table; unreadable images have none."""
    in_order = np.sort(rows)
    is_finite = np.isfinite(places[in_order])
    has_place = is_finite.all(axis=1)
    return in_order[has_place]


def _about_the_unread(unread: int) -> str:
    if unread == 1:
        return "1 image is not on the map because it cannot be read."
    return f"{unread:,} images are not on the map because they cannot be read."
