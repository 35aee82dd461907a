"""Draws the training images most similar to an image."""

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
from cadlib.ui.image_views import square
from cadlib.ui.models import model, model_metrics
from cadlib.ui.text import mark, plain

NO_SECOND_OPINION = (
    "Similar cases are found with the model's own features: they show what the model compares "
    "with. They are not a second opinion."
)
_SIDE_PX = 112


def similar(assessment: Assessment) -> None:
    """Draw the similar cases, with images if a data set in CADLIB_DATA has them."""
    st.markdown("**Similar cases**")
    cases = assessment.neighbours
    if cases is None:
        command = command_hints.index(model().record.name)
        st.caption(
            f"Similar cases are not available: this model has no index. Create it: `{command}`."
        )
        return
    if cases.itself:
        _warn_of_training_image(cases.itself)
    badge = ":orange-badge[! most differ] " if cases.disagree else ""
    st.markdown(f"{badge}{plain(cases.sentence)}")
    with st.container(horizontal=True, gap="xsmall", key="similar"):
        for case in cases.cases:
            _card(case)
    metrics = model_metrics()
    measured = metrics.neighbours if metrics else None
    # The agreement was measured without patient data, and on images outside the training split.
    if measured and not cases.itself and assessment.prediction.facts is None:
        st.caption(f"{about_the_agreement(cases, measured)} {NO_SECOND_OPINION}")


def _warn_of_training_image(case: SimilarCase) -> None:
    """Write that the model was trained with this image."""
    st.warning(
        f"This image is a training image ({plain(case.image)}, "
        f"{_diagnosis(case)}). The model was trained with this label, so this result "
        "does not show how good the model is.",
        icon=":material/school:",
    )


def _card(case: SimilarCase) -> None:
    """Draw a case: its image, if a data set has it, its diagnosis and its similarity."""
    name = diagnosis(case.diagnosis).name
    file = _file_of(case.image)
    with st.container(width=_SIDE_PX, gap="xsmall"):
        if file:
            st.image(file, width=_SIDE_PX, alt=f"Training image {case.image}, {name}")
        else:
            _draw_placeholder(f"{mark(case.diagnosis)} {name}")
        st.markdown(f"{_diagnosis(case)} · {case.similarity:.2f}")
        parts = [plain(part) for part in (case.image, case.archive) if part]
        # Two spaces before the end of a line are a line break in Markdown.
        st.caption("  \n".join(parts))


def _draw_placeholder(text: str) -> None:
    """Draw a frame of the size of an image with a text in it."""
    with st.container(
        height=_SIDE_PX,
        border=True,
        horizontal_alignment="center",
        vertical_alignment="center",
        gap=None,
    ):
        st.caption(text, text_alignment="center")


def _diagnosis(case: SimilarCase) -> str:
    return f"{mark(case.diagnosis)} {case.diagnosis}"


def _file_of(image: str) -> bytes | None:
    """Return an image as a small JPEG; None if no data set has it or it is unreadable."""
    path = _path_of(image)
    if path is None:
        return None
    try:
        return _square(str(path), path.stat().st_mtime)
    except ImageRejected:
        return None


def _path_of(image: str) -> Path | None:
    """Return the file of that image in the data sets of CADLIB_DATA, None if there is none."""
    # macOS stores file names in the decomposed form.
    forms = dict.fromkeys((image, normalize("NFD", image)))
    names = []
    for form in forms:
        names += [f"{form}{suffix}" for suffix in SUPPORTED_SUFFIXES]
    for folder in dataset_folders():
        # As in ISIC_2019_Training_Input.
        image_folders = Path(folder).glob("*_Input")
        for images in image_folders:
            for name in names:
                path = images / name
                if path.is_file():
                    return path
    return None


# The time is an argument because a file written again is another image.
@st.cache_data(max_entries=500, show_spinner=False)
def _square(path: str, written: float) -> bytes:  # noqa: ARG001
    image = read_image(path)
    return square(image)
