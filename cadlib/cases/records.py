"""Defines what is stored of patients, lesions, images and readings.

`…Details` is what a person enters; it is checked when it is created. The others are stored rows,
with the id and the number of the audit log's entry that recorded them.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from cadlib.errors import CaseRejected
from cadlib.images.patient import COARSE_SITES, SEXES, SITES
from cadlib.taxonomy import CODES, diagnosis

SITES_OF_LESIONS = (*SITES, *COARSE_SITES)
BODY_VIEWS = ("front", "back")
STAGES = ("before", "after")
"""Whether a reader had seen the model's result."""
MANAGEMENTS = ("no further action", "monitor", "biopsy", "excision", "refer")
REMOVALS = ("biopsy", "excision")
"""The managements after which histology is expected."""
REFERRALS = (*REMOVALS, "refer")
"""The managements that count as a decision to refer."""
RESPONSES = ("agrees", "changes", "overrides")
"""What a reader does with the result: agrees, changes the first reading, or decides against it."""
OTHER = "UNK"
"""The code of a diagnosis outside the eight, as in ISIC 2019."""
OUTCOME_SOURCES = ("histology", "follow-up", "expert consensus")
STATES = ("new", "read", "biopsy requested", "histology known")
"""The states of an image in the work list, in their usual order."""
VERDICTS = ("on lesion", "partly", "artefact", "unreadable")
VERDICT_REASONS = ("hair", "ruler", "ink", "frame", "border", "skin")
LEAST_CONFIDENT = 1
MOST_CONFIDENT = 5
FIRST_BIRTH_YEAR = 1900
MOST_CHARACTERS = 64
"""Of a pseudonym or a label."""
MOST_NOTE_CHARACTERS = 4000


@dataclass(frozen=True)
class PatientDetails:
    """A patient without identity: the name in the clinic's own list must not be used here.

    Raise CaseRejected for values out of range.
    """

    pseudonym: str
    sex: str | None = None
    birth_year: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _check_name("a pseudonym", self.pseudonym)
        _check_term("a sex", self.sex, SEXES)
        _check_birth_year(self.birth_year)
        _check_note(self.note)


@dataclass(frozen=True)
class Patient:
    """A patient, with the latest details. `entry` is that of the details."""

    id: str
    entry: int
    recorded_at: datetime
    details: PatientDetails


@dataclass(frozen=True)
class BodyPlace:
    """A place on the body map: `x` and `y` from 0 (left, top) to 1 of the drawing of a view."""

    view: str
    x: float
    y: float

    def __post_init__(self) -> None:
        _check_term("a view of the body", self.view, BODY_VIEWS)
        for value in (self.x, self.y):
            if not 0 <= value <= 1:
                raise CaseRejected(
                    f"Expected a place from 0 to 1 on the body map, but got {value}. "
                    "Select the place again."
                )


@dataclass(frozen=True)
class LesionDetails:
    """A lesion: its `label` among the lesions of the patient, and where it is."""

    label: str
    site: str | None = None
    place: BodyPlace | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _check_name("a label of the lesion", self.label)
        _check_term("a site", self.site, SITES_OF_LESIONS)
        _check_note(self.note)


@dataclass(frozen=True)
class Lesion:
    """A lesion of a patient, with the latest details."""

    id: str
    patient_id: str
    entry: int
    recorded_at: datetime
    details: LesionDetails


@dataclass(frozen=True)
class VisitDetails:
    """A visit of a patient on a day."""

    day: date
    note: str = ""

    def __post_init__(self) -> None:
        _check_day("of the visit", self.day)
        _check_note(self.note)


@dataclass(frozen=True)
class Visit:
    """A visit of a patient, with the latest details."""

    id: str
    patient_id: str
    entry: int
    recorded_at: datetime
    details: VisitDetails


@dataclass(frozen=True)
class StoredImage:
    """An image of a lesion at a visit.

    `sha256` is the digest of the stored file, `source_sha256` that of the file that was read. The
    stored pixels are `width_px` × `height_px`; the file that was read had `file_px`, more where a
    large image was reduced. `entry` is that of its place: the latest lesion and visit.
    `recorded_at` is when the image was added.
    """

    id: str
    lesion_id: str
    visit_id: str
    entry: int
    recorded_at: datetime
    sha256: str
    source_sha256: str
    source_format: str
    width_px: int
    height_px: int
    file_px: tuple[int, int]
    red_blue_swapped: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StoredAssessment:
    """An assessment of an image by a model. `content` is `Assessment.to_json()`.

    `malignant_low` and `malignant_high` are the ends of the model's networks, each alone; None for
    a model of one network.
    """

    id: str
    image_id: str
    entry: int
    recorded_at: datetime
    model_name: str
    model_version: str
    model_id: str
    operating_point: str
    threshold: float
    action: str
    diagnosis: str
    malignant_probability: float
    malignant_low: float | None
    malignant_high: float | None
    borderline: bool
    interpretable: bool
    content: dict[str, Any]


@dataclass(frozen=True)
class ReadingDetails:
    """A reader's diagnosis of an image and the management that follows.

    `stage` is "before" or "after" the reader saw the model's result. `confidence` is 1 (a guess)
    to 5 (certain). After the result, `response` says what the reader does with it; deciding against
    it needs a `reason`.
    """

    stage: str
    diagnosis: str
    management: str
    confidence: int
    response: str | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        _check_choice("a stage", self.stage, STAGES)
        _check_choice("a diagnosis", self.diagnosis, (*CODES, OTHER))
        _check_choice("a management", self.management, MANAGEMENTS)
        _check_confidence(self.confidence)
        _check_note(self.reason)
        if self.stage == "before" and self.response is not None:
            raise CaseRejected(
                f"Expected no response before the result was shown, but got {self.response!r}. "
                "Record the first reading without it."
            )
        if self.stage == "after":
            _check_choice("a response to the result", self.response, RESPONSES)
        if self.response == "overrides" and not self.reason.strip():
            raise CaseRejected(
                "Expected a reason for a decision against the result, but got none. "
                "Enter the reason."
            )


@dataclass(frozen=True)
class Reading:
    """A stored reading. `assessment_id` is the result that the reader saw; None before it."""

    id: str
    image_id: str
    assessment_id: str | None
    reader_id: str
    entry: int
    recorded_at: datetime
    details: ReadingDetails


@dataclass(frozen=True)
class OutcomeDetails:
    """What a lesion turned out to be.

    `diagnosis` is one of the eight, or None for another one, which `note` then names.
    """

    malignant: bool
    source: str
    diagnosis: str | None = None
    day: date | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _check_choice("a source of the outcome", self.source, OUTCOME_SOURCES)
        _check_term("a diagnosis", self.diagnosis, CODES)
        _check_note(self.note)
        if self.day is not None:
            _check_day("of the outcome", self.day)
        if self.diagnosis is None:
            if not self.note.strip():
                raise CaseRejected(
                    "Expected a diagnosis or a note that names it, but got neither. "
                    "Enter one of them."
                )
            return
        expected = diagnosis(self.diagnosis).malignant
        if self.malignant != expected:
            group = "malignant" if expected else "benign"
            raise CaseRejected(
                f"Expected {self.diagnosis} to be {group}, but the outcome says otherwise. "
                "Correct one of them."
            )


@dataclass(frozen=True)
class Outcome:
    """A stored outcome of a lesion. The latest of a lesion counts."""

    id: str
    lesion_id: str
    entry: int
    recorded_at: datetime
    details: OutcomeDetails


@dataclass(frozen=True)
class OverlayReviewDetails:
    """A reader's verdict on a saliency map.

    `method` and `diagnosis` are those of the map. `region` is what the reader marked before the map
    was shown, None if nothing; `peak_in_region` and `iou` compare both (`saliency.reader_region`).
    `is_random` is true for a map of random places, `repeats_id` names the first review of a map
    that was shown twice; the reader knows neither. Raise CaseRejected for values out of range.
    """

    method: str
    diagnosis: str
    verdict: str
    reason: str | None = None
    region: tuple[tuple[float, float], ...] | None = None
    peak_in_region: bool | None = None
    iou: float | None = None
    is_random: bool = False
    repeats_id: str | None = None

    def __post_init__(self) -> None:
        _check_choice("a diagnosis", self.diagnosis, CODES)
        _check_choice("a verdict", self.verdict, VERDICTS)
        _check_term("a reason", self.reason, VERDICT_REASONS)
        if self.iou is not None:
            check_share("the intersection over union", self.iou)


@dataclass(frozen=True)
class OverlayReview:
    """A stored review of a saliency map."""

    id: str
    assessment_id: str
    reader_id: str
    entry: int
    recorded_at: datetime
    details: OverlayReviewDetails


@dataclass(frozen=True)
class CaseFile:
    """Everything that is stored about an image, the earliest of each kind first."""

    patient: Patient
    lesion: Lesion
    visit: Visit
    image: StoredImage
    state: str
    assessments: tuple[StoredAssessment, ...]
    readings: tuple[Reading, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class FailedFile:
    """A dropped file that could not be read, and why."""

    id: str
    entry: int
    recorded_at: datetime
    file_name: str
    reason: str


def _check_name(what: str, text: str) -> None:
    """Raise CaseRejected for a name that is empty, long, or not one line of printed characters."""
    is_trimmed = text == text.strip()
    is_usable = text.isprintable() and is_trimmed and 0 < len(text) <= MOST_CHARACTERS
    if not is_usable:
        raise CaseRejected(
            f"Expected {what} of 1 to {MOST_CHARACTERS} characters in one line, without spaces at "
            f"its ends, but got {text!r}. Enter another."
        )


def _check_note(text: str) -> None:
    """Raise CaseRejected for a note that is too long or has control characters."""
    if len(text) > MOST_NOTE_CHARACTERS:
        raise CaseRejected(
            f"Expected at most {MOST_NOTE_CHARACTERS:,} characters, but got {len(text):,}. "
            "Shorten the note."
        )
    lines = text.replace("\n", "").replace("\t", "")
    # PostgreSQL cannot store the character 0.
    if not lines.isprintable():
        raise CaseRejected(
            "Expected a note of printed characters, but it has control characters. "
            "Enter it without them."
        )


def _check_term(what: str, value: str | None, terms: tuple[str, ...]) -> None:
    """Raise CaseRejected for a value that is not one of the terms; None is a missing value."""
    if value is not None:
        _check_choice(what, value, terms)


def _check_choice(what: str, value: str | None, terms: tuple[str, ...]) -> None:
    """Raise CaseRejected for a value that is not one of the terms."""
    if value not in terms:
        expected = ", ".join(terms)
        raise CaseRejected(f"Expected {what} of {expected}, but got {value!r}. Select one of them.")


def _check_birth_year(year: int | None) -> None:
    """Raise CaseRejected for a year in which no patient was born."""
    this_year = datetime.now(UTC).year
    if year is not None and not FIRST_BIRTH_YEAR <= year <= this_year:
        raise CaseRejected(
            f"Expected a year of birth from {FIRST_BIRTH_YEAR} to {this_year}, but got {year}. "
            "Correct it, or leave it out."
        )


def _check_confidence(confidence: int) -> None:
    """Raise CaseRejected for a confidence outside the scale."""
    if not LEAST_CONFIDENT <= confidence <= MOST_CONFIDENT:
        raise CaseRejected(
            f"Expected a confidence from {LEAST_CONFIDENT} to {MOST_CONFIDENT}, "
            f"but got {confidence}. Select one of them."
        )


def _check_day(what: str, day: date) -> None:
    """Raise CaseRejected for a day in the future or before the first year of birth."""
    today = datetime.now(UTC).date()
    # In the east it is tomorrow already.
    if day.year < FIRST_BIRTH_YEAR or (day - today).days > 1:
        raise CaseRejected(f"Expected a day {what} up to today, but got {day}. Correct it.")


def check_share(what: str, value: float) -> None:
    """Raise CaseRejected for a number that is not a share from 0 to 1."""
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise CaseRejected(f"Expected {what} from 0 to 1, but got {value}. Enter another.")
