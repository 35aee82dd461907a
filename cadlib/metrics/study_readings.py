"""Defines the readings of a reader study and checks them at entry.

A reading is one look of one reader at one case. In a study of several modalities, such as the
reader alone and the reader with the model, a reader reads a case once in each of them.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import StudyInvalid
from cadlib.metrics.classification import Bools, Floats

Names = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class StudyReadings:
    """The N readings of a study, with a score each.

    `reader`, `case` and `modality` are (N,) names; whole numbers become names too. `malignant` is
    (N,) bool, the known truth of the case. `score` is (N,) float64, higher for more suspicious; a
    decision is 1 (refer) or 0. The arrays become read-only copies.

    Raise StudyInvalid for lengths that differ, a missing name, truth or score, a case with two
    truths, and a reader who reads a case twice in one modality.
    """

    reader: Names
    case: Names
    modality: Names
    malignant: Bools
    score: Floats

    def __post_init__(self) -> None:
        check_lengths(self, ("reader", "case", "modality", "malignant", "score"))
        reader = checked_names(self.reader, "reader")
        case = checked_names(self.case, "case")
        modality = checked_names(self.modality, "modality")
        malignant = checked_flags(self.malignant, "malignant", reader, case)
        score = _checked_score(self.score, reader, case)
        check_one_value(case, malignant, "truth")
        # A frozen dataclass takes no other assignment.
        object.__setattr__(self, "reader", reader)
        object.__setattr__(self, "case", case)
        object.__setattr__(self, "modality", modality)
        object.__setattr__(self, "malignant", malignant)
        object.__setattr__(self, "score", score)
        self._check_repeats()

    @classmethod
    def of_lists(
        cls,
        reader: Sequence[str],
        case: Sequence[str],
        modality: Sequence[str],
        malignant: Sequence[bool],
        score: Sequence[float],
    ) -> Self:
        """Return the readings of five lists of the same length."""
        return cls(
            reader=np.array(reader, np.str_),
            case=np.array(case, np.str_),
            modality=np.array(modality, np.str_),
            malignant=np.array(malignant, np.bool_),
            score=np.array(score, np.float64),
        )

    def _check_repeats(self) -> None:
        columns = zip(self.reader, self.case, self.modality, strict=True)
        counts = Counter(columns)
        for (reader, case, modality), count in counts.items():
            if count > 1:
                raise StudyInvalid(
                    "Expected each reader to read a case once in a modality, but reader "
                    f"{reader} has {count} readings of case {case} in modality {modality}. "
                    "Leave out all but one of them."
                )


def check_lengths(readings: object, fields: Sequence[str]) -> None:
    """Raise StudyInvalid unless all fields are one-dimensional and of the same length."""
    first = fields[0]
    expected = np.shape(getattr(readings, first))
    for field in fields:
        values = getattr(readings, field)
        shape = np.shape(values)
        # A single value has no length, and a table has more than one.
        if len(shape) != 1:
            raise StudyInvalid(
                f"Expected `{field}` to have one value a reading but got an array of {shape}. "
                "Give it as one list."
            )
        if shape != expected:
            raise StudyInvalid(
                f"Expected `{field}` to have {expected[0]} values, as `{first}` has, "
                f"but got {shape[0]}. Give one value for each reading."
            )


def checked_names(values: Any, field: str) -> Names:
    """Return (N,) names as a read-only array; raise StudyInvalid for a missing name."""
    names = []
    for place, value in enumerate(np.asarray(values).tolist()):
        # A number with decimals is a measured value, and NaN is a missing one.
        is_name = isinstance(value, str | int)
        if not is_name or value == "":
            raise StudyInvalid(
                f"Expected a name or a whole number as the {field} of each reading but got "
                f"{value!r} in reading {place + 1}. Enter the {field}."
            )
        names.append(str(value))
    return _read_only(np.array(names, np.str_))


def checked_flags(values: Any, field: str, readers: Names, cases: Names) -> Bools:
    """Return (N,) bool as a read-only copy; raise StudyInvalid for a missing value."""
    flags = np.asarray(values)
    if flags.dtype == np.bool_:
        return _read_only(flags.copy())
    for place, value in enumerate(flags.tolist()):
        # None and NaN are missing values, and a number could be a score given by mistake.
        if not isinstance(value, bool):
            raise StudyInvalid(
                f"Expected true or false as `{field}` of each reading but got {value!r} for case "
                f"{cases[place]}, reader {readers[place]}. Enter it, or leave out this reading."
            )
    return _read_only(flags.astype(np.bool_))


def check_one_value(cases: Names, values: NDArray[Any], what: str) -> None:
    """Raise StudyInvalid if the readings of a case contradict each other in a fact of the case."""
    # The first reading of a case sets what all others must have.
    value_by_case: dict[str, Any] = {}
    for case, value in zip(cases.tolist(), values.tolist(), strict=True):
        first = value_by_case.setdefault(case, value)
        if value != first:
            raise StudyInvalid(
                f"Expected one {what} for each case, but case {case} has {first} and {value}. "
                "Correct its readings."
            )


def _checked_score(values: Any, readers: Names, cases: Names) -> Floats:
    scores = []
    for place, value in enumerate(np.asarray(values).tolist()):
        # None and text are no numbers, and NaN has no place in an order of scores.
        is_number = isinstance(value, int | float)
        if not is_number or not math.isfinite(value):
            raise StudyInvalid(
                f"Expected a finite number as the score of each reading but got {value!r} for case "
                f"{cases[place]}, reader {readers[place]}. Enter it, or leave out this reading."
            )
        scores.append(float(value))
    return _read_only(np.array(scores, np.float64))


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    values.setflags(write=False)
    return values
