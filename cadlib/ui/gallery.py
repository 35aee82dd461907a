"""Draws images of a data set as tiles."""

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cadlib.assessment import Assessment
from cadlib.errors import CadError
from cadlib.metrics.partial_labels import GROUPS, label_words
from cadlib.report import charts
from cadlib.taxonomy import CODES, MALIGNANT_NOTE, diagnosis
from cadlib.ui.datasets import assess_file
from cadlib.ui.evidence import evidence
from cadlib.ui.frame import chart
from cadlib.ui.image_views import photograph, photograph_of
from cadlib.ui.models import model_record
from cadlib.ui.neighbours import similar
from cadlib.ui.quality import about_the_kind, warn_if_unreliable
from cadlib.ui.text import apart, mark, named, plain
from cadlib.ui.tiles import Pages, Tile, tiles

if TYPE_CHECKING:
    import pandas as pd

NO_LABEL = "no label"
_LABELS = {
    "age_approx": "age",
    "sex": "sex",
    "anatom_site_general": "anatomical site",
    "archive": "archive",
    "lesion_id": "lesion",
    "split": "model split",
}
_MODEL_VALUES = {
    "risk": "malignant probability",
    "confidence": "confidence",
    "uncertainty": "uncertainty",
    "loss": "loss",
}


def tiles_of(
    rows: "pd.DataFrame",
    kind: str = "",
    words: Callable[[Mapping[Hashable, Any]], str] = lambda _: "",
) -> list[Tile]:
    """Return a tile for each row of a data set's table.

    Its text is the label, the predicted diagnosis if that differs, and `words(row)`. `kind` stands
    before the label.
    """
    row_tiles = []
    labels = label_words(rows).fillna(NO_LABEL)
    records = rows.to_dict("records")
    for label, row in zip(labels, records, strict=True):
        text = f"{kind}{label}"
        predicted = row.get("said")
        # Without a prediction, the value is missing, or the table has no such column.
        if isinstance(predicted, str) and _differs(label, predicted):
            text += f" · predicted {predicted}"
        text += words(row)
        tile = Tile(row["image"], row["path"], label, text)
        row_tiles.append(tile)
    return row_tiles


def _differs(label: str, predicted: str) -> bool:
    """Return whether a prediction contradicts a label: another diagnosis, or another group."""
    if label in GROUPS.values():
        return diagnosis(predicted).group != label
    # UNK and a missing label contradict no prediction.
    return label in CODES and predicted != label


def gallery(pages: Pages, table: "pd.DataFrame", key: str, kind: str = "") -> None:
    """Draw tiles, as `tiles` does; a click opens the image large, with its fields of the table.

    `kind` stands before its label. Call it in a fragment.
    """
    state_key = f"sample-{key}"
    opened = tiles(pages, key)
    if opened is not None:
        st.session_state[state_key] = opened
    is_open = state_key in st.session_state
    if not is_open:
        return

    def close() -> None:
        st.session_state.pop(state_key, None)

    dialog = st.dialog("Image", width="large", on_dismiss=close)
    draw = dialog(_sample)
    draw(table, state_key, kind)


def _sample(table: "pd.DataFrame", state_key: str, kind: str) -> None:
    """Show one image large with its fields, and on request the model's result."""
    image = st.session_state[state_key]
    rows = table[table["image"] == image]
    if rows.empty:
        st.caption(f"{plain(image)} is not in this data set.")
    else:
        _draw_sample(table, rows, state_key, kind)


def _draw_sample(
    table: "pd.DataFrame",
    rows: "pd.DataFrame",
    state_key: str,
    kind: str,
) -> None:
    """Draw the image of the first of these rows, its fields and the other images of its lesion."""
    image = st.session_state[state_key]
    # Missing values are dropped, so a field in the row has a value.
    row = rows.iloc[0].dropna()
    labels = label_words(rows).fillna(NO_LABEL)
    label = labels.iloc[0]
    title = f"{kind}{named(label)}"
    st.markdown(f"{mark(label)} **{title}** {plain(image)}")
    record, _ = model_record()
    asked = bool(st.session_state.get("ask"))
    left, right = st.columns([3, 2], gap="medium")
    _draw_large(
        image,
        row["path"],
        left,
        right,
        # The switch may be on from a time when there was a model.
        with_result=asked and record is not None,
    )
    with right:
        if record:
            st.toggle("Show model result", key="ask")
        _fields(row)
        _others(table, row, state_key, kind)


def _draw_large(
    image: str, path: str, left: DeltaGenerator, right: DeltaGenerator, *, with_result: bool
) -> None:
    """Draw an image with the model's result, or alone; or why it cannot be read."""
    try:
        if with_result:
            _result(assess_file(path), image, left, right)
        else:
            large = photograph_of(path)
            left.image(large, width="stretch", alt=f"Image {image}")
    except (CadError, OSError) as error:
        left.error(plain(str(error)))


def _result(
    assessment: Assessment, image: str, left: DeltaGenerator, right: DeltaGenerator
) -> None:
    """Draw the model's result, or the warning of an image without a reliable one."""
    with right:
        hidden = warn_if_unreliable(assessment)
    if hidden:
        left.image(photograph(assessment.image), width="stretch", alt=f"Image {image}")
        with right:
            st.caption(about_the_kind(assessment.novelty))
        return
    with left:
        evidence(assessment, image, "sample")
    with right:
        st.markdown(f"**{assessment.decision.sentence}** {assessment.quality.sentence}")
        probabilities = assessment.prediction.probabilities
        bars = charts.confidence_chart(probabilities, assessment.likely or ())
        chart(bars, "sample-confidence")
        st.caption(MALIGNANT_NOTE)
        st.caption(about_the_kind(assessment.novelty))
        similar(assessment)


def _fields(row: "pd.Series[Any]") -> None:
    """Write the fields of an image, from the data set and from a model's evaluation on it."""
    texts = []
    # Missing values are not in the row.
    for name, label in _LABELS.items():
        if name in row:
            value = _short(row[name])
            texts.append(f"{label} {value}")
    width_px = row["width_px"]
    height_px = row["height_px"]
    texts.append(f"{width_px} × {height_px} px")
    for name, label in _MODEL_VALUES.items():
        if name in row:
            number = row[name]
            texts.append(f"{label} {number:.2f}")
    if "novelty" in row:
        novelty = apart(row["novelty"], 1, ".2f")
        texts.append(f"novelty {novelty} (limit 1)")
    line = " · ".join(texts)
    st.caption(plain(line))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _others(
    table: "pd.DataFrame",
    row: "pd.Series[Any]",
    state_key: str,
    kind: str,
) -> None:
    """Draw the other images of an image's lesion; a click opens one instead of it."""
    lesion = row.get("lesion_id")
    # Without a lesion, nothing is equal to the missing value, so there are no others.
    same_lesion = table["lesion_id"] == lesion
    other_image = table["image"] != row["image"]
    others = table[same_lesion & other_image]
    if others.empty:
        return
    n_others = len(others)
    st.markdown(f"**Other images of this lesion**: {n_others:,}")

    def tiles_between(first: int, end: int) -> list[Tile]:
        return tiles_of(others.iloc[first:end], kind)

    pages = Pages(n_others, tiles_between, "", row["image"], 12)
    opened = tiles(pages, "other-tiles")
    if opened is not None:
        st.session_state[state_key] = opened
        # Only the dialog is drawn again, now with the other image.
        st.rerun(scope="fragment")
