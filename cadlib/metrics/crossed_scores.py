"""Arranges the readings of a study by modality, reader and case."""

from dataclasses import dataclass

import numpy as np

from cadlib.errors import StudyInvalid
from cadlib.metrics.classification import Bools, Floats
from cadlib.metrics.study_readings import StudyReadings


@dataclass(frozen=True, eq=False)
class CrossedScores:
    """The scores of a study without gaps: `scores` is (T, R, C) float64, `malignant` (C,) bool."""

    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    scores: Floats
    malignant: Bools


def crossed_scores(readings: StudyReadings) -> CrossedScores:
    """Return the scores by modality, reader and case, each in the order of its first reading.

    Raise StudyInvalid for a missing reading, with its modality, reader and case.
    """
    modality_places = _places(readings.modality.tolist())
    reader_places = _places(readings.reader.tolist())
    case_places = _places(readings.case.tolist())
    modality_index = [modality_places[name] for name in readings.modality.tolist()]
    reader_index = [reader_places[name] for name in readings.reader.tolist()]
    case_index = [case_places[name] for name in readings.case.tolist()]
    shape = (len(modality_places), len(reader_places), len(case_places))
    # Scores are finite, so a missing reading stays the only NaN.
    scores = np.full(shape, np.nan)
    scores[modality_index, reader_index, case_index] = readings.score
    malignant = np.zeros(len(case_places), np.bool_)
    # All readings of a case have the same truth, so the last one decides nothing.
    malignant[case_index] = readings.malignant
    crossed = CrossedScores(
        modalities=tuple(modality_places),
        readers=tuple(reader_places),
        cases=tuple(case_places),
        scores=scores,
        malignant=malignant,
    )
    _check_complete(crossed)
    return crossed


def _places(names: list[str]) -> dict[str, int]:
    """Return the place of each name, in the order in which the names come first."""
    places: dict[str, int] = {}
    for name in names:
        places.setdefault(name, len(places))
    return places


def _check_complete(crossed: CrossedScores) -> None:
    # In the order of modalities, readers and cases, so that the same one is named each time.
    missing = np.argwhere(np.isnan(crossed.scores))
    if not len(missing):
        return
    modality_place, reader_place, case_place = missing[0].tolist()
    modality = crossed.modalities[modality_place]
    reader = crossed.readers[reader_place]
    case = crossed.cases[case_place]
    others = len(missing) - 1
    more = f" ({others:,} more readings are missing)" if others else ""
    raise StudyInvalid(
        f"Expected each reader to read each case in each modality, but reader {reader} has no "
        f"reading of case {case} in modality {modality}{more}. Add the missing readings, or leave "
        "out the reader or the case."
    )
