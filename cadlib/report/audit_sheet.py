"""The audit's pictures side by side, as one HTML file that needs no other: what a person has to look at."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.duplicates import Duplicates
from cadlib.images import read_image

if TYPE_CHECKING:  # a sheet of a data set alone needs no torch
    from cadlib.evaluation.leak_audit import SplitAudit

MAX_CARDS = 40
"""Pairs or groups shown in a section; a picture takes about 5 kB."""
MAX_PICTURES = 8
PICTURE_PX = 144

WARNING = (
    "This file holds images of the data set. Their licence binds it too: keep it where the data set is, "
    "and do not pass it on."
)
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; color: #1a1a1a; }
.warning { border: 2px solid #b45309; border-radius: 6px; padding: .6rem 1rem; font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
.card { border: 1px solid #d4d4d4; border-radius: 6px; padding: .6rem; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; }
figure { margin: 0; width: 144px; overflow-wrap: anywhere; }
"""


def render(duplicates: Duplicates, split: "SplitAudit | None" = None) -> str:
    """Return the sheet of a data set, with the pairs across a model's splits where its audit is given.

    Raise ImageRejected for an image that can no longer be read.
    """
    title = f"Audit of {duplicates.name}" + (f" and the split of {split.model_id}" if split else "")
    sections = [*(_pairs(split) if split else ()), *_contradictions(duplicates)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n"
        f'<p class="warning">{html.escape(WARNING)}</p>\n'
        f"<pre>{html.escape(str(split or duplicates))}</pre>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _pairs(split: "SplitAudit") -> Iterator[str]:
    sections = {
        "Pairs that leak": split.leaking_pairs,
        "Nearest across splits by the model's features": split.nearest("cosine", MAX_CARDS),
        "Nearest across splits by the detail of their pixels": split.nearest("likeness", MAX_CARDS),
    }
    for title, pairs in sections.items():
        yield _section(title, len(pairs), _pair_cards(split.table, pairs.head(MAX_CARDS)))


def _pair_cards(table: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    columns = (pairs[name] for name in ("left", "right", "bits", "cosine", "likeness"))
    for left, right, bits, cosine, likeness in zip(*columns, strict=True):
        caption = f"cosine {cosine:.3f}, likeness {likeness:.3f}, {bits} bits of the hash differ"
        yield _card(table, (left, right), caption)


def _contradictions(duplicates: Duplicates) -> Iterator[str]:
    for kind in CONTRADICTIONS:
        groups = duplicates.contradictions(kind)
        cards = (
            _card(duplicates.table, rows[:MAX_PICTURES].tolist(), f"{len(rows):,} images")
            for rows in groups[:MAX_CARDS]
        )
        yield _section(f"Labels that contradict each other: {kind}", len(groups), cards)


def _section(title: str, count: int, cards: Iterator[str]) -> str:
    shown = "" if count <= MAX_CARDS else f", the first {MAX_CARDS} of them"
    return f'<h2>{html.escape(title)}</h2>\n<p>{count:,}{shown}</p>\n<div class="cards">{"".join(cards)}</div>'


def _card(table: pd.DataFrame, rows: Sequence[int], caption: str) -> str:
    figures = "".join(_figure(table.iloc[row]) for row in rows)
    return f'<div class="card"><div class="pictures">{figures}</div><p>{html.escape(caption)}</p></div>'


def _figure(image: "pd.Series[str]") -> str:
    facts = [
        image["image"],
        image.get("split"),
        image["diagnosis"],
        image["archive"],
        image["lesion_id"],
    ]
    said = ", ".join(str(fact) for fact in facts if pd.notna(fact))
    alt = html.escape(str(image["image"]), quote=True)
    picture = f'<img alt="{alt}" src="data:image/jpeg;base64,{_jpeg(image["path"])}">'
    return f"<figure>{picture}<figcaption>{html.escape(said)}</figcaption></figure>"


def _jpeg(path: str) -> str:
    picture = Image.fromarray(read_image(path).pixels)
    picture.thumbnail((PICTURE_PX, PICTURE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
