"""Builds the catalogue of a data set, once for all sessions.

It has the split and the predictions of the pages' model if there are any.
"""

from functools import lru_cache
from pathlib import Path

import pandas as pd
import streamlit as st

from cadlib.data.dataset import Dataset
from cadlib.data.predictions_csv import PREDICTIONS_FILE, read_predictions, read_unknown
from cadlib.errors import CadError
from cadlib.evaluation.cached import evaluation_folder
from cadlib.evaluation.catalogue import Catalogue, described
from cadlib.files.cache import CacheEntry, cache_dir
from cadlib.model.record import ModelRecord, find_model, read_record
from cadlib.model.split import split_of_model
from cadlib.taxonomy import UNKNOWN
from cadlib.ui.memory import spare
from cadlib.ui.metrics_source import evaluation_of
from cadlib.ui.text import plain


def catalogue_of(dataset: Dataset, record: ModelRecord | None) -> Catalogue:
    """Return the catalogue of a data set from `ui.dataset`, with this model's predictions on it.

    They exist after `ask_about_all` or an evaluation on the Performance page.
    """
    with st.spinner("Sorting the images …"):
        if record is None:
            return _catalogue(dataset, "", "", None, 0.0)
        predictions = None
        written = 0.0
        folder = answers_folder(dataset, record)
        if folder:
            entry = CacheEntry(folder / PREDICTIONS_FILE)
            predictions = entry.place
            if entry.exists():
                written = predictions.stat().st_mtime
        return _catalogue(dataset, record.name, record.model_id, predictions, written)


def ask_about_all(dataset: Dataset, record: ModelRecord, catalogue: Catalogue) -> None:
    """Offer to run the model on every labelled image in the background, if that is not done yet."""
    # The catalogue has the predictions already.
    if "said" in catalogue.table:
        return
    st.caption(
        "After the model has run on all images, you can filter by correctness and confidence, and "
        "sort by malignant probability, uncertainty, loss or novelty."
    )
    try:
        folder = answers_folder(dataset, record)
        evaluation = evaluation_of(record, dataset, folder=folder)
    except CadError as error:
        st.error(plain(str(error)))
        return
    if evaluation:
        # The page is drawn again, with the filters that need predictions.
        st.rerun()


def answers_folder(dataset: Dataset, record: ModelRecord) -> Path | None:
    """Return the folder of a model's predictions; None if an image is missing."""
    return _folder(dataset, record.name, record.model_id, cache_dir())


# Cached, because it reads the state of every image file. The id and the cache folder are
# arguments because another id or folder means another place.
@lru_cache(maxsize=4)
def _folder(
    dataset: Dataset,
    model: str,
    model_id: str,  # noqa: ARG001
    cache: Path,  # noqa: ARG001
) -> Path | None:
    try:
        return evaluation_folder(read_record(find_model(model)), dataset)
    except CadError:
        return None


# `lru_cache` compares the data set by identity and holds it. Streamlit's cache would have to hash
# half a million rows. The id and the time are arguments because a new one means a new catalogue.
@lru_cache(maxsize=2)
def _catalogue(
    dataset: Dataset,
    model: str,
    model_id: str,  # noqa: ARG001
    predictions_file: Path | None,
    written: float,
) -> Catalogue:
    split = None
    if model:
        split = _split_of(model, dataset.table["image"])
    predictions = None
    if predictions_file and written:
        predictions = _read(predictions_file)
    catalogue = described(dataset.table, split, predictions)
    # The catalogue stays in memory, so later garbage collections need not look through it.
    spare()
    return catalogue


def _read(predictions: Path) -> pd.DataFrame:
    """Return the predictions in a file, with a column UNK for novelty."""
    table = read_predictions(predictions)
    with_novelty = table.assign(**{UNKNOWN: read_unknown(predictions)})
    return with_novelty.reset_index(names="image")


def _split_of(model: str, images: "pd.Series[str]") -> pd.DataFrame | None:
    """Return the split of a model, None where it has none or none of these images is in it."""
    try:
        folder = find_model(model)
        rows = split_of_model(folder, read_record(folder))
    except CadError:
        return None
    # A split of other images would be a filter without a choice.
    if not images.isin(rows["image"]).any():
        return None
    return rows
