"""Renders the image pairs of an audit as one HTML file.

A person has to look at them. The file needs no other file.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.duplicates import Duplicates
from cadlib.images import read_image
from cadlib.images.thumbnails import QUALITY, shrunk
from cadlib.report.templates import html_template

# A sheet of a data set alone needs no torch.
if TYPE_CHECKING:
    from cadlib.evaluation.leak_audit import SplitAudit

TEMPLATE_FILE = "audit_sheet.html.jinja"
MAX_CARDS = 40
"""Pairs or groups shown in a section; an image takes about 5 kB."""
MAX_IMAGES = 8
"""Images shown of a group."""
THUMBNAIL_PX = 144

WARNING = (
    "This file contains images of the data set and is subject to their licence: "
    "keep it with the data set, and do not pass it on."
)


@dataclass(frozen=True)
class SheetImage:
    """A thumbnail and the fields of its image; `jpeg` is base64."""

    id: str
    jpeg: str
    caption: str


@dataclass(frozen=True)
class Card:
    """The images of a pair or of a group."""

    images: tuple[SheetImage, ...]
    caption: str


@dataclass(frozen=True)
class SheetSection:
    """The findings of one kind: `count` in all, and cards of the first MAX_CARDS."""

    title: str
    count: int
    cards: tuple[Card, ...]


def render(duplicates: Duplicates, split: "SplitAudit | None" = None) -> str:
    """Return the sheet of a data set, with the pairs across a model's splits where `split` is set.

    Raise ImageRejected for an image that can no longer be read.
    """
    title = f"Audit of {duplicates.name}"
    sections: list[SheetSection] = []
    if split:
        title += f" and the split of {split.model_id}"
        sections += _pair_sections(split)
    sections += _contradiction_sections(duplicates)
    return html_template(TEMPLATE_FILE).render(
        title=title,
        warning=WARNING,
        summary=str(split or duplicates),
        sections=sections,
        max_cards=MAX_CARDS,
    )


def _pair_sections(split: "SplitAudit") -> Iterator[SheetSection]:
    """Yield the sections of pairs across the splits."""
    by_features = split.nearest("cosine", MAX_CARDS)
    by_detail = split.nearest("likeness", MAX_CARDS)
    sections = {
        "Leaking pairs": split.leaking_pairs,
        "Most similar pairs across splits, by model features": by_features,
        "Most similar pairs across splits, by pixel detail": by_detail,
    }
    for title, pairs in sections.items():
        first_pairs = pairs.head(MAX_CARDS)
        cards = tuple(_pair_cards(split.table, first_pairs))
        yield SheetSection(title, len(pairs), cards)


def _pair_cards(table: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[Card]:
    columns = [pairs[name] for name in ("left", "right", "bits", "cosine", "likeness")]
    for left, right, bits, cosine, similarity in zip(*columns, strict=True):
        caption = f"cosine {cosine:.3f}, likeness {similarity:.3f}, {bits} hash bits differ"
        yield _card(table, (left, right), caption)


def _contradiction_sections(duplicates: Duplicates) -> Iterator[SheetSection]:
    """Yield the sections of images with conflicting labels."""
    for kind in CONTRADICTIONS:
        groups = duplicates.contradictions(kind)
        cards: list[Card] = []
        for rows in groups[:MAX_CARDS]:
            shown = rows[:MAX_IMAGES].tolist()
            cards.append(_card(duplicates.table, shown, f"{len(rows):,} images"))
        title = f"Conflicting labels: {kind}"
        yield SheetSection(title, len(groups), tuple(cards))


def _card(table: pd.DataFrame, rows: Sequence[int], caption: str) -> Card:
    images = tuple(_image(table.iloc[row]) for row in rows)
    return Card(images, caption)


def _image(row: "pd.Series[str]") -> SheetImage:
    """Return an image with its fields as caption."""
    fields = [
        row["image"],
        # The table of a data set alone has no splits.
        row.get("split"),
        row["diagnosis"],
        row["archive"],
        row["lesion_id"],
    ]
    caption = ", ".join(str(field) for field in fields if pd.notna(field))
    return SheetImage(str(row["image"]), _jpeg(row["path"]), caption)


def _jpeg(path: str) -> str:
    """Return a thumbnail of an image file as base64."""
    image = read_image(path, enough_px=THUMBNAIL_PX)
    jpeg = shrunk(image, THUMBNAIL_PX, QUALITY)
    encoded = base64.b64encode(jpeg)
    return encoded.decode("ascii")
