"""The images found as a map of what the model sees in them, and those of it that a lasso or a list chooses."""

import numpy as np
import streamlit as st

from cadlib.catalogue import Answer, Catalogue, Rows
from cadlib.dataset import Dataset
from cadlib.errors import CadError
from cadlib.ui.browse.facets import LABELS
from cadlib.ui.imagemap import image_map, map_places
from cadlib.ui.text import plain


def mapped(dataset: Dataset, catalogue: Catalogue, answer: Answer) -> Rows | None:
    """Draw the images of an answer on the map of their data set; return the places of those chosen, None for none."""
    columns = [name for name in LABELS if name in catalogue.facets or catalogue.span(name)]
    column = st.selectbox("Colour", columns, format_func=LABELS.__getitem__, key="map-colour")
    try:
        places = map_places(dataset.table)
    except CadError as error:
        st.error(plain(str(error)))
        return None
    rows = np.sort(answer.rows)
    if not len(rows):
        st.caption("No image passes the filters.")
        return None
    chosen = image_map(catalogue.table.iloc[rows], places[rows], column, "dataset-map", LABELS[column])
    return None if chosen is None else answer.rows[catalogue.holds(chosen)[answer.rows]]
