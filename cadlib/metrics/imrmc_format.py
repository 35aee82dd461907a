"""Writes and reads the readings of a study as iMRMC's input text.

iMRMC is the program of the US Food and Drug Administration for reader studies
(https://github.com/DIDSR/iMRMC). Its input file, `….imrmc`, has a title line, the numbers of benign
cases (N0), malignant cases (N1), readers (NR) and modalities (NM), and after `BEGIN DATA:` one row
`reader,case,modality,score` for each reading. The truth of a case is a row with the reader -1, the
modality 0 and the score 0 (benign) or 1 (malignant). This module follows iMRMC's own reader,
`src/mrmc/core/InputFile.java`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cadlib.errors import StudyInvalid
from cadlib.metrics.study_readings import StudyReadings

TRUTH_READERS = ("-1", "truth")
"""The reader of a row that states the truth of a case; the first one is written."""
TRUTH_MODALITY = "0"
DATA_LINE = "BEGIN DATA:"
COUNT_KEYS = ("N0", "N1", "NR", "NM")
N_FIELDS = 4
_COUNT = re.compile(r"(N0|N1|NR|NM)\s*:\s*(\d+)", re.IGNORECASE)


@dataclass
class _Rows:
    """The rows below `BEGIN DATA:`, while they are read."""

    truth: dict[str, bool] = field(default_factory=dict)
    readers: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def imrmc_text(readings: StudyReadings, title: str = "Reader study") -> str:
    """Return the text of an .imrmc file; write it as UTF-8.

    The readings keep their order, and the scores all their digits. A study needs no reading of
    each case by each reader.

    Raise StudyInvalid for a name or title that the format cannot hold: with a comma, a line break
    or another control character, with spaces at its ends, a reader with the name of the truth, and
    two names that differ only in spaces, which iMRMC removes.
    """
    _check_title(title)
    truth = dict(zip(readings.case.tolist(), readings.malignant.tolist(), strict=True))
    readers = set(readings.reader.tolist())
    modalities = set(readings.modality.tolist())
    _check_names("reader", readers)
    _check_names("case", truth)
    _check_names("modality", modalities)
    n_malignant = sum(truth.values())
    lines = [
        title,
        "",
        f"N0: {len(truth) - n_malignant}",
        f"N1: {n_malignant}",
        f"NR: {len(readers)}",
        f"NM: {len(modalities)}",
        "",
        DATA_LINE,
    ]
    lines += _truth_lines(truth)
    lines += _reading_lines(readings)
    # No empty line at the end: iMRMC refuses it.
    return "\n".join(lines) + "\n"


def _truth_lines(truth: Mapping[str, bool]) -> Iterator[str]:
    reader = TRUTH_READERS[0]
    for case, is_malignant in truth.items():
        score = int(is_malignant)
        yield f"{reader},{case},{TRUTH_MODALITY},{score}"


def _reading_lines(readings: StudyReadings) -> Iterator[str]:
    columns = zip(
        readings.reader.tolist(),
        readings.case.tolist(),
        readings.modality.tolist(),
        readings.score.tolist(),
        strict=True,
    )
    for reader, case, modality, score in columns:
        # The shortest text of a float from which the same float is read back.
        yield f"{reader},{case},{modality},{score!r}"


def study_of_imrmc(text: str) -> StudyReadings:
    """Return the readings in the text of an .imrmc file.

    Raise StudyInvalid for a missing or contradictory count, a row that is no reading, and a case
    without a truth, without a reading or with two truths.
    """
    # A spreadsheet puts a mark before the first line and adds commas to short ones.
    plain_text = text.lstrip("\ufeff")
    lines = [line.rstrip(", \t") for line in plain_text.splitlines()]
    start = _data_start(lines)
    counts = _header_counts(lines[:start])
    rows = _Rows()
    for number, line in enumerate(lines, start=1):
        is_below = number > start + 1
        if is_below and line:
            _read_row(rows, line, number)
    _check_truth(rows)
    _check_counts(rows, counts)
    malignant = [rows.truth[case] for case in rows.cases]
    return StudyReadings.of_lists(
        rows.readers,
        rows.cases,
        rows.modalities,
        malignant,
        rows.scores,
    )


def _check_title(title: str) -> None:
    upper = title.upper()
    words = [f"{key}:" for key in COUNT_KEYS] + [DATA_LINE]
    has_key = any(word in upper for word in words)
    # iMRMC would read such a title as a count.
    if has_key or not title.isprintable():
        raise StudyInvalid(
            f"Expected a title of one line without {', '.join(words)} but got {title!r}. "
            "Choose another title."
        )


def _check_names(kind: str, names: Iterable[str]) -> None:
    by_short_name: dict[str, str] = {}
    for name in sorted(names):
        # The row is split at commas, and spaces at the ends of its fields are dropped.
        is_plain = name.isprintable() and "," not in name
        is_stripped = name == name.strip() != ""
        if not is_plain or not is_stripped:
            raise StudyInvalid(
                f"Expected the name of a {kind} without commas, line breaks and spaces at its ends "
                f"but got {name!r}. iMRMC cannot read it: rename the {kind}."
            )
        if kind == "reader" and name in TRUTH_READERS:
            raise StudyInvalid(
                f"Expected a reader's name other than {' and '.join(TRUTH_READERS)}, which mark "
                f"the truth in iMRMC, but got {name!r}. Rename the reader."
            )
        # iMRMC removes all spaces from names.
        short_name = name.replace(" ", "")
        other = by_short_name.setdefault(short_name, name)
        if other != name:
            raise StudyInvalid(
                f"Expected names that differ in more than spaces, but iMRMC takes the {kind} "
                f"{other!r} and the {kind} {name!r} for the same. Rename one of them."
            )


def _data_start(lines: list[str]) -> int:
    for place, line in enumerate(lines):
        if line.upper().startswith(DATA_LINE):
            return place
    raise StudyInvalid(
        f"Expected a line {DATA_LINE} above the readings, but the text has none. "
        "Choose an iMRMC input file."
    )


def _header_counts(lines: list[str]) -> dict[str, int]:
    counts = {}
    for line in lines:
        match = _COUNT.fullmatch(line.strip())
        if match:
            key = match[1].upper()
            counts[key] = int(match[2])
    missing = [key for key in COUNT_KEYS if key not in counts]
    if missing:
        raise StudyInvalid(
            f"Expected a line with the count of each of {', '.join(COUNT_KEYS)} above {DATA_LINE} "
            f"but found none of {', '.join(missing)}. Add it, as in N0: 25."
        )
    return counts


def _read_row(rows: _Rows, line: str, number: int) -> None:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != N_FIELDS or not all(parts):
        raise StudyInvalid(
            f"Expected reader,case,modality,score in line {number} but got {line!r}. "
            "Correct the line."
        )
    reader, case, modality, score_text = parts
    score = _number(score_text, number)
    if reader not in TRUTH_READERS:
        rows.readers.append(reader)
        rows.cases.append(case)
        rows.modalities.append(modality)
        rows.scores.append(score)
        return
    if score not in (0, 1):
        raise StudyInvalid(
            f"Expected a truth of 0 or 1 in line {number} but got {score_text}. Correct the line."
        )
    if case in rows.truth:
        raise StudyInvalid(
            f"Expected one truth for each case, but line {number} is the second one of case "
            f"{case}. Remove one of them."
        )
    rows.truth[case] = score == 1


def _number(text: str, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise StudyInvalid(
            f"Expected a number as the score in line {line} but got {text!r}. Correct the line."
        ) from error


def _check_truth(rows: _Rows) -> None:
    cases = set(rows.cases)
    without_truth = [case for case in rows.cases if case not in rows.truth]
    if without_truth:
        raise StudyInvalid(
            f"Expected a truth for each case, but case {without_truth[0]} has none. Add the line "
            f"{TRUTH_READERS[0]},{without_truth[0]},{TRUTH_MODALITY},1 if it is malignant, with 0 "
            "if it is benign."
        )
    without_reading = [case for case in rows.truth if case not in cases]
    if without_reading:
        raise StudyInvalid(
            f"Expected a reading of each case, but case {without_reading[0]} has only its truth. "
            "Add its readings, or remove the line."
        )


def _check_counts(rows: _Rows, counts: Mapping[str, int]) -> None:
    n_malignant = sum(rows.truth.values())
    # iMRMC warns of other counts; they often mean that lines of the file are lost.
    actual = {
        "N0": len(rows.truth) - n_malignant,
        "N1": n_malignant,
        "NR": len(set(rows.readers)),
        "NM": len(set(rows.modalities)),
    }
    for key, count in actual.items():
        if counts[key] != count:
            raise StudyInvalid(
                f"Expected {key} to be {counts[key]}, as the header states, but the lines below "
                f"have {count}. Correct the header, or add the missing lines."
            )
