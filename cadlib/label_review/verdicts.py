"""What a reader said of a finding, kept in the user's own data: lists made anew find it again.

The verdicts on a data set are one CSV file, named as the data set is, to be read and edited by hand. A finding is known
by its kind and its images, and by their labels where it is about those: a label that was corrected is another finding.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from platformdirs import user_data_path
from portalocker import AlreadyLocked, Lock, LockException

from cadlib.data.image_ids import composed
from cadlib.errors import VerdictsInvalid
from cadlib.files.replace import replace_files
from cadlib.files.spreadsheets import original_cell, safe_cell
from cadlib.label_review.lists import Suspects
from cadlib.taxonomy import CODES

SUFFIX = ".csv"
SAME_PICTURE = "same picture"
CORRECTS = ("label is wrong", "a label is wrong")
"""Verdicts with which a reader may say what the diagnosis should be."""
CHOICES = {
    "doubted labels": ("label is right", CORRECTS[0], "cannot tell"),
    "near-duplicates": (SAME_PICTURE, "same lesion", "different", "cannot tell"),
    "contradictions": (CORRECTS[1], "not one lesion", "cannot tell"),
    "unreadable files": ("fetch again", "broken at its source", "no picture"),
}
"""Kind of finding -> what a reader can say of it."""
_ABOUT_LABELS = ("doubted labels", "contradictions")
_LOCKED_S = 5


@dataclass(frozen=True)
class Finding:
    """What a verdict is about; of a pair the lesser id comes first, and what there is none of is ""."""

    kind: str
    image: str
    other_image: str = ""
    diagnosis: str = ""
    other_diagnosis: str = ""

    def __post_init__(self) -> None:
        if self.kind not in CHOICES:
            raise VerdictsInvalid(
                f"Expected a kind, one of {', '.join(CHOICES)}, but got {self.kind!r}."
            )
        if not self.image or self.image == self.other_image:
            raise VerdictsInvalid(
                f"Expected an image, or two, but got {self.image!r} and {self.other_image!r}."
            )

    @classmethod
    def of(cls, row: Any) -> "Finding":
        """Return what a row of `Suspects.table` is about."""
        about_labels = row.kind in _ABOUT_LABELS
        pair = sorted((image, code if about_labels else "") for image, code in sides(row))
        (image, diagnosis), (other_image, other_diagnosis) = (*pair, ("", ""))[:2]
        return cls(row.kind, image, other_image, diagnosis, other_diagnosis)


@dataclass(frozen=True)
class Verdict:
    """What was said, one of CHOICES, and when, ISO 8601 in UTC; `should_be` is the right diagnosis, "" if not known."""

    verdict: str
    should_be: str = ""
    when_utc: str = ""

    def __post_init__(self) -> None:
        if self.should_be and (self.verdict not in CORRECTS or self.should_be not in CODES):
            raise VerdictsInvalid(
                f"Expected should_be to be one of {', '.join(CODES)}, beside {' or '.join(map(repr, CORRECTS))}, but "
                f"got {self.should_be!r} beside {self.verdict!r}."
            )
        try:
            is_utc = datetime.fromisoformat(self.when_utc).utcoffset() == timedelta(0)
        except ValueError:
            is_utc = False
        if not is_utc:
            raise VerdictsInvalid(
                f"Expected a time as 2026-01-31T12:00:00+00:00 but got {self.when_utc!r}."
            )


VERDICT_COLUMNS = tuple(field.name for field in fields(Verdict))
_HEAD = [field.name for field in fields(Finding)] + [*VERDICT_COLUMNS]
Verdicts = Mapping[Finding, Verdict]


def said_now(verdict: str, should_be: str = "") -> Verdict:
    """Return a verdict that is given now."""
    return Verdict(verdict, should_be, datetime.now(UTC).isoformat(timespec="seconds"))


def verdicts_dir() -> Path:
    """Return the folder: the one CADLIB_VERDICTS names where it is set, else in the user's own data."""
    return Path(os.environ.get("CADLIB_VERDICTS") or user_data_path("cadlib") / "verdicts")


def read_verdicts(dataset: str) -> Verdicts:
    """Return the verdicts on the findings of the data set of that name, in the order in which they were given.

    Raise VerdictsInvalid where its file cannot be used.
    """
    path = _path(dataset)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise VerdictsInvalid(
            f"{path} cannot be read: {error}. Mend the file; nothing is written to it."
        ) from error
    rows = csv.reader(io.StringIO(text), strict=True)
    found: dict[Finding, Verdict] = {}
    try:
        if (head := next(rows, [])) != _HEAD:
            raise VerdictsInvalid(
                f"Expected the columns {','.join(_HEAD)} but got {','.join(head)!r}."
            )
        for row in filter(None, rows):
            finding, verdict = _read([original_cell(cell) for cell in row])
            if finding in found:
                images = " and ".join(filter(None, (finding.image, finding.other_image)))
                raise VerdictsInvalid(f"Expected one verdict on {images} but got two.")
            found[finding] = verdict
    except (csv.Error, VerdictsInvalid) as error:
        raise VerdictsInvalid(
            f"{path}, line {rows.line_num}: {str(error).rstrip('.')}. Mend it; until then nothing is written there."
        ) from error
    return found


def save_verdict(dataset: str, finding: Finding, verdict: Verdict | None) -> Verdict | None:
    """Keep a verdict, or withdraw it with None, at once and whole; return the one that stood before.

    Raise VerdictsInvalid where the file cannot be used or written; it is left as it was.
    """
    if verdict:
        _check(finding, verdict)
    path = _path(dataset)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            found = dict(read_verdicts(dataset))
            before = found.pop(finding, None)
            if verdict:
                found[finding] = verdict
            text = io.StringIO()
            lines = (
                map(safe_cell, (*astuple(about), *astuple(said))) for about, said in found.items()
            )
            csv.writer(text, lineterminator="\n").writerows([_HEAD, *lines])
            replace_files(path.parent, {path.name: text.getvalue()})
    except OSError as error:
        raise VerdictsInvalid(
            f"{path} cannot be written: {error}. Make room, or point CADLIB_VERDICTS elsewhere."
        ) from error
    return before


def beside(found: Suspects, verdicts: Verdicts) -> Suspects:
    """Return lists whose table has VERDICT_COLUMNS too, missing where a finding has no verdict."""
    said = [verdicts.get(Finding.of(row)) for row in found.table.itertuples()]
    values = {name: [getattr(one, name, None) or None for one in said] for name in VERDICT_COLUMNS}
    return replace(
        found,
        table=found.table.assign(**{name: pd.array(of, "str") for name, of in values.items()}),
    )


def _read(row: list[str]) -> tuple[Finding, Verdict]:
    if len(row) != len(_HEAD):
        raise VerdictsInvalid(f"Expected {len(_HEAD)} values but got {len(row)}.")
    about = len(fields(Finding))
    row = list(map(composed, row))
    finding, verdict = (
        Finding.of(Finding(*row[:about])),
        Verdict(*row[about:]),
    )  # a hand may have turned a pair round
    _check(finding, verdict)
    return finding, verdict


def _check(finding: Finding, verdict: Verdict) -> None:
    if verdict.verdict not in CHOICES[finding.kind]:
        known = ", ".join(CHOICES[finding.kind])
        raise VerdictsInvalid(
            f"Expected one of {known}, on {finding.kind}, but got {verdict.verdict!r}."
        )


def sides(of: Any) -> tuple[tuple[str, str], ...]:
    """Return the image or the two of a finding, or of a row of `Suspects.table`, each with its label or ""."""
    pairs = ((of.image, of.diagnosis), (of.other_image, of.other_diagnosis))
    given = ((image, code) for image, code in pairs if isinstance(image, str) and image)
    return tuple((image, code if isinstance(code, str) else "") for image, code in given)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is another file, for that one is replaced; raise VerdictsInvalid in vain."""
    try:
        with Lock(
            path.with_name(f".{path.name}.lock"), "a", timeout=_LOCKED_S, check_interval=0.02
        ):
            yield
    except AlreadyLocked as error:
        raise VerdictsInvalid(
            f"Expected to write {path} but another process has held it for {_LOCKED_S} s; try again."
        ) from error
    except LockException as error:
        raise VerdictsInvalid(
            f"Expected a folder that knows locks but {path.parent} knows none ({error}); point CADLIB_VERDICTS "
            "elsewhere: two who judge at once would lose a verdict."
        ) from error


def _path(dataset: str) -> Path:
    return verdicts_dir() / f"{dataset}{SUFFIX}"
