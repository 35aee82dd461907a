"""Draws images in pages of tiles.

The browser loads the next page early, so that nobody waits for it.
"""

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from cadlib.errors import ImageRejected
from cadlib.images.thumbnails import thumbnail
from cadlib.thread_pool import threads
from cadlib.ui.text import hue, sign

_HERE = Path(__file__).parent


class Tile(NamedTuple):
    """An image: its id, its file, the code of its diagnosis (other text for none), and its text."""

    image: str
    path: str
    code: str
    label: str


@dataclass(frozen=True)
class Pages:
    """`count` tiles in pages of `size`; `tiles` returns those from one place to before another.

    `of` is another text for other tiles: the browser caches its pages by it. `about` stands above
    them.
    """

    count: int
    tiles: Callable[[int, int], Iterable[Tile]]
    about: str
    of: str
    size: int = 24

    def __len__(self) -> int:
        """Return how many pages there are, at least one."""
        full_or_begun = math.ceil(self.count / self.size)
        return max(1, full_or_begun)

    def __getitem__(self, number: int) -> list[Tile]:
        """Return the tiles of a page, numbered from 1; pages after the last one are empty."""
        end = min(self.count, number * self.size)
        first = (number - 1) * self.size
        return list(self.tiles(first, end))


def tiles(pages: Pages, key: str) -> str | None:
    """Draw tiles; return the image that was clicked just now, if any.

    A file without an image has the reason instead. Call it in a fragment: it runs again for each
    page that the browser does not have.
    """
    # A copy of the state, because Streamlit drops that of a widget which another view hides.
    copy_key = f"{key}-last"
    state = st.session_state.get(key) or {}
    wants = state.get("wants") or st.session_state.get(copy_key)
    number, shown = _wanted(wants, pages)
    st.session_state[copy_key] = {"of": pages.of, "page": shown, "shown": shown}
    mounted = _mount(
        key=key,
        data={
            "of": pages.of,
            "pages": len(pages),
            "page": number,
            "shown": shown,
            "tiles": _drawn(pages[number]) if number else [],
            "about": pages.about,
        },
        on_wants_change=lambda: None,
        on_opened_change=lambda: None,
    )
    if number:
        # The thumbnails of the next page are made while the reader looks at this one.
        for tile in pages[number + 1]:
            threads().submit(_picture, tile.path)
    opened: str | None = mounted.opened
    return opened


def _wanted(wants: Any, pages: Pages) -> tuple[int | None, int]:
    """Return the page that the browser does not have, None for none, and the one that it shows.

    The state comes from the browser, so it is checked.
    """
    if not isinstance(wants, Mapping) or wants.get("of") != pages.of:
        return 1, 1
    number = _page_number(wants.get("page"), pages)
    shown = _page_number(wants.get("shown"), pages)
    return number, shown or 1


def _page_number(value: Any, pages: Pages) -> int | None:
    """Return a value of the browser if it is the number of a page, else None."""
    if not isinstance(value, int):
        return None
    if 1 <= value <= len(pages):
        return value
    return None


def _drawn(rows: list[Tile]) -> list[dict[str, str]]:
    pictures = threads().map(_picture, [row.path for row in rows])
    drawn = []
    for row, picture in zip(rows, pictures, strict=True):
        tile = {
            "image": row.image,
            "sign": sign(row.code),
            "hue": hue(row.code),
            "label": row.label,
            "alt": f"{row.image}, {row.code}",
            **picture,
        }
        drawn.append(tile)
    return drawn


def _picture(path: str) -> dict[str, str]:
    """Return the thumbnail of a file as a URL, or the reason why there is none."""
    try:
        jpeg = thumbnail(Path(path))
    except (ImageRejected, OSError) as error:
        return {"why": str(error)}
    text = base64.b64encode(jpeg).decode()
    url = f"data:image/jpeg;base64,{text}"
    return {"picture": url}


_mount = st.components.v2.component(
    "cadlib-tiles",
    html=(_HERE / "tiles.html").read_text(encoding="utf-8"),
    css=(_HERE / "tiles.css").read_text(encoding="utf-8"),
    js=(_HERE / "tiles.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)
