"""Images of a data set as tiles, page by page, and one of them large with everything known of it."""

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
from cadlib.ui.models import model_record
from cadlib.ui.neighbours import similar
from cadlib.ui.pictures import photograph, photograph_of
from cadlib.ui.quality import about_the_kind, not_asked_for
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
_FIGURES = {
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
    """Return a tile for each row of a data set's table: its label, a diagnosis of a model that differs, and more words.

    `kind` stands before the diagnosis, `words` are made of a row.
    """
    found = []
    labels = label_words(rows).fillna(NO_LABEL)
    for code, row in zip(labels, rows.to_dict("records"), strict=True):
        said = row.get("said")
        differs = f" · predicted {said}" if isinstance(said, str) and _differs(code, said) else ""
        found.append(Tile(row["image"], row["path"], code, f"{kind}{code}{differs}{words(row)}"))
    return found


def _differs(label: str, said: str) -> bool:
    """Say whether a model's diagnosis contradicts a label: another diagnosis, or one of the other group."""
    if label in GROUPS.values():
        return diagnosis(said).group != label
    return label in CODES and said != label


def gallery(pages: Pages, table: "pd.DataFrame", key: str, kind: str = "") -> None:
    """Draw tiles, as `tiles` does; a click opens the image large, with what a data set's table knows of it.

    `kind` stands before its diagnosis. Call it in a fragment.
    """
    chosen = f"sample-{key}"
    if (opened := tiles(pages, key)) is not None:
        st.session_state[chosen] = opened
    if chosen in st.session_state:
        opens = st.dialog(
            "Image", width="large", on_dismiss=lambda: st.session_state.pop(chosen, None)
        )
        opens(_sample)(table, chosen, kind)


def _sample(table: "pd.DataFrame", chosen: str, kind: str) -> None:
    """Show one image large, with all that is known of it, and on request the model's answer."""
    image = st.session_state[chosen]
    found = table[table["image"] == image]
    if found.empty:
        st.caption(f"{plain(image)} is not in this data set.")
        return
    row = found.iloc[0].dropna()
    label = label_words(found).fillna(NO_LABEL).iloc[0]
    st.markdown(f"{mark(label)} **{kind}{named(label)}** {plain(image)}")
    record, _ = model_record()
    left, right = st.columns([3, 2], gap="medium")
    try:
        if record and st.session_state.get("ask"):
            _result(assess_file(row["path"]), image, left, right)
        else:
            left.image(photograph_of(row["path"]), width="stretch", alt=f"Image {image}")
    except (CadError, OSError) as error:
        left.error(plain(str(error)))
    with right:
        if record:
            st.toggle("Show model result", key="ask")
        _known(row)
        _others(table, row, chosen, kind)


def _result(found: Assessment, image: str, left: DeltaGenerator, right: DeltaGenerator) -> None:
    """Draw the model's result, with the warning where the image cannot be interpreted or is not known."""
    with right:
        hidden = not_asked_for(found)
    if hidden:
        left.image(photograph(found.image), width="stretch", alt=f"Image {image}")
        with right:
            st.caption(about_the_kind(found.novelty))
        return
    with left:
        evidence(found, image, "sample")
    with right:
        st.markdown(f"**{found.decision.sentence}** {found.quality.sentence}")
        bars = charts.confidence_chart(found.prediction.probabilities, found.likely or ())
        chart(bars, "sample-confidence")
        st.caption(MALIGNANT_NOTE)
        st.caption(about_the_kind(found.novelty))
        similar(found)


def _known(row: "pd.Series[Any]") -> None:
    """Write what a data set, and a model's evaluation on it, say of an image."""
    known = [f"{label} {_short(row[name])}" for name, label in _LABELS.items() if name in row]
    told = [f"{label} {row[name]:.2f}" for name, label in _FIGURES.items() if name in row]
    if "novelty" in row:
        told.append(f"novelty {apart(row['novelty'], 1, '.2f')} (limit 1)")
    st.caption(plain(" · ".join([*known, f"{row['width_px']} × {row['height_px']} px", *told])))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _others(table: "pd.DataFrame", row: "pd.Series[Any]", chosen: str, kind: str) -> None:
    """Draw the other images of an image's lesion; a click opens one in its stead."""
    others = table[(table["lesion_id"] == row.get("lesion_id")) & (table["image"] != row["image"])]
    if others.empty:
        return
    st.markdown(f"**Other images of this lesion**: {len(others):,}")
    pages = Pages(
        len(others), lambda first, end: tiles_of(others.iloc[first:end], kind), "", row["image"], 12
    )
    if (other := tiles(pages, "other-tiles")) is not None:
        st.session_state[chosen] = other
        st.rerun(scope="fragment")
