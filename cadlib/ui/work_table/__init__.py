"""Draws the work list as a table that keys control."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from cadlib.errors import CadError
from cadlib.images.thumbnails import shrunk
from cadlib.metrics.operating_point import two_digits
from cadlib.taxonomy import diagnosis
from cadlib.ui.text import hue, moment_text

if TYPE_CHECKING:
    from cadlib.cases.store import CaseStore
    from cadlib.cases.work_list import WorkItem

_HERE = Path(__file__).parent
_PICTURE_PX = 112
WAITING = "waiting for its assessment"
NOT_READ = "hidden until you have read it"


@dataclass(frozen=True)
class Asked:
    """What a reader asked for in the table just now; None for each other thing.

    `opened` is the id of an image, `marked` an image and its new state, `page` another page.
    """

    opened: str | None = None
    marked: tuple[str, str] | None = None
    page: int | None = None


def work_table(
    store: "CaseStore",
    items: "Sequence[WorkItem]",
    hidden: Collection[str],
    states: Sequence[str],
    about: str,
    *,
    page: int,
    pages: int,
) -> Asked:
    """Draw images as rows; return what the reader asked for.

    `hidden` are the images whose results this reader must not see yet. `about` stands between the
    buttons of the pages, which are numbered from 1.
    """
    mounted = _mount(
        key="work-table",
        data={
            "rows": [_row(store, item, hidden) for item in items],
            "states": list(states),
            "about": about,
            "page": page,
            "pages": pages,
        },
        on_opened_change=lambda: None,
        on_marked_change=lambda: None,
        on_turned_change=lambda: None,
    )
    shown = {item.image_id for item in items}
    return _checked(mounted, shown, states, pages)


def _checked(mounted: Any, shown: set[str], states: Sequence[str], pages: int) -> Asked:
    """Return what the browser sent, if it is possible."""
    # The browser can send anything, also what a former list had.
    opened = mounted.opened
    if isinstance(opened, str) and opened in shown:
        return Asked(opened=opened)
    marked = mounted.marked
    if isinstance(marked, Mapping):
        image = marked.get("image")
        state = marked.get("state")
        if image in shown and state in states:
            return Asked(marked=(str(image), str(state)))
    turned = mounted.turned
    if isinstance(turned, int) and 1 <= turned <= pages:
        return Asked(page=turned)
    return Asked()


def _row(store: "CaseStore", item: "WorkItem", hidden: Collection[str]) -> dict[str, Any]:
    """Return the values of a row for the browser."""
    site = f", {item.site}" if item.site else ""
    row = {
        "image": item.image_id,
        "picture": _picture(store, item.sha256),
        "patient": item.pseudonym,
        "lesion": f"{item.label}{site}",
        "state": item.state,
        "added": moment_text(item.added_at),
        "probability": None,
        "risk_text": WAITING,
        "hue": "gray",
        "diagnosis": "",
        "doubt": "",
    }
    # An image that waits has no result.
    if item.image_id in hidden:
        # Not in the browser either.
        return row | {"risk_text": NOT_READ}
    if item.diagnosis is None or item.malignant_probability is None:
        return row
    return row | _assessed(item, item.diagnosis, item.malignant_probability)


def _assessed(item: "WorkItem", code: str, probability: float) -> dict[str, Any]:
    """Return the values of a result for the browser."""
    of = diagnosis(code)
    return {
        "risk_text": two_digits(probability),
        "probability": probability,
        "low": item.malignant_low,
        "high": item.malignant_high,
        "threshold": item.threshold,
        # The colour shows the decision; the mark of the diagnosis needs no colour.
        "hue": hue("MEL" if item.action == "refer" else "NV"),
        "diagnosis": f"{of.mark} {of.name}",
        "doubt": _doubt(item),
    }


def _doubt(item: "WorkItem") -> str:
    """Return what speaks against relying on the result; empty if nothing does."""
    if not item.interpretable:
        return "no reliable result: open the case"
    if item.borderline:
        return "borderline: the networks disagree"
    return ""


def _picture(store: "CaseStore", sha256: str) -> str:
    """Return a small JPEG as a URL; empty if the image cannot be read, which opening it reports."""
    jpeg = stored_thumbnail(store, sha256, _PICTURE_PX)
    if not jpeg:
        return ""
    text = base64.b64encode(jpeg).decode()
    return f"data:image/jpeg;base64,{text}"


def stored_thumbnail(store: "CaseStore", sha256: str, side_px: int) -> bytes:
    """Return a stored image as a small JPEG; empty if it cannot be read."""
    try:
        return _small(store.images.address, sha256, side_px, store)
    except CadError:
        return b""


# A stored file never changes: its name is its hash. A thousand of them take 4 MB.
@st.cache_data(max_entries=1000, show_spinner=False)
def _small(address: str, sha256: str, side_px: int, _store: "CaseStore") -> bytes:  # noqa: ARG001
    from cadlib.cases.image_store import decode  # noqa: PLC0415
    from cadlib.images import LesionImage  # noqa: PLC0415

    pixels = decode(_store.images.read(sha256))
    return shrunk(LesionImage(pixels, sha256, "PNG"), side_px)


_mount = st.components.v2.component(
    "cadlib-work-table",
    html=(_HERE / "work_table.html").read_text(encoding="utf-8"),
    css=(_HERE / "work_table.css").read_text(encoding="utf-8"),
    js=(_HERE / "work_table.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)
