"""The pictures of this session: taken in, assessed, ranked, chosen and written out; gone when the tab is closed."""

import csv
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from cadlib.assessment import CSV_COLUMNS, Assessment, csv_row, json_row, reconsider
from cadlib.errors import CadError, ImageRejected
from cadlib.images import read_image
from cadlib.images.patient import NO_FACTS, PatientFacts
from cadlib.images.synthetic import demo_lesions
from cadlib.model.record import ModelRecord
from cadlib.ui.clinic import operating_point
from cadlib.ui.held import holding, let_go
from cadlib.ui.lost import found_again, tab
from cadlib.ui.models import model
from cadlib.ui.pictures import assessed
from cadlib.ui.text import plain

MAX_CASES = 50

# Streamlit's uploader takes no paste. This hands a pasted picture to its input, as if it had been chosen.
_PASTE = """<script>
if (!window.cadlibPaste) {
  window.cadlibPaste = true;
  document.addEventListener("paste", (event) => {
    const input = document.querySelector(".st-key-upload input[type=file]");
    if (!input || !event.clipboardData || !event.clipboardData.files.length) return;
    event.preventDefault();
    input.files = event.clipboardData.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
</script>"""


@dataclass(frozen=True, eq=False)
class Case:
    """One file of this session: its assessment, or the reason why there is none."""

    key: str
    name: str
    assessment: Assessment | None
    reason: str = ""

    @property
    def view_key(self) -> str:
        """Return a short name for the widgets of this image; swapped channels are another image."""
        swapped = self.assessment is not None and self.assessment.image.red_blue_swapped
        return f"{self.key[:8]}-swapped" if swapped else self.key[:8]

    @property
    def risk(self) -> float:
        """Return the malignant probability, -1 for a file that could not be read."""
        return self.assessment.prediction.malignant_probability if self.assessment else -1.0


def accept_paste() -> None:
    """Let a picture pasted anywhere on the page arrive in the uploader of the container "upload"."""
    st.html(_PASTE, unsafe_allow_javascript=True)


def upload_key() -> str:
    """Return the key of the uploader; each session and each batch taken in gives it a new one, which empties it."""
    return f"upload-{tab()}-{st.session_state.get('batch', 0)}"


def take(files: Sequence[tuple[str, bytes]], uploads: Sequence[UploadedFile] = ()) -> NoReturn:
    """Assess files given as (name, bytes), showing how far it is; one that fails is held with its reason.

    `uploads` are let go of once all is read.
    """
    held: dict[str, Case] = st.session_state.setdefault("cases", {})
    given = {
        hashlib.sha256(name.encode() + b"\0" + data).hexdigest(): (name, data)
        for name, data in files
    }
    new = [key for key in given if key not in held or not held[key].assessment]
    bar, began = st.progress(0.0, "Reading …"), time.monotonic()
    for done, key in enumerate(new):
        name, data = given[key]
        left = (
            f", about {(time.monotonic() - began) / done * (len(new) - done):.0f} s left"
            if done
            else ""
        )
        bar.progress(done / len(new), f"Reading {done + 1} of {len(new)}{left}: {plain(name)}")
        held[key] = _read_case(key, name, data, held)
    let_go(uploads)
    found_again()
    choose(max(given, key=lambda key: held[key].risk))
    st.session_state["batch"] = st.session_state.get("batch", 0) + 1
    st.rerun()


def cases(current: ModelRecord) -> list[Case]:
    """Return the files of this session, the highest risk first and the unreadable last.

    They are as the clinic's operating point, and what is known of their patients, make them.
    """
    held: dict[str, Case] = st.session_state.get("cases", {})
    for case in list(held.values()):
        if case.assessment and case.assessment.prediction.model_id != current.model_id:
            _free(case)
            del held[case.key]  # of a model that has been replaced; the picture can be given again
    return sorted((_as_known(case, current) for case in held.values()), key=lambda case: -case.risk)


def chosen_case(ranked: Sequence[Case]) -> Case | None:
    """Return the chosen one of `ranked`, else its first; None when there is none."""
    chosen = st.session_state.get("chosen")
    return next((case for case in ranked if case.key == chosen), ranked[0] if ranked else None)


def choose(key: str) -> None:
    """Make the case of this key the current one, for this page and the next.

    A key, because Streamlit keeps what a button was given longer than the button.
    """
    st.session_state["chosen"] = key


def facts_of(case: Case) -> PatientFacts:
    """Return what the reader said of a picture's patient, until then what the file's header says."""
    said: dict[str, PatientFacts] = st.session_state.get("facts", {})
    return said.get(case.key, case.assessment.image.facts if case.assessment else NO_FACTS)


def know(key: str, facts: PatientFacts) -> None:
    """Hold what the reader said of the patient of the case of this key."""
    st.session_state.setdefault("facts", {})[key] = facts


def remove(*keys: str) -> None:
    """Forget the cases of these keys, with all that was derived from their images. Keys, as in `choose`."""
    held: dict[str, Case] = st.session_state.get("cases", {})
    for key in keys:
        if key in held:
            _free(held.pop(key))
        st.session_state.get("facts", {}).pop(key, None)


def _free(case: Case) -> None:
    holding().drop(case.key)
    if case.assessment:
        holding().forget(case.assessment.image.sha256)


def next_synthetic(ranked: Sequence[Case]) -> tuple[str, bytes]:
    """Return name and bytes of the first drawn lesion that is not among these cases."""
    names = {case.name for case in ranked}
    lesions = demo_lesions()
    lesion = next((one for one in lesions if f"{one.name}.png" not in names), lesions[0])
    return f"{lesion.name}.png", lesion.png()


def cases_csv(ranked: Sequence[Case]) -> str:
    """Return the cases as CSV, in the columns of `python -m cadlib predict --format csv`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    rows.writerows(csv_row(case.name, case.assessment or case.reason) for case in ranked)
    return text.getvalue()


def cases_json(ranked: Sequence[Case]) -> str:
    """Return the cases as JSON, as `python -m cadlib predict --format json` does."""
    found = [json_row(case.name, case.assessment or case.reason) for case in ranked]
    return json.dumps(found, indent=2, ensure_ascii=False)


def _as_known(case: Case, record: ModelRecord) -> Case:
    if not case.assessment:
        return case
    facts = facts_of(case) if record.evidence else None
    return replace(
        case, assessment=reconsider(model(), case.assessment, operating_point(record), facts)
    )


def _read_case(key: str, name: str, data: bytes, held: dict[str, Case]) -> Case:
    try:
        if sum(case.assessment is not None for case in held.values()) >= MAX_CASES:
            raise ImageRejected(
                f"Expected at most {MAX_CASES} images at a time. Remove some, then add this file again."
            )
        image = read_image(data)
        holding().take(key, image.pixels.nbytes)
        return Case(key, name, assessed(image))
    except CadError as error:
        holding().drop(key)
        return Case(key, name, None, str(error))
