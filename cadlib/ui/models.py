"""The model of the pages: the shipped one where it stands, else the first there is, loaded once for all sessions."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image

from cadlib import command_hints
from cadlib.assessment import assess_batch
from cadlib.errors import CadError, ModelInvalid
from cadlib.images import read_image
from cadlib.model import record
from cadlib.model.model import Model
from cadlib.model.record import ModelRecord
from cadlib.ui.text import plain

DEFAULT_MODEL = "isic2019"
_MODEL_ID = "model-id"
"""Key of the id of the model that the frame of this session shows, and below of the one that it replaced."""
_FORMER_ID = "former-model-id"


def model() -> Model:
    """Return the loaded model; where it cannot be loaded, say so and end the page."""
    try:
        loaded = _model()
    except CadError as error:
        st.error(plain(str(error)))
        st.stop()
    if st.session_state.get(_MODEL_ID, loaded.record.model_id) != loaded.record.model_id:
        st.rerun()  # replaced since the frame of this page was drawn: one page does not show two models
    return loaded


def load_ahead() -> None:
    """Load the model before a page asks for it, and let it answer once, for the first answer takes ten times as long.

    What is wrong with the model that page will say.
    """
    with suppress(CadError):
        assess_batch(_model(), [read_image(Image.new("RGB", (450, 450)))])


def default_model() -> str:
    """Return the name of the model of the pages."""
    return _model_folder().name


def model_beside(name: str, model_id: str | None = None) -> Model:
    """Return a model for work beside the pages, on half of the cores: they have to answer meanwhile.

    Raise ModelInvalid where it is not the one of `model_id` any more.
    """
    return Model.load(
        record.find_model(name), threads=max((os.cpu_count() or 1) // 2, 1), model_id=model_id
    )


def model_metrics(name: str | None = None) -> dict[str, Any] | None:
    """Return a model's metrics.json, that of the pages' without a name, None where it has none.

    Raise ModelInvalid where it cannot be used.
    """
    folder = record.find_model(name) if name else _model_folder()
    path = folder / record.METRICS_FILE
    if record.read_checked(folder, record.METRICS_FILE) is None:
        return None
    measured = record.read_checked_json(folder, record.METRICS_FILE)
    if "intervals" not in measured or "split" not in measured.get("data", {}):
        raise ModelInvalid(
            f"Expected a split and intervals in {path}, but an earlier version wrote this file. "
            f"Re-evaluate the model: `{command_hints.evaluate_into(name or _model_folder().name)}`."
        )
    return measured


def model_card(name: str | None = None) -> str:
    """Return a model's README.md as Markdown, that of the pages' without a name."""
    card = record.read_checked(
        record.find_model(name) if name else _model_folder(), record.CARD_FILE
    )
    return (
        card.decode()
        if card
        else f"Model card not found: the model folder has no {record.CARD_FILE}."
    )


def shown_model(current: ModelRecord | None) -> str:
    """Remember which model the frame of this session shows; return its former id where that is another, else ""."""
    before: str | None = st.session_state.get(_MODEL_ID)
    if current is None:
        return ""
    st.session_state[_MODEL_ID] = current.model_id
    if before and before != current.model_id:
        st.session_state[_FORMER_ID] = before
    return str(st.session_state.get(_FORMER_ID, ""))


def model_record() -> tuple[ModelRecord | None, str]:
    """Return the model's record, or None and the reason why there is none."""
    try:
        return record.read_record(_model_folder()), ""
    except ModelInvalid as error:
        return None, str(error)


def _model() -> Model:
    folder = _model_folder()
    return _load_model(str(folder), record.content_key(folder))


def _model_folder() -> Path:
    names = record.list_models()
    if not names:
        raise ModelInvalid(
            f"Expected a trained model in {record.models_dir()}, but found none. Restore the folder from the "
            f"repository, or train a model: `{command_hints.train()}`."
        )
    return record.find_model(DEFAULT_MODEL if DEFAULT_MODEL in names else names[0])


@st.cache_resource(max_entries=2, show_spinner=False)
def _load_model(folder: str, content: str) -> Model:  # noqa: ARG001 - another content is another model
    return Model.load(folder)
