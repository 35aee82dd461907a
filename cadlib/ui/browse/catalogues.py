"""The catalogue of a data set, with the split and the answers of the pages' model where there are any: made once."""

from functools import lru_cache
from pathlib import Path

import pandas as pd
import streamlit as st

from cadlib.data.dataset import Dataset
from cadlib.data.predictions_csv import PREDICTIONS_FILE, read_predictions, read_unknown
from cadlib.errors import CadError
from cadlib.evaluation.cached import evaluation_folder
from cadlib.evaluation.catalogue import Catalogue, described
from cadlib.files.cache import cache_dir, is_standing, standing
from cadlib.model.record import ModelRecord, find_model, read_record
from cadlib.model.split import own_split
from cadlib.taxonomy import UNKNOWN
from cadlib.ui.memory import spare
from cadlib.ui.metrics_source import evaluation_of
from cadlib.ui.text import plain


def catalogue_of(dataset: Dataset, record: ModelRecord | None) -> Catalogue:
    """Return the catalogue of a data set that `ui.dataset` gave, with what this model said of its images.

    That is kept where it was asked for, by `ask_about_all` or on the Performance page.
    """
    with st.spinner("Sorting the images …"):
        if record is None:
            return _catalogue(dataset, "", "", None, 0.0)
        folder = answers_folder(dataset, record)
        answers = standing(folder / PREDICTIONS_FILE) if folder else None
        written = answers.stat().st_mtime if answers and is_standing(answers) else 0.0
        return _catalogue(dataset, record.name, record.model_id, answers, written)


def ask_about_all(dataset: Dataset, record: ModelRecord, catalogue: Catalogue) -> None:
    """Offer to ask the model about every labelled image, in the background, where that has not been done."""
    if "said" in catalogue.table:
        return
    st.caption(
        "Once the model has answered for every image, they can be found by right and wrong and by its confidence, and "
        "put in the order of risk, uncertainty, loss or novelty."
    )
    try:
        if evaluation_of(record, dataset, folder=answers_folder(dataset, record)):
            st.rerun()
    except CadError as error:
        st.error(plain(str(error)))


def answers_folder(dataset: Dataset, record: ModelRecord) -> Path | None:
    """Return where the answers of a model are kept; None where an image is gone."""
    return _found(dataset, record.name, record.model_id, cache_dir())


@lru_cache(maxsize=4)  # it looks at every file
def _found(dataset: Dataset, model: str, model_id: str, cache: Path) -> Path | None:  # noqa: ARG001 - other answers
    try:
        return evaluation_folder(read_record(find_model(model)), dataset)
    except CadError:
        return None


@lru_cache(
    maxsize=2
)  # by the object, which it holds: Streamlit's cache would have to hash half a million rows
def _catalogue(
    dataset: Dataset, model: str, model_id: str, answers: Path | None, written: float
) -> Catalogue:  # noqa: ARG001
    split = _split_of(model, dataset.table["image"]) if model else None
    catalogue = described(dataset.table, split, _read(answers) if answers and written else None)
    spare()
    return catalogue


def _read(answers: Path) -> pd.DataFrame:
    return (
        read_predictions(answers)
        .assign(**{UNKNOWN: read_unknown(answers)})
        .reset_index(names="image")
    )


def _split_of(model: str, images: "pd.Series[str]") -> pd.DataFrame | None:
    """Return the split of a model, None where it has none or none of these images is in it."""
    try:
        folder = find_model(model)
        rows = own_split(folder, read_record(folder))
    except CadError:
        return None
    return rows if images.isin(rows["image"]).any() else None
