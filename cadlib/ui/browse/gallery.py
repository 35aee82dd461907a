"""What a catalogue found, as tiles: each with its label, and with what the model says where that is another."""

from zlib import crc32

import streamlit as st

from cadlib.evaluation.catalogue import Catalogue, Rows
from cadlib.ui.gallery import gallery, tiles_of
from cadlib.ui.tiles import Pages


@st.fragment
def found(catalogue: Catalogue, rows: Rows, kind: str = "") -> None:
    """Draw the images at these places of a catalogue, page by page; `kind` stands before each label."""
    pages = Pages(
        len(rows),
        lambda first, end: tiles_of(catalogue.table.iloc[rows[first:end]], kind),
        f"{len(rows):,} images",
        f"{catalogue.key}-{crc32(rows.tobytes()):x}",
    )
    gallery(pages, catalogue.table, "gallery", kind)
