"""Stores and assesses dropped files in the background."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import streamlit as st

from cadlib import jobs
from cadlib.jobs import Job
from cadlib.model.record import ModelRecord
from cadlib.progress import Progress
from cadlib.ui.case_store import reader, today
from cadlib.ui.clinic import operating_point
from cadlib.ui.models import model_beside

if TYPE_CHECKING:
    from cadlib.cases.store import CaseStore

_ASSESSMENT = "work-list"
_INTAKE = "intake"
"""Key of the id of the job that stores the files of this session."""


def take_in_files(store: "CaseStore", files: Sequence[tuple[str, bytes]]) -> None:
    """Start to store dropped files as new cases."""
    actor = reader()

    def work(progress: Progress) -> object:
        from cadlib.cases.intake import take_in  # noqa: PLC0415

        return take_in(store, files, today(), actor, progress)

    # Each drop is a job of its own, so that a second one is not lost in the first.
    key = f"intake {uuid4().hex}"
    st.session_state[_INTAKE] = key
    jobs.start(key, work)


def intake() -> Job | None:
    """Return the job that stores the last files of this session."""
    return jobs.find(st.session_state.get(_INTAKE, ""))


def assess_waiting(store: "CaseStore", record: ModelRecord, retry: Sequence[str] = ()) -> Job:
    """Start to assess all images that wait, unless it is going on; return the job.

    `retry` are the ids of images that failed before.
    """
    point = operating_point(record)

    def work(progress: Progress) -> int:
        from cadlib.cases import background  # noqa: PLC0415

        with store.read() as connection:
            waiting = background.waiting(connection, record.model_id)
        image_ids = [*retry, *waiting]
        # Loaded for this work alone, so that pages need not wait for its threads.
        model = model_beside(record.name, record.model_id)
        return background.assess_images(store, model, point, image_ids, progress)

    return jobs.start(_ASSESSMENT, work)


def assessment() -> Job | None:
    """Return the job that assesses images, of any session."""
    return jobs.find(_ASSESSMENT)
