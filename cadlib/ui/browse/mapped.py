"""The images found as a map of what the model sees in them, and those of it that a lasso or a list chooses."""

import numpy as np
import streamlit as st

from cadlib.data.dataset import Dataset
from cadlib.evaluation.catalogue import Answer, Catalogue, Rows
from cadlib.model.record import ModelRecord
from cadlib.ui.browse.catalogues import answers_folder
from cadlib.ui.browse.facets import LABELS
from cadlib.ui.imagemap import image_map, map_places


def mapped(
    dataset: Dataset, record: ModelRecord, catalogue: Catalogue, answer: Answer
) -> Rows | None:
    """Draw the images of an answer on the map of their data set; return the places of those chosen, None for none."""
    if (folder := answers_folder(dataset, record)) is None:
        st.error("An image of this data set is missing. Reopen the data set.")
        return None
    columns = [name for name in LABELS if name in catalogue.facets or catalogue.span(name)]
    column = st.selectbox("Colour", columns, format_func=LABELS.__getitem__, key="map-colour")
    places = map_places(dataset.table, record, f"map-{folder.name}")
    if places is None:
        return None
    rows = np.sort(answer.rows)
    rows = rows[np.isfinite(places[rows]).all(axis=1)]
    if unread := len(answer.rows) - len(rows):
        st.caption(_about_the_unread(unread))
    if not len(rows):
        st.caption("No image matches the filters.")
        return None
    chosen = image_map(
        catalogue.table.iloc[rows], places[rows], column, "dataset-map", LABELS[column]
    )
    return None if chosen is None else answer.rows[catalogue.holds(chosen)[answer.rows]]


def _about_the_unread(unread: int) -> str:
    if unread == 1:
        return "1 image is not on the map because it cannot be read."
    return f"{unread:,} images are not on the map because they cannot be read."
