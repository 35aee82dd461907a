"""Renders the image pairs of an audit as one HTML file.

A person has to look at them. The file needs no other file.
"""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.duplicates import Duplicates
from cadlib.images import read_image

# A sheet of a data set alone needs no torch.
if TYPE_CHECKING:
    from cadlib.evaluation.leak_audit import SplitAudit

MAX_CARDS = 40
"""Pairs or groups shown in a section; an image takes about 5 kB."""
MAX_PICTURES = 8
PICTURE_PX = 144

WARNING = (
    "This file holds images of the data set. Their licence binds it too: "
    "keep it where the data set is, and do not pass it on."
)
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; \
color: #1a1a1a; }
.warning { border: 2px solid #b45309; border-radius: 6px; padding: .6rem 1rem; font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
.card { border: 1px solid #d4d4d4; border-radius: 6px; padding: .6rem; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; }
figure { margin: 0; width: 144px; overflow-wrap: anywhere; }
"""


def render(duplicates: Duplicates, split: "SplitAudit | None" = None) -> str:
    """Return the sheet of a data set, with the pairs across a model's splits where `split` is set.

    Raise ImageRejected for an image that can no longer be read.
    """
    title = f"Audit of {duplicates.name}"
    sections: list[str] = []
    if split:
        title += f" and the split of {split.model_id}"
        sections += _pairs(split)
    sections += _contradictions(duplicates)
    escaped_title = html.escape(title)
    summary = html.escape(str(split or duplicates))
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escaped_title}</title>\n"
        f"<style>{_STYLE}</style></head>\n"
    )
    introduction = (
        f"<body><h1>{escaped_title}</h1>\n"
        f'<p class="warning">{html.escape(WARNING)}</p>\n'
        f"<pre>{summary}</pre>\n"
    )
    return head + introduction + "\n".join(sections) + "\n</body></html>\n"


def _pairs(split: "SplitAudit") -> Iterator[str]:
    """Yield the sections of pairs across the splits."""
    sections = {
        "Pairs that leak": split.leaking_pairs,
        "Nearest across splits by the model's features": split.nearest("cosine", MAX_CARDS),
        "Nearest across splits by the detail of their pixels": split.nearest("likeness", MAX_CARDS),
    }
    for title, pairs in sections.items():
        cards = _pair_cards(split.table, pairs.head(MAX_CARDS))
        yield _section(title, len(pairs), cards)


def _pair_cards(table: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    columns = [pairs[name] for name in ("left", "right", "bits", "cosine", "likeness")]
    for left, right, bits, cosine, likeness in zip(*columns, strict=True):
        caption = f"cosine {cosine:.3f}, likeness {likeness:.3f}, {bits} bits of the hash differ"
        yield _card(table, (left, right), caption)


def _contradictions(duplicates: Duplicates) -> Iterator[str]:
    """Yield the sections of images whose labels contradict each other."""
    for kind in CONTRADICTIONS:
        groups = duplicates.contradictions(kind)
        cards = _group_cards(duplicates.table, groups[:MAX_CARDS])
        yield _section(f"Labels that contradict each other: {kind}", len(groups), cards)


def _group_cards(table: pd.DataFrame, groups: Sequence[NDArray[np.intp]]) -> Iterator[str]:
    for rows in groups:
        yield _card(table, rows[:MAX_PICTURES].tolist(), f"{len(rows):,} images")


def _section(title: str, count: int, cards: Iterator[str]) -> str:
    limit = "" if count <= MAX_CARDS else f", the first {MAX_CARDS} of them"
    joined_cards = "".join(cards)
    return (
        f"<h2>{html.escape(title)}</h2>\n"
        f"<p>{count:,}{limit}</p>\n"
        f'<div class="cards">{joined_cards}</div>'
    )


def _card(table: pd.DataFrame, rows: Sequence[int], caption: str) -> str:
    figures = "".join(_figure(table.iloc[row]) for row in rows)
    escaped_caption = html.escape(caption)
    return f'<div class="card"><div class="pictures">{figures}</div><p>{escaped_caption}</p></div>'


def _figure(image: "pd.Series[str]") -> str:
    """Return an image with its facts below."""
    facts = [
        image["image"],
        image.get("split"),
        image["diagnosis"],
        image["archive"],
        image["lesion_id"],
    ]
    caption = ", ".join(str(fact) for fact in facts if pd.notna(fact))
    alt = html.escape(str(image["image"]), quote=True)
    source = f"data:image/jpeg;base64,{_jpeg(image['path'])}"
    escaped_caption = html.escape(caption)
    return (
        f'<figure><img alt="{alt}" src="{source}">'
        f"<figcaption>{escaped_caption}</figcaption></figure>"
    )


def _jpeg(path: str) -> str:
    """Return a thumbnail of an image file as base64."""
    pixels = read_image(path).pixels
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
