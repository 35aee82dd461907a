"""Draws the images that match the filters as tiles."""

from zlib import crc32

import streamlit as st

from cadlib.evaluation.catalogue import Catalogue, Rows
from cadlib.ui.gallery import gallery, tiles_of
from cadlib.ui.tiles import Pages, Tile


@st.fragment
def found(catalogue: Catalogue, rows: Rows, kind: str = "") -> None:
    """Draw the images at these places of a catalogue as tiles; `kind` stands before each label."""

    def tiles_between(first: int, end: int) -> list[Tile]:
        return tiles_of(catalogue.table.iloc[rows[first:end]], kind)

    about = f"{len(rows):,} images"
    content = f"{catalogue.key}-{crc32(rows.tobytes()):x}"
    pages = Pages(len(rows), tiles_between, about, content)
    gallery(pages, catalogue.table, "gallery", kind)
