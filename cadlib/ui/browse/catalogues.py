"""The catalogue of a data set, with the split of the pages' model where it is the model's own: made once for all."""

from functools import lru_cache

import pandas as pd
import streamlit as st

from cadlib.catalogue import Catalogue, described
from cadlib.dataset import Dataset
from cadlib.errors import CadError
from cadlib.own_split import own_split
from cadlib.record import ModelRecord, find_model, read_record


def catalogue_of(dataset: Dataset, record: ModelRecord | None) -> Catalogue:
    """Return the catalogue of a data set that `ui.dataset` gave; `record` is of the model whose split it may be."""
    with st.spinner("Sorting the images …"):
        return _catalogue(dataset, record.name if record else "", record.model_id if record else "")


@lru_cache(maxsize=2)  # by the object, which it holds: Streamlit's cache would have to hash half a million rows
def _catalogue(dataset: Dataset, model: str, model_id: str) -> Catalogue:  # noqa: ARG001 - another model, another split
    return described(dataset.table, _split_of(model, dataset.table["image"]) if model else None)


def _split_of(model: str, images: "pd.Series[str]") -> pd.DataFrame | None:
    """Return the split of a model, None where it has none or none of these images is in it."""
    try:
        folder = find_model(model)
        rows = own_split(folder, read_record(folder))
    except CadError:
        return None
    return rows if images.isin(rows["image"]).any() else None
