"""Compares readers alone, the model alone, and readers with the model.

All three decide about the same readings: refer or not. Intervals are percentiles of draws of
patients, because the cases of a patient resemble each other, and so do several readings of a case.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import StudyInvalid
from cadlib.metrics.classification import Bools, Floats
from cadlib.metrics.study_readings import (
    check_lengths,
    check_one_value,
    checked_flags,
    checked_names,
)
from cadlib.metrics.summary import DRAWS, bootstrap, distinct_ends

ALONE = "reader alone"
MODEL = "model alone"
WITH_MODEL = "reader with model"
DECIDERS = (ALONE, MODEL, WITH_MODEL)
COMPARED = ((ALONE, MODEL), (ALONE, WITH_MODEL), (MODEL, WITH_MODEL))
"""The pairs of deciders of a difference, the second minus the first."""
METRICS = ("sensitivity", "specificity", "balanced accuracy")

Names = NDArray[np.str_]
_Metric = Callable[[Floats, Bools, Bools], Floats]
"""Computes a metric of decisions and outcomes for D draws with (D, N) weights."""
_Statistic = Callable[[Floats], Floats]
"""Computes a value of the readings for D draws with (D, N) weights."""


@dataclass(frozen=True, eq=False)
class PairedReadings:
    """N readings with a known outcome, each before and after the model's result.

    `patient`, `reader` and `case` are (N,) names, `malignant` is the outcome. `before`, `after` and
    `model` are (N,) bool, true for a decision to refer. The arrays become read-only copies.

    Raise StudyInvalid for lengths that differ, a missing name or value, a case with two outcomes or
    two decisions of the model, and a reader who reads a case twice.
    """

    patient: Names
    reader: Names
    case: Names
    malignant: Bools
    before: Bools
    after: Bools
    model: Bools

    def __post_init__(self) -> None:
        flags = ("malignant", "before", "after", "model")
        check_lengths(self, ("patient", "reader", "case", *flags))
        reader = checked_names(self.reader, "reader")
        case = checked_names(self.case, "case")
        # A frozen dataclass takes no other assignment.
        object.__setattr__(self, "patient", checked_names(self.patient, "patient"))
        object.__setattr__(self, "reader", reader)
        object.__setattr__(self, "case", case)
        for flag in flags:
            values = checked_flags(getattr(self, flag), flag, reader, case)
            object.__setattr__(self, flag, values)
        check_one_value(case, self.patient, "patient")
        check_one_value(case, self.malignant, "truth")
        check_one_value(case, self.model, "decision of the model")
        self._check_repeats()

    def _check_repeats(self) -> None:
        readings = zip(self.reader.tolist(), self.case.tolist(), strict=True)
        for (reader, case), count in Counter(readings).items():
            if count > 1:
                raise StudyInvalid(
                    f"Expected each reader to read a case once, but reader {reader} has {count} "
                    f"readings of case {case}. Leave out all but one of them."
                )

    def decisions(self, decider: str) -> Bools:
        """Return the decisions of one of DECIDERS, (N,) bool."""
        return {ALONE: self.before, MODEL: self.model, WITH_MODEL: self.after}[decider]


@dataclass(frozen=True)
class Result:
    """A value with its 95 % interval, from `n` readings; NaN and None where undefined."""

    value: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Moves:
    """How the model's result moved the readers.

    `to_wrong` is the share of correct first readings that became wrong, with its number
    `n_to_wrong`; `to_correct` is the share of wrong first readings that became correct.
    """

    to_wrong: Result
    n_to_wrong: int
    to_correct: Result
    n_to_correct: int


@dataclass(frozen=True)
class ReaderResults:
    """The comparison of `compare_readers`.

    `metrics` has a Result by decider and metric. `differences` has those of each pair of deciders,
    second minus first (COMPARED), by metric; their readings are paired.
    """

    n_readings: int
    n_readers: int
    n_patients: int
    metrics: Mapping[str, Mapping[str, Result]]
    differences: Mapping[tuple[str, str], Mapping[str, Result]]
    moves: Moves


def compare_readers(readings: PairedReadings) -> ReaderResults:
    """Compare the three deciders, and count how often the model moved a reader."""
    metrics = {}
    for decider in DECIDERS:
        metrics[decider] = _results(readings, readings.decisions(decider))
    differences = {}
    for reference, decider in COMPARED:
        differences[reference, decider] = _results(
            readings,
            readings.decisions(decider),
            readings.decisions(reference),
        )
    return ReaderResults(
        n_readings=len(readings.reader),
        n_readers=len(set(readings.reader.tolist())),
        n_patients=len(set(readings.patient.tolist())),
        metrics=metrics,
        differences=differences,
        moves=_moves(readings),
    )


def _results(
    readings: PairedReadings,
    decided: Bools,
    reference: Bools | None = None,
) -> dict[str, Result]:
    """Return each metric of these decisions, or its difference to those of a reference."""
    results = {}
    for name, metric in _METRICS.items():
        statistic = _value(metric, decided, readings.malignant)
        if reference is not None:
            # In the same draws: the readings are paired.
            statistic = _difference(statistic, _value(metric, reference, readings.malignant))
        results[name] = _result(readings, statistic, _n_counted(name, readings))
    return results


def _sensitivity(weights: Floats, decided: Bools, malignant: Bools) -> Floats:
    return _share(weights, decided, malignant)


def _specificity(weights: Floats, decided: Bools, malignant: Bools) -> Floats:
    return _share(weights, ~decided, ~malignant)


def _balanced_accuracy(weights: Floats, decided: Bools, malignant: Bools) -> Floats:
    sensitivity = _sensitivity(weights, decided, malignant)
    specificity = _specificity(weights, decided, malignant)
    balanced: Floats = (sensitivity + specificity) / 2
    return balanced


_METRICS: dict[str, _Metric] = dict(
    zip(METRICS, (_sensitivity, _specificity, _balanced_accuracy), strict=True)
)


def _share(weights: Floats, chosen: Bools, among: Bools) -> Floats:
    """Return the weighted share of `among` that is `chosen`, (D,); NaN where there is none."""
    total = weights @ among.astype(np.float64)
    part = weights @ (chosen & among).astype(np.float64)
    # A draw may have no malignant reading, and a study none at all.
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Floats = part / total
    return share


def _value(metric: _Metric, decided: Bools, malignant: Bools) -> _Statistic:
    """Return the statistic of a metric of these decisions."""
    return lambda weights: metric(weights, decided, malignant)


def _difference(value: _Statistic, reference: _Statistic) -> _Statistic:
    """Return the difference of two statistics in the same draws."""
    return lambda weights: value(weights) - reference(weights)


def _n_counted(metric: str, readings: PairedReadings) -> int:
    """Return the number of readings that a metric rests on."""
    n = len(readings.malignant)
    n_malignant = int(readings.malignant.sum())
    return {"sensitivity": n_malignant, "specificity": n - n_malignant}.get(metric, n)


def _moves(readings: PairedReadings) -> Moves:
    # A reading is correct if it refers a malignant lesion, or does not refer a benign one.
    was_correct = readings.before == readings.malignant
    is_correct = readings.after == readings.malignant
    to_wrong = was_correct & ~is_correct
    to_correct = ~was_correct & is_correct

    return Moves(
        to_wrong=_result(
            readings,
            lambda weights: _share(weights, to_wrong, was_correct),
            int(was_correct.sum()),
        ),
        n_to_wrong=int(to_wrong.sum()),
        to_correct=_result(
            readings,
            lambda weights: _share(weights, to_correct, ~was_correct),
            int((~was_correct).sum()),
        ),
        n_to_correct=int(to_correct.sum()),
    )


def _result(readings: PairedReadings, statistic: _Statistic, n: int) -> Result:
    """Return a statistic of all readings, with its interval over draws of patients."""
    # All readings, each once, as a draw.
    every = np.ones((1, len(readings.malignant)))
    [value] = statistic(every).tolist()
    _, patients = np.unique(readings.patient, return_inverse=True)
    # One patient gives no idea of how much patients differ.
    if len(set(patients.tolist())) < 2:
        return Result(value, None, n)
    drawn = [statistic(weights) for weights in bootstrap(patients, DRAWS)]
    return Result(value, distinct_ends(np.concatenate(drawn)), n)
