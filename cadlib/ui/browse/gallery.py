"""Draws the images that match the filters as tiles."""

from zlib import crc32

import streamlit as st

from cadlib.evaluation.catalogue import Catalogue, Rows
from cadlib.ui.gallery import gallery, tiles_of
from cadlib.ui.tiles import Pages, Tile


@st.fragment
def matching_images(catalogue: Catalogue, rows: Rows, kind: str = "") -> None:
    """Draw the images at these places of a catalogue as tiles; `kind` stands before each label."""

    def tiles_between(first: int, end: int) -> list[Tile]:
        on_page = catalogue.table.iloc[rows[first:end]]
        return tiles_of(on_page, kind)

    about = f"{len(rows):,} images"
    # Another selection or order begins at its first page.
    checksum = crc32(rows.tobytes())
    content = f"{catalogue.key}-{checksum:x}"
    pages = Pages(len(rows), tiles_between, about, content)
    gallery(pages, catalogue.table, "gallery", kind)
