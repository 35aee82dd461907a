"""Loads the model of the pages, once for all sessions.

It is the shipped one, or the first in the folder of models if that is missing.
"""

import os
from contextlib import suppress
from pathlib import Path

import streamlit as st
from PIL import Image

from cadlib import command_hints
from cadlib.assessment import assess
from cadlib.errors import CadError, ModelInvalid
from cadlib.images import read_image
from cadlib.model import metrics_file, record
from cadlib.model.metrics_file import Metrics
from cadlib.model.model import Model
from cadlib.model.record import ModelRecord
from cadlib.saliency.heatmap import METHODS, Method
from cadlib.ui.text import plain

DEFAULT_MODEL = "isic2019"
_MODEL_ID = "model-id"
"""Key of the id of the model that the frame of this session shows."""
_FORMER_ID = "former-model-id"
"""Key of the id of the model that it replaced."""
_WARM_UP_SIZE_PX = (450, 450)


def model() -> Model:
    """Return the loaded model; if it cannot be loaded, draw the reason and end the page."""
    try:
        loaded = _model()
    except CadError as error:
        st.error(plain(str(error)))
        st.stop()
    model_id = loaded.record.model_id
    if st.session_state.get(_MODEL_ID, model_id) != model_id:
        # The model was replaced after the frame of this page was drawn, and one page must not show
        # results of two models.
        st.rerun()
    return loaded


def load_ahead() -> None:
    """Load the model before a page needs it, and predict once.

    The first prediction of a model takes ten times as long as the next ones.
    An error is not reported here: the first page that needs the model reports it.
    """
    with suppress(CadError):
        loaded = _model()
        # Any image will do: only the first prediction is slow.
        black = Image.new("RGB", _WARM_UP_SIZE_PX)
        image = read_image(black)
        assess(loaded, image, with_heatmap=False)


def default_model() -> str:
    """Return the name of the model of the pages."""
    return _model_folder().name


def model_beside(name: str, model_id: str | None = None) -> Model:
    """Return a model for background work, on half of the cores, so that the pages stay responsive.

    Raise ModelInvalid if it is not the one of `model_id` any more.
    """
    # The number is None where the system does not report it.
    cores = os.cpu_count() or 1
    folder = record.find_model(name)
    return Model.load(folder, threads=max(cores // 2, 1), model_id=model_id)


def model_metrics(name: str | None = None) -> Metrics | None:
    """Return a model's metrics.json, that of the pages' model without a name, None if it has none.

    Raise ModelInvalid if it cannot be used.
    """
    return metrics_file.read(_folder_of(name), name)


def default_method() -> Method:
    """Return the saliency method that is shown first: the most faithful one of the pages' model.

    It is the first method where the model has no measured gain over it.
    """
    folder = _model_folder()
    content = record.content_key(folder)
    key = _default_method(str(folder), content)
    return next(method for method in METHODS if method.key == key)


def model_card(name: str | None = None) -> str:
    """Return a model's README.md as Markdown, that of the pages' model without a name."""
    folder = _folder_of(name)
    file = record.CARD_FILE
    card = record.read_checked(folder, file)
    if not card:
        return f"Model card not found: the model folder has no {file}."
    return card.decode()


def shown_model(current: ModelRecord | None) -> str:
    """Remember the model that this session shows; return the id of the one it replaced, or ""."""
    if current is None:
        return ""
    state = st.session_state
    model_id = current.model_id
    before: str | None = state.get(_MODEL_ID)
    state[_MODEL_ID] = model_id
    # Stored, so that the warning stays on every page until the session ends.
    if before and before != model_id:
        state[_FORMER_ID] = before
    former = state.get(_FORMER_ID, "")
    return str(former)


def model_record() -> tuple[ModelRecord | None, str]:
    """Return the model's record, or None and the reason why there is none."""
    try:
        return record.read_record(_model_folder()), ""
    except ModelInvalid as error:
        return None, str(error)


def _model() -> Model:
    folder = _model_folder()
    content = record.content_key(folder)
    return _load_model(str(folder), content)


def _folder_of(name: str | None) -> Path:
    if name:
        return record.find_model(name)
    return _model_folder()


def _model_folder() -> Path:
    names = record.list_models()
    if not names:
        raise ModelInvalid(
            f"Expected a trained model in {record.models_dir()}, but found none. Restore the "
            f"folder from the repository, or train a model: `{command_hints.train()}`."
        )
    name = DEFAULT_MODEL if DEFAULT_MODEL in names else names[0]
    return record.find_model(name)


# The content is an argument because a changed folder is another model.
@st.cache_resource(max_entries=2, show_spinner=False)
def _load_model(folder: str, content: str) -> Model:  # noqa: ARG001
    return Model.load(folder)


@st.cache_resource(max_entries=2, show_spinner=False)
def _default_method(folder: str, content: str) -> str:  # noqa: ARG001
    try:
        metrics = metrics_file.read(Path(folder), None)
    except CadError:
        # The page of the metrics reports it.
        metrics = None
    if metrics is None or metrics.saliency is None:
        return METHODS[0].key
    return metrics.saliency.shown_first
