"""Pictures in pages of tiles. The browser has the next page before it is turned to, so that no turn waits for one."""

import base64
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
_HTML, _CSS, _JS = (
    (_HERE / f"tiles.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
)


class Tile(NamedTuple):
    """A picture: its id, its file, the code of its diagnosis (any other text for none), and the words under it."""

    image: str
    path: str
    code: str
    label: str


@dataclass(frozen=True)
class Pages:
    """`count` tiles in pages of `size`; `tiles` returns those from one place to before another.

    `of` is another text for other tiles: the browser keeps the pages that it has by it. `about` stands above them.
    """

    count: int
    tiles: Callable[[int, int], Iterable[Tile]]
    about: str
    of: str
    size: int = 24

    def __len__(self) -> int:
        """Return how many pages there are, at least one."""
        return max(1, -(-self.count // self.size))

    def __getitem__(self, number: int) -> list[Tile]:
        """Return the tiles of a page, numbered from 1; the last one may have fewer, those after it none."""
        return list(self.tiles((number - 1) * self.size, min(self.count, number * self.size)))


def tiles(pages: Pages, key: str) -> str | None:
    """Draw tiles; return the image that was clicked just now, if any. A file without a picture has the reason for one.

    Call it in a fragment: it is run again for each page that the browser lacks.
    """
    last = f"{key}-last"  # Streamlit drops the state of what another view hides for a while
    wants = (st.session_state.get(key) or {}).get("wants") or st.session_state.get(last)
    number, shown = _wanted(wants, pages)
    st.session_state[last] = {"of": pages.of, "page": shown, "shown": shown}
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
    for ahead in pages[number + 1] if number else ():
        threads().submit(_picture, ahead.path)  # made while the reader looks at this page
    opened: str | None = mounted.opened
    return opened


def _wanted(wants: Any, pages: Pages) -> tuple[int | None, int]:
    """Return the page that the browser lacks, None for none, and the one that it shows; what it says is checked."""
    if not isinstance(wants, Mapping) or wants.get("of") != pages.of:
        return 1, 1
    number, shown = (
        place if isinstance(place, int) and 1 <= place <= len(pages) else None
        for place in (wants.get("page"), wants.get("shown"))
    )
    return number, shown or 1


def _drawn(rows: list[Tile]) -> list[dict[str, str]]:
    pictures = threads().map(_picture, [row.path for row in rows])
    return [
        {
            "image": row.image,
            "sign": sign(row.code),
            "hue": hue(row.code),
            "label": row.label,
            "alt": f"{row.image}, {row.code}",
            **picture,
        }
        for row, picture in zip(rows, pictures, strict=True)
    ]


def _picture(path: str) -> dict[str, str]:
    """Return the thumbnail of a file as a URL, or the reason why there is none."""
    try:
        return {
            "picture": f"data:image/jpeg;base64,{base64.b64encode(thumbnail(Path(path))).decode()}"
        }
    except (ImageRejected, OSError) as error:
        return {"why": str(error)}


_mount = st.components.v2.component(
    "cadlib-tiles", html=_HTML, css=_CSS, js=_JS, isolate_styles=False
)
