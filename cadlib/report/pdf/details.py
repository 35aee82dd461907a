"""Defines what a caller adds to a PDF report, and checks it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from cadlib.assessment import Assessment
from cadlib.cases.records import (
    LEAST_CONFIDENT,
    MANAGEMENTS,
    MOST_CONFIDENT,
    MOST_NOTE_CHARACTERS,
    OTHER,
    RESPONSES,
    STAGES,
)
from cadlib.errors import ReportRejected
from cadlib.model.record import ModelRecord
from cadlib.saliency.heatmap import METHODS, Heatmap
from cadlib.saliency.trust import Trust
from cadlib.taxonomy import CODES

Paper = Literal["A4", "Letter"]
PAPERS: tuple[Paper, ...] = ("A4", "Letter")
MOST_NAME_CHARACTERS = 100
"""Of a pseudonym, a label, a site or a reader: as code points they still fit on a page."""


@dataclass(frozen=True)
class ReportedPatient:
    """The patient and the lesion of a report; None or empty for what is not set.

    `pseudonym` must not be the patient's name in the clinic's own list. Raise ReportRejected for a
    text of several lines or of more than MOST_NAME_CHARACTERS characters.
    """

    pseudonym: str | None = None
    lesion: str | None = None
    site: str | None = None
    visit: date | None = None

    def __post_init__(self) -> None:
        _check_name("a pseudonym", self.pseudonym)
        _check_name("a label of the lesion", self.lesion)
        _check_name("a site", self.site)


@dataclass(frozen=True)
class ReportedReading:
    """A reader's verdict on the image. It is preliminary until `signed_at`, in any time zone.

    `diagnosis` is one of the eight codes, or UNK for any other. `management`, `confidence` (1 to
    5), `stage` and `response` are those of `cadlib.cases.records.ReadingDetails`. Raise
    ReportRejected for anything else.
    """

    reader: str
    diagnosis: str
    management: str
    confidence: int
    stage: str
    response: str | None = None
    reason: str = ""
    signed_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_name("a reader", self.reader)
        if not self.reader.strip():
            raise ReportRejected("Expected the name of the reader, but got none. Enter it.")
        _check_choice("a diagnosis", self.diagnosis, (*CODES, OTHER))
        _check_choice("a management", self.management, MANAGEMENTS)
        _check_choice("a stage", self.stage, STAGES)
        if self.response is not None:
            _check_choice("a response to the result", self.response, RESPONSES)
        levels = range(LEAST_CONFIDENT, MOST_CONFIDENT + 1)
        if self.confidence not in levels:
            raise ReportRejected(
                f"Expected a confidence from {LEAST_CONFIDENT} to {MOST_CONFIDENT}, "
                f"but got {self.confidence!r}. Correct it."
            )
        if len(self.reason) > MOST_NOTE_CHARACTERS:
            raise ReportRejected(
                f"Expected a reason of at most {MOST_NOTE_CHARACTERS:,} characters, "
                f"but got {len(self.reason):,}. Shorten it."
            )
        if self.signed_at is not None:
            in_utc("the signature", self.signed_at)


@dataclass(frozen=True, eq=False)
class Subject:
    """Everything that a report is about, checked. `heatmap` is None where none was computed.

    `created` is in UTC. Raise ReportRejected where two parts contradict each other.
    """

    assessment: Assessment
    record: ModelRecord
    heatmap: Heatmap | None
    trust: Trust | None
    patient: ReportedPatient
    reading: ReportedReading | None
    prevalence: float | None
    created: datetime

    def __post_init__(self) -> None:
        used = self.assessment.prediction.model_id
        if self.record.model_id != used:
            raise ReportRejected(
                f"Expected the record of the model that assessed the image, {used}, "
                f"but got that of {self.record.model_id}. Pass the record of the same model."
            )
        if self.heatmap is not None:
            _check_heatmap(self.heatmap, self.assessment, self.record)
        if self.trust is not None and self.heatmap is None:
            raise ReportRejected(
                "Expected the saliency map that faithfulness and stability belong to, but got "
                "none. Pass the map, or leave them out."
            )
        # NaN is between no two numbers.
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise ReportRejected(
                "Expected a prevalence between 0 and 1, as a share of malignant lesions, "
                f"but got {self.prevalence!r}. Correct it, or leave it out."
            )

    @property
    def signed(self) -> bool:
        """Return whether a reader signed the reading."""
        return self.reading is not None and self.reading.signed_at is not None


def check_paper(paper: str) -> None:
    """Raise ReportRejected for a size of paper other than those of PAPERS."""
    _check_choice("a size of paper", paper, PAPERS)


def in_utc(what: str, moment: datetime) -> datetime:
    """Return a time in UTC; raise ReportRejected for one without a time zone."""
    if moment.tzinfo is None:
        raise ReportRejected(
            f"Expected the time of {what} with its time zone, but got {moment}. "
            "Add the zone, for example datetime.UTC."
        )
    return moment.astimezone(UTC)


def _check_heatmap(heatmap: Heatmap, assessment: Assessment, record: ModelRecord) -> None:
    """Raise ReportRejected for a saliency map of another image, or of an unknown method."""
    image = assessment.image
    box = record.input.crop_box(image.width_px, image.height_px)
    if heatmap.box != box:
        raise ReportRejected(
            f"Expected a saliency map of this image, over its square {box}, "
            f"but got one over {heatmap.box}. Compute the map of this image."
        )
    keys = tuple(method.key for method in METHODS)
    _check_choice("a method of the saliency map", heatmap.method, keys)


def _check_name(what: str, text: str | None) -> None:
    """Raise ReportRejected for a name that is long or has several lines."""
    if text is None:
        return
    if len(text) > MOST_NAME_CHARACTERS or len(text.splitlines()) > 1:
        raise ReportRejected(
            f"Expected {what} of at most {MOST_NAME_CHARACTERS} characters in one line, "
            f"but got {text!r}. Shorten it."
        )


def _check_choice(what: str, value: str, terms: tuple[str, ...]) -> None:
    if value not in terms:
        expected = ", ".join(terms)
        raise ReportRejected(
            f"Expected {what} of {expected}, but got {value!r}. Select one of them."
        )
