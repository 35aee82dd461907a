"""Holds the images of a session and their results."""

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
from cadlib.images import LesionImage, read_image
from cadlib.images.patient import NO_FACTS, PatientFacts
from cadlib.images.synthetic import demo_lesions
from cadlib.model.record import ModelRecord
from cadlib.ui.blind import hidden_cases
from cadlib.ui.clinic import operating_point
from cadlib.ui.held import holding, let_go
from cadlib.ui.image_views import assessed
from cadlib.ui.lost import hide_loss_warning, tab
from cadlib.ui.models import model
from cadlib.ui.text import plain

MAX_CASES = 50

# Streamlit's uploader takes no paste. This passes a pasted image to its input, as if it had been
# selected.
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
        short = self.key[:8]
        if self.assessment and self.assessment.image.red_blue_swapped:
            return f"{short}-swapped"
        return short

    @property
    def risk(self) -> float:
        """Return the malignant probability, -1 for a file that could not be read."""
        if not self.assessment:
            return -1.0
        return self.assessment.prediction.malignant_probability


def accept_paste() -> None:
    """Let an image pasted anywhere on the page arrive in the uploader of the container "upload"."""
    st.html(_PASTE, unsafe_allow_javascript=True)


def upload_key() -> str:
    """Return the key of the uploader; each session and batch has a new one, which empties it."""
    session = tab()
    batch = st.session_state.get("batch", 0)
    return f"upload-{session}-{batch}"


def take(files: Sequence[tuple[str, bytes]], uploads: Sequence[UploadedFile] = ()) -> NoReturn:
    """Assess files, (name, bytes), and show the progress.

    A file that fails is held with its reason. `uploads` are dropped from Streamlit's memory
    when all files are read.
    """
    held: dict[str, Case] = st.session_state.setdefault("cases", {})
    by_key = {}
    for name, data in files:
        # A file that is among them twice has one key.
        key = _key_of(name, data)
        by_key[key] = (name, data)
    _read_new(by_key, held)
    let_go(uploads)
    hide_loss_warning()
    # Of the new files, the one with the highest malignant probability is shown. Among those whose
    # results are hidden, it is the first.
    hidden = hidden_cases(list(by_key))
    highest = max(by_key, key=lambda key: -1.0 if key in hidden else held[key].risk)
    choose(highest)
    # The next batch gets a new uploader, which is empty.
    batch = st.session_state.get("batch", 0)
    st.session_state["batch"] = batch + 1
    st.rerun()


def hold_image(image: LesionImage, name: str) -> str:
    """Assess an image that was read before, make it the current case, and return its key.

    Raise HoldingFull where the session may hold no more.
    """
    held: dict[str, Case] = st.session_state.setdefault("cases", {})
    key = _key_of(name, image.key.encode())
    if not _is_assessed(key, held):
        try:
            _check_number(held)
            holding().take(key, image.pixels.nbytes)
            held[key] = Case(key, name, assessed(image))
        except CadError:
            holding().drop(key)
            raise
    choose(key)
    return key


def cases(current: ModelRecord) -> list[Case]:
    """Return the files of this session, highest malignant probability first, unreadable ones last.

    Those whose results are hidden from this reader come last, in the order in which they were
    added. Results are for the clinic's operating point and for the patient data entered so far.
    """
    held: dict[str, Case] = st.session_state.get("cases", {})
    # A list, because cases are removed in the loop.
    for case in list(held.values()):
        if not case.assessment:
            continue
        if case.assessment.prediction.model_id != current.model_id:
            # Its model was replaced. The image can be added again.
            _free(case)
            del held[case.key]
    updated = [_updated(case, current) for case in held.values()]
    hidden = hidden_cases([case.key for case in updated])
    # The order must not tell what is hidden.
    return sorted(updated, key=lambda case: 2.0 if case.key in hidden else -case.risk)


def chosen_case(ranked: Sequence[Case]) -> Case | None:
    """Return the selected one of `ranked`, else its first; None when there is none."""
    chosen = st.session_state.get("chosen")
    for case in ranked:
        if case.key == chosen:
            return case
    if not ranked:
        return None
    return ranked[0]


def choose(key: str) -> None:
    """Make the case of this key the current one, for this page and the next.

    The argument is a key, because Streamlit keeps the arguments of a button longer than the button.
    """
    st.session_state["chosen"] = key


def facts_of(case: Case) -> PatientFacts:
    """Return the patient data that the reader entered, until then those of the file's header."""
    entered: dict[str, PatientFacts] = st.session_state.get("facts", {})
    if case.key in entered:
        return entered[case.key]
    assessment = case.assessment
    if assessment:
        return assessment.image.facts
    return NO_FACTS


def remember_facts(key: str, facts: PatientFacts) -> None:
    """Hold the patient data that the reader entered for the case of this key."""
    entered = st.session_state.setdefault("facts", {})
    entered[key] = facts


def remove(*keys: str) -> None:
    """Remove the cases of these keys, with all that was derived from their images.

    The arguments are keys for the same reason as in `choose`.
    """
    held: dict[str, Case] = st.session_state.get("cases", {})
    entered = st.session_state.get("facts", {})
    for key in keys:
        if key in held:
            _free(held.pop(key))
        entered.pop(key, None)


def next_synthetic(ranked: Sequence[Case]) -> tuple[str, bytes]:
    """Return name and bytes of the first synthetic lesion that is not among these cases."""
    names = {case.name for case in ranked}
    lesions = demo_lesions()
    for lesion in lesions:
        name = f"{lesion.name}.png"
        if name not in names:
            return name, lesion.png()
    # All of them are among the cases, so the first one comes again.
    first = lesions[0]
    return f"{first.name}.png", first.png()


def cases_csv(ranked: Sequence[Case]) -> str:
    """Return the cases as CSV, in the columns of `python -m cadlib predict --format csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for case in ranked:
        row = csv_row(case.name, case.assessment or case.reason)
        writer.writerow(row)
    return text.getvalue()


def cases_json(ranked: Sequence[Case]) -> str:
    """Return the cases as JSON, as `python -m cadlib predict --format json` does."""
    rows = []
    for case in ranked:
        row = json_row(case.name, case.assessment or case.reason)
        rows.append(row)
    return json.dumps(rows, indent=2, ensure_ascii=False)


def _key_of(name: str, data: bytes) -> str:
    """Return the key of a file: one with another name or other bytes is another case."""
    # The zero separates: no name can end with it.
    content = name.encode() + b"\0" + data
    return hashlib.sha256(content).hexdigest()


def _read_new(by_key: dict[str, tuple[str, bytes]], held: dict[str, Case]) -> None:
    """Read the files that are not held yet, (name, bytes) by key, and show the progress."""
    # A file that failed before is read again: there may be room for it now.
    new = [key for key in by_key if not _is_assessed(key, held)]
    total = len(new)
    bar = st.progress(0.0, "Reading …")
    began = time.monotonic()
    for done, key in enumerate(new):
        name, data = by_key[key]
        left = _time_left(began, done, total)
        share = done / total
        bar.progress(share, f"Reading {done + 1} of {total}{left}: {plain(name)}")
        held[key] = _read_case(key, name, data, held)


def _is_assessed(key: str, held: dict[str, Case]) -> bool:
    """Return whether a file is held with a result."""
    return key in held and held[key].assessment is not None


def _time_left(began: float, done: int, total: int) -> str:
    """Return how long the remaining files will take, "" before there is an estimate."""
    if not done:
        return ""
    elapsed_s = time.monotonic() - began
    per_file_s = elapsed_s / done
    n_left = total - done
    left_s = per_file_s * n_left
    return f", about {left_s:.0f} s left"


def _updated(case: Case, record: ModelRecord) -> Case:
    """Return a case with its result for the current operating point and patient data."""
    former = case.assessment
    if not former:
        return case
    # A model of images alone takes no patient data.
    facts = facts_of(case) if record.evidence else None
    loaded = model()
    point = operating_point(record)
    assessment = reconsider(loaded, former, point, facts)
    return replace(case, assessment=assessment)


def _read_case(key: str, name: str, data: bytes, held: dict[str, Case]) -> Case:
    """Assess one file; a file that fails is a case with the reason."""
    try:
        _check_number(held)
        image = read_image(data)
        # Counted first, so that an image over the limit is not assessed.
        holding().take(key, image.pixels.nbytes)
        return Case(key, name, assessed(image))
    except CadError as error:
        # The image is not held, so its bytes must not be counted.
        holding().drop(key)
        return Case(key, name, None, str(error))


def _check_number(held: dict[str, Case]) -> None:
    """Raise ImageRejected if the session holds as many images as it may."""
    n_assessed = sum(_is_assessed(other, held) for other in held)
    # Only images with a result count: a file that failed takes little memory.
    if n_assessed >= MAX_CASES:
        raise ImageRejected(
            f"Expected at most {MAX_CASES} images at a time. Remove some, then add this file again."
        )


def _free(case: Case) -> None:
    """Remove the image of a case from memory, and all that was derived from it."""
    held = holding()
    held.drop(case.key)
    if case.assessment:
        image = case.assessment.image
        held.forget(image.sha256)
