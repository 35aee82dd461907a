"""Draws the work list of stored images, and takes new files in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.errors import CadError
from cadlib.ui import background
from cadlib.ui.blind import draw_blind_first, hidden_images, is_blind_first
from cadlib.ui.case_store import case_store, reader, remember_stored
from cadlib.ui.held import let_go
from cadlib.ui.session import hold_image
from cadlib.ui.text import moment_text, plain
from cadlib.ui.work_table import work_table
from cadlib.ui.working import working

if TYPE_CHECKING:
    from cadlib.cases.records import FailedFile
    from cadlib.cases.store import CaseStore
    from cadlib.cases.work_list import Order
    from cadlib.model.record import ModelRecord

PAGE_SIZE = 20
MOST_FAILED = 50
ORDER_TEXTS: "dict[Order, str]" = {
    "risk": "Malignant probability",
    "uncertainty": "Uncertainty",
    "age": "Waiting time",
}
EMPTY = """
#### No stored images yet

Add files above, or store a case on the Diagnose page. Each file becomes a case; its name becomes
the pseudonym. **File names must not contain names or dates of birth.**
"""
INTAKE_STOPPED = "Stopped. The images listed below are stored; add the other files again."
_PAGE = "work-page"
_UPLOAD = "work-upload"


def stored_list(record: "ModelRecord | None") -> None:
    """Draw the whole work list; say why it cannot be shown."""
    store = case_store()
    if store is None:
        return
    try:
        _draw_intake(store)
        if record:
            _draw_assessment(store, record)
        _draw_list(store)
        _draw_failed_files(store)
    except CadError as error:
        st.error(plain(str(error)))


def _draw_intake(store: "CaseStore") -> None:
    """Draw the box for new files, or the progress of storing them."""
    if working(background.intake(), "Storing", stopped=INTAKE_STOPPED):
        return
    number = st.session_state.get(_UPLOAD, 0)
    uploads = st.file_uploader(
        "Add dermoscopic images, several hundred at once if you like",
        accept_multiple_files=True,
        key=f"{_UPLOAD}-{number}",
    )
    if not uploads:
        return
    files = [(upload.name, upload.getvalue()) for upload in uploads]
    background.take_in_files(store, files)
    # The job has the bytes now.
    let_go(uploads)
    # A new box is empty.
    st.session_state[_UPLOAD] = number + 1
    st.rerun()


def _draw_assessment(store: "CaseStore", record: "ModelRecord") -> None:
    """Assess what waits, and draw the progress and the images that failed."""
    from cadlib.cases import background as case_background  # noqa: PLC0415

    with store.read() as connection:
        n_waiting = len(case_background.waiting(connection, record.model_id))
        failed = case_background.failed(connection, record.model_id)
    job = background.assessment()
    # A job that failed or was stopped goes on only when the reader says so.
    may_start = job is None or job.state == "done"
    if n_waiting and may_start:
        job = background.assess_waiting(store, record)
    if working(job, "Assessing"):
        return
    if n_waiting:
        st.caption(f"{n_waiting:,} images wait for their assessment.")
        if st.button("Continue", key="assess", icon=":material/play_arrow:"):
            background.assess_waiting(store, record)
            st.rerun()
    if failed:
        with st.expander(
            f"Images that could not be assessed: {len(failed):,}", key="failed-images"
        ):
            for failure in failed[:MOST_FAILED]:
                st.caption(plain(f"{failure.pseudonym} · {failure.reason}"))
        if st.button("Try again", key="retry", icon=":material/refresh:"):
            background.assess_waiting(store, record, [failure.image_id for failure in failed])
            st.rerun()


@dataclass(frozen=True)
class _Filter:
    """Which images are listed, in which order: `total` of them."""

    text: str
    order: "Order"
    states: Sequence[str]
    total: int


def _draw_list(store: "CaseStore") -> None:
    """Draw the filters and the rows, and do what the reader asked for."""
    from cadlib.cases.records import STATES  # noqa: PLC0415
    from cadlib.cases.work_list import work_list  # noqa: PLC0415

    chosen = _draw_filter(store)
    if chosen is None:
        st.markdown(EMPTY)
        return
    pages = max(1, math.ceil(chosen.total / PAGE_SIZE))
    # A list that became shorter may not have the page that was shown.
    page = min(st.session_state.get(_PAGE, 1), pages)
    with store.read() as connection:
        items = work_list(
            connection,
            chosen.order,
            chosen.states,
            chosen.text,
            limit=PAGE_SIZE,
            offset=(page - 1) * PAGE_SIZE,
        )
    unit = "image" if chosen.total == 1 else "images"
    about = f"Page {page:,} of {pages:,} · {chosen.total:,} {unit}"
    hidden = hidden_images([item.image_id for item in items])
    asked = work_table(
        store,
        items,
        hidden,
        STATES,
        about,
        page=page,
        pages=pages,
    )
    if asked.page:
        st.session_state[_PAGE] = asked.page
        st.rerun()
    if asked.marked:
        _mark(store, *asked.marked)
    if asked.opened:
        _open(store, asked.opened)


def _draw_filter(store: "CaseStore") -> _Filter | None:
    """Draw the filters, and return what they select; None for an empty store."""
    from cadlib.cases.records import STATES  # noqa: PLC0415
    from cadlib.cases.work_list import count_by_state  # noqa: PLC0415

    draw_blind_first()
    text_place, order_place = st.columns([2, 1], vertical_alignment="bottom")
    text = text_place.text_input("Pseudonym", key="work-text", placeholder="all patients").strip()
    # An order by the result would tell the result.
    orders: list[Order] = ["age"] if is_blind_first() else list(ORDER_TEXTS)
    order = order_place.selectbox(
        "Sort by",
        orders,
        format_func=ORDER_TEXTS.__getitem__,
        key="work-order",
    )
    with store.read() as connection:
        counts = count_by_state(connection, text)
    if not sum(counts.values()) and not text:
        return None
    chosen = st.pills(
        "State",
        STATES,
        selection_mode="multi",
        default=None,
        # The counts follow the pseudonym.
        format_func=lambda state: f"{state} ({counts[state]:,})",
        key="work-states",
    )
    # Nothing selected means no filter.
    states = chosen or STATES
    total = sum(counts[state] for state in states)
    return _Filter(
        text=text,
        order=order,
        states=states,
        total=total,
    )


def _mark(store: "CaseStore", image_id: str, state: str) -> None:
    """Set the state of an image, and draw the list again."""
    from cadlib.cases import queries  # noqa: PLC0415

    with store.write(reader()) as cases:
        image = queries.image(cases.connection, image_id)
        cases.set_state(image, state)
    st.rerun()


def _open(store: "CaseStore", image_id: str) -> None:
    """Show a stored image on the Diagnose page."""
    from cadlib.cases import queries  # noqa: PLC0415

    with store.write(reader()) as cases:
        stored = queries.case_file(cases.connection, image_id)
        # Who looked at which case belongs into the log.
        cases.log("view image", "images", image_id)
    # Two lesions of a patient are two cases of this session.
    name = f"{stored.patient.details.pseudonym} · {stored.lesion.details.label}"
    key = hold_image(store.lesion_image(stored.image), name)
    remember_stored(key, image_id)
    st.switch_page("pages/diagnose.py")


def _draw_failed_files(store: "CaseStore") -> None:
    """Draw the files that could not be read, with their reasons."""
    from cadlib.cases import queries  # noqa: PLC0415

    with store.read() as connection:
        files = queries.failed_files(connection)
    if not files:
        return
    with st.expander(f"Files that could not be read: {len(files):,}", key="failed-files"):
        st.caption("Their content is not stored. Correct a file and add it again.")
        for line in _failed_lines(files[:MOST_FAILED]):
            st.caption(line)


def _failed_lines(files: "Sequence[FailedFile]") -> list[str]:
    """Return a line for each file."""
    lines = []
    for file in files:
        moment = moment_text(file.recorded_at)
        lines.append(plain(f"{file.file_name} · {moment} · {file.reason}"))
    return lines
