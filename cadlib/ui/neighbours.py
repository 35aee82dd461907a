"""The training images most like a picture, in a row, and whether they speak for what the model says."""

from pathlib import Path
from unicodedata import normalize

import streamlit as st

from cadlib import command_hints
from cadlib.assessment import Assessment
from cadlib.errors import ImageRejected
from cadlib.images import SUPPORTED_SUFFIXES, read_image
from cadlib.model.neighbours import SimilarCase
from cadlib.model.neighbours.agreement import about_the_agreement
from cadlib.taxonomy import diagnosis
from cadlib.ui.datasets import dataset_folders
from cadlib.ui.models import model, model_metrics
from cadlib.ui.pictures import square
from cadlib.ui.text import mark, plain

NO_SECOND_OPINION = (
    "Similar cases are found with the model's own features: they show what the model compares with. "
    "They are not a second opinion."
)
_SIDE_PX = 112


def similar(found: Assessment) -> None:
    """Draw the similar cases of an assessment; pictures where a data set in CADLIB_DATA has them."""
    st.markdown("**Similar cases**")
    cases = found.neighbours
    if cases is None:
        name = model().record.name
        st.caption(
            f"Similar cases are not available: this model has no index. Create it: `{command_hints.index(name)}`."
        )
        return
    if cases.itself:
        st.warning(
            f"This image is a training image ({plain(cases.itself.image)}, {_diagnosis(cases.itself)}). "
            "The model was trained with this label, so this result does not show how good the model is.",
            icon=":material/school:",
        )
    badge = ":orange-badge[! most differ] " if cases.disagree else ""
    st.markdown(f"{badge}{plain(cases.sentence)}")
    with st.container(horizontal=True, gap="xsmall", key="similar"):
        for case in cases.cases:
            _card(case)
    measured = (model_metrics() or {}).get("neighbours")
    # measured without patient data, and on images that the model was not trained on
    if measured and not cases.itself and found.prediction.facts is None:
        st.caption(f"{about_the_agreement(cases, measured)} {NO_SECOND_OPINION}")


def _card(case: SimilarCase) -> None:
    picture, name = _picture(case.image), diagnosis(case.diagnosis).name
    with st.container(width=_SIDE_PX, gap="xsmall"):
        if picture:
            st.image(picture, width=_SIDE_PX, alt=f"Training image {case.image}, {name}")
        else:
            with st.container(
                height=_SIDE_PX,
                border=True,
                horizontal_alignment="center",
                vertical_alignment="center",
                gap=None,
            ):
                st.caption(f"{mark(case.diagnosis)} {name}", text_alignment="center")
        st.markdown(f"{_diagnosis(case)} · {case.similarity:.2f}")
        st.caption("  \n".join(plain(part) for part in (case.image, case.archive) if part))


def _diagnosis(case: SimilarCase) -> str:
    return f"{mark(case.diagnosis)} {case.diagnosis}"


def _picture(image: str) -> bytes | None:
    """Return an image of a data set at hand as a small JPEG, None where none has it, or not so that it can be read."""
    forms = dict.fromkeys((image, normalize("NFD", image)))  # macOS keeps file names decomposed
    names = [f"{form}{suffix}" for form in forms for suffix in SUPPORTED_SUFFIXES]
    inputs = (below for folder in dataset_folders() for below in Path(folder).glob("*_Input"))
    path = next(
        (path for below in inputs for name in names if (path := below / name).is_file()), None
    )
    try:
        return None if path is None else _square(str(path), path.stat().st_mtime)
    except ImageRejected:
        return None


@st.cache_data(max_entries=500, show_spinner=False)
def _square(path: str, written: float) -> bytes:  # noqa: ARG001 - a new date is a new picture
    return square(read_image(path))
