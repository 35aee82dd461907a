"""Stores a reader's verdicts on findings in the user's own data.

The verdicts on a data set are one CSV file with the name of the data set, which can be read and
edited by hand. A finding is identified by its kind and its images, and by their labels if it is
about those: after a correction of the label it is another finding. So the verdicts also apply to
lists that are computed again.
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
"""Verdicts to which a reader may add the correct diagnosis."""
CHOICES = {
    "doubted labels": ("label is right", CORRECTS[0], "cannot tell"),
    "near-duplicates": (SAME_PICTURE, "same lesion", "different", "cannot tell"),
    "contradictions": (CORRECTS[1], "not one lesion", "cannot tell"),
    "unreadable files": ("fetch again", "broken at its source", "no picture"),
}
"""Kind of finding -> the verdicts that a reader can choose."""
_ABOUT_LABELS = ("doubted labels", "contradictions")
_LOCKED_S = 5


@dataclass(frozen=True)
class Finding:
    """The subject of a verdict.

    The lesser id of a pair comes first; "" stands for a value that does not exist.
    """

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
        """Return the finding of a row of `Suspects.table`, or of another Finding.

        Raise VerdictsInvalid for a row without an image.
        """
        is_about_labels = row.kind in _ABOUT_LABELS
        pair = []
        for image, code in sides(row):
            label = code if is_about_labels else ""
            pair.append((image, label))
        pair.sort()
        if not pair:
            raise VerdictsInvalid(
                f"Expected an image in a finding of {row.kind!r}, but it has none. "
                "Search for suspects again."
            )
        if len(pair) == 1:
            pair.append(("", ""))
        (image, diagnosis), (other_image, other_diagnosis) = pair
        return cls(row.kind, image, other_image, diagnosis, other_diagnosis)


@dataclass(frozen=True)
class Verdict:
    """A verdict, one of CHOICES, and its time, ISO 8601 in UTC.

    `should_be` is the correct diagnosis, "" if it is not known.
    """

    verdict: str
    should_be: str = ""
    when_utc: str = ""

    def __post_init__(self) -> None:
        is_correction = self.verdict in CORRECTS and self.should_be in CODES
        if self.should_be and not is_correction:
            raise VerdictsInvalid(
                f"Expected should_be to be one of {', '.join(CODES)}, "
                f"beside {' or '.join(map(repr, CORRECTS))}, "
                f"but got {self.should_be!r} beside {self.verdict!r}."
            )
        try:
            time = datetime.fromisoformat(self.when_utc)
            is_utc = time.utcoffset() == timedelta(0)
        except ValueError:
            is_utc = False
        if not is_utc:
            raise VerdictsInvalid(
                f"Expected a time as 2026-01-31T12:00:00+00:00 but got {self.when_utc!r}."
            )


VERDICT_COLUMNS = tuple(field.name for field in fields(Verdict))
_FINDING_COLUMNS = tuple(field.name for field in fields(Finding))
_HEAD = [*_FINDING_COLUMNS, *VERDICT_COLUMNS]
Verdicts = Mapping[Finding, Verdict]


def said_now(verdict: str, should_be: str = "") -> Verdict:
    """Return a verdict with the current time."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Verdict(verdict, should_be, now)


def verdicts_dir() -> Path:
    """Return the folder: CADLIB_VERDICTS if it is set, else a folder in the user's own data."""
    folder = os.environ.get("CADLIB_VERDICTS")
    if folder:
        return Path(folder)
    return user_data_path("cadlib") / "verdicts"


def read_verdicts(dataset: str) -> Verdicts:
    """Return the verdicts on the findings of the data set of that name, the oldest first.

    Raise VerdictsInvalid if its file cannot be used.
    """
    path = _path(dataset)
    try:
        # A spreadsheet saves the file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise VerdictsInvalid(
            f"{path} cannot be read: {error}. Mend the file; nothing is written to it."
        ) from error
    rows = csv.reader(io.StringIO(text), strict=True)
    verdicts: dict[Finding, Verdict] = {}
    try:
        _check_head(next(rows, []))
        for row in rows:
            # An empty line, as an editor leaves at the end of a file.
            if not row:
                continue
            finding, verdict = _read(row)
            if finding in verdicts:
                raise _twice(finding)
            verdicts[finding] = verdict
    except (csv.Error, VerdictsInvalid) as error:
        reason = str(error).rstrip(".")
        raise VerdictsInvalid(
            f"{path}, line {rows.line_num}: {reason}. Mend it; until then nothing is written there."
        ) from error
    return verdicts


def save_verdict(
    dataset: str,
    finding: Finding,
    verdict: Verdict | None,
) -> Verdict | None:
    """Save a verdict, or withdraw it with None, and return the one before.

    The file is replaced as a whole. Raise VerdictsInvalid if it cannot be used or written; it is
    then unchanged.
    """
    if verdict:
        _check(finding, verdict)
    path = _path(dataset)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            verdicts = dict(read_verdicts(dataset))
            # A changed verdict moves to the end, as the verdicts are in the order of their time.
            before = verdicts.pop(finding, None)
            if verdict:
                verdicts[finding] = verdict
            replace_files(path.parent, {path.name: _csv(verdicts)})
    except OSError as error:
        raise VerdictsInvalid(
            f"{path} cannot be written: {error}. Make room, or point CADLIB_VERDICTS elsewhere."
        ) from error
    return before


def beside(suspects: Suspects, verdicts: Verdicts) -> Suspects:
    """Return lists whose table also has VERDICT_COLUMNS, missing if a finding has no verdict."""
    verdict_of_row = [verdicts.get(Finding.of(row)) for row in suspects.table.itertuples()]
    columns = {}
    # Empty fields are missing values, so that a table shows them like a finding without a verdict.
    for name in VERDICT_COLUMNS:
        cells = [_cell(verdict, name) for verdict in verdict_of_row]
        columns[name] = pd.array(cells, "str")
    table = suspects.table.assign(**columns)
    return replace(suspects, table=table)


def _cell(verdict: Verdict | None, name: str) -> str | None:
    """Return a field of a verdict, None if it is empty or there is no verdict."""
    text: str = getattr(verdict, name, "")
    if not text:
        return None
    return text


def _csv(verdicts: Verdicts) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    for finding, verdict in verdicts.items():
        cells = (*astuple(finding), *astuple(verdict))
        # A spreadsheet would compute a text that begins like a formula.
        writer.writerow([safe_cell(cell) for cell in cells])
    return text.getvalue()


def _check_head(head: list[str]) -> None:
    if head != _HEAD:
        raise VerdictsInvalid(f"Expected the columns {','.join(_HEAD)} but got {','.join(head)!r}.")


def _read(row: list[str]) -> tuple[Finding, Verdict]:
    """Return the finding and the verdict of a row of the CSV file."""
    if len(row) != len(_HEAD):
        raise VerdictsInvalid(f"Expected {len(_HEAD)} values but got {len(row)}.")
    cells = [composed(original_cell(cell)) for cell in row]
    n_finding_cells = len(_FINDING_COLUMNS)
    finding = Finding(*cells[:n_finding_cells])
    # A user who edits the file may exchange the two images of a pair.
    finding = Finding.of(finding)
    verdict = Verdict(*cells[n_finding_cells:])
    _check(finding, verdict)
    return finding, verdict


def _check(finding: Finding, verdict: Verdict) -> None:
    choices = CHOICES[finding.kind]
    if verdict.verdict not in choices:
        options = ", ".join(choices)
        raise VerdictsInvalid(
            f"Expected one of {options}, on {finding.kind}, but got {verdict.verdict!r}."
        )


def _twice(finding: Finding) -> VerdictsInvalid:
    """Return the error for a second verdict on a finding."""
    images = finding.image
    if finding.other_image:
        images += f" and {finding.other_image}"
    return VerdictsInvalid(f"Expected one verdict on {images} but got two.")


def sides(finding: Any) -> tuple[tuple[str, str], ...]:
    """Return the one or two images of a finding with their labels, "" for a missing label.

    It can also be a row of `Suspects.table`, in which missing values are not text.
    """
    pairs = (
        (finding.image, finding.diagnosis),
        (finding.other_image, finding.other_diagnosis),
    )
    labelled = []
    for image, code in pairs:
        if not isinstance(image, str) or not image:
            continue
        # Pandas has NaN, a float, for a missing label.
        label = code if isinstance(code, str) else ""
        side = (image, label)
        labelled.append(side)
    return tuple(labelled)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file; raise VerdictsInvalid if that is not possible."""
    # The lock is a file of its own, because the locked file is replaced.
    lock_path = path.with_name(f".{path.name}.lock")
    try:
        with Lock(lock_path, "a", timeout=_LOCKED_S, check_interval=0.02):
            yield
    except AlreadyLocked as error:
        raise VerdictsInvalid(
            f"Expected to write {path} but another process has held it for {_LOCKED_S} s; "
            "try again."
        ) from error
    except LockException as error:
        raise VerdictsInvalid(
            f"Expected a folder that knows locks but {path.parent} knows none ({error}); "
            "point CADLIB_VERDICTS elsewhere: two who judge at once would lose a verdict."
        ) from error


def _path(dataset: str) -> Path:
    return verdicts_dir() / f"{dataset}{SUFFIX}"
