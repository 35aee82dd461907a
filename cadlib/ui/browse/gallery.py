"""A gallery of a data set's images, page by page, and one of them large with everything known of it."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from cadlib import figures
from cadlib.catalogue import WRONG, Catalogue, Rows
from cadlib.errors import CadError, ImageRejected
from cadlib.readahead import threads
from cadlib.thumbnails import thumbnail
from cadlib.ui.datasets import assess_file
from cadlib.ui.evidence import evidence
from cadlib.ui.frame import chart
from cadlib.ui.models import model_record
from cadlib.ui.neighbours import similar
from cadlib.ui.pictures import photograph_of
from cadlib.ui.text import mark, named, plain

PAGE_SIZE = 24
_SHOWN = 12
"""Of the other images of a lesion, at most: thumbnails in a row."""
_LABELS = {
    "age_approx": "age", "sex": "sex", "anatom_site_general": "site", "archive": "archive", "lesion_id": "lesion",
    "split": "split of the model",
}  # fmt: skip
_FIGURES = {
    "risk": "malignant probability", "confidence": "confidence", "uncertainty": "uncertainty", "loss": "loss",
    "novelty": "novelty",
}  # fmt: skip
_OPEN = "sample"


class Row(NamedTuple):
    """What the gallery takes of a row of the table."""

    image: str
    path: str
    diagnosis: Any
    said: Any
    verdict: Any


@st.fragment
def gallery(catalogue: Catalogue, rows: Rows, kind: str = "") -> None:
    """Draw the images at these places of a catalogue, page by page; `kind` stands before each label.

    An image whose label the model does not share has a mark. A click opens it large.
    """
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        number = st.pagination(max(1, -(-len(rows) // PAGE_SIZE)), key="page")
        st.caption(f"{len(rows):,} pictures", width="content")
    first = (number - 1) * PAGE_SIZE
    _tiles(catalogue.table.iloc[rows[first : first + PAGE_SIZE]], kind)
    for path in catalogue.table["path"].iloc[rows[first + PAGE_SIZE : first + 2 * PAGE_SIZE]]:
        threads().submit(_picture, path)  # made while the reader looks at this page
    if (chosen := st.session_state.get(_OPEN)) is not None:
        _sample(catalogue, chosen, kind)


def _tiles(table: pd.DataFrame, kind: str = "", prefix: str = "open") -> None:
    """Draw a tile for each row: its thumbnail, and the button, with its label, that opens it."""
    rows = [
        Row(*values) for values in table.reindex(columns=Row._fields).astype(object).itertuples(index=False, name=None)
    ]
    pictures = threads().map(_picture, [row.path for row in rows])
    with st.container(key=f"{prefix}-tiles"), st.grid("auto", min_column_width=120, gap="small") as grid:
        for row, picture in zip(rows, pictures, strict=True):
            with grid.cell(), st.container(gap="xsmall"):
                label = row.diagnosis if isinstance(row.diagnosis, str) else "no label"
                if isinstance(picture, bytes):
                    st.image(picture, width="stretch", alt=f"{row.image}, {label}")
                else:
                    st.caption(plain(picture))
                differs = f" ≠ {row.said}" if row.verdict == WRONG else ""
                if st.button(
                    f"{mark(label)} {kind}{label}{differs}", f"{prefix}-{row.image}", plain(row.image), width="stretch"
                ):
                    st.session_state[_OPEN] = row.image


def _picture(path: str) -> bytes | str:
    """Return the thumbnail of a file, or the reason why there is none."""
    try:
        return thumbnail(Path(path))
    except (ImageRejected, OSError) as error:
        return str(error)


@st.dialog("Sample", width="large", on_dismiss=lambda: st.session_state.pop(_OPEN, None))
def _sample(catalogue: Catalogue, image: str, kind: str) -> None:
    """Show one image large, with all that is known of it, and on request the model's answer."""
    table = catalogue.table
    found = table[table["image"] == image]
    if found.empty:
        st.caption(f"{plain(image)} is not in this data set.")
        return
    row = found.iloc[0]
    label = row["diagnosis"] if isinstance(row["diagnosis"], str) else "no label"
    st.markdown(f"{mark(label)} **{kind}{named(label)}** {plain(image)}")
    record, _ = model_record()
    try:
        if record and st.toggle("Ask the model", key="ask"):
            answer = assess_file(row["path"])
            st.markdown(f"**{answer.decision.sentence}** {answer.quality.sentence}")
            left, right = st.columns(2, gap="medium")
            with left:
                evidence(answer, image, "sample")
            with right:
                chart(
                    figures.confidence_chart(answer.prediction.probabilities, answer.likely or ()), "sample-confidence"
                )
                similar(answer)
        else:
            st.image(photograph_of(row["path"]), width="stretch", alt=f"The picture {image}")
    except (CadError, OSError) as error:
        st.error(plain(str(error)))
    known = [f"{label} {row[name]}" for name, label in _LABELS.items() if name in row and pd.notna(row[name])]
    told = [f"{label} {row[name]:.2f}" for name, label in _FIGURES.items() if name in row and pd.notna(row[name])]
    st.caption(plain(" · ".join([*known, f"{row['width_px']} × {row['height_px']} px", *told])))
    others = table[(table["lesion_id"] == row["lesion_id"]) & (table["image"] != image)]
    if len(others):
        st.markdown(f"**Other images of this lesion**: {len(others):,}")
        _tiles(others.iloc[:_SHOWN], kind, "other")
