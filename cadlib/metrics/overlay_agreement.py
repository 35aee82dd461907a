"""Computes how far verdicts on saliency maps can be relied on.

Agreement is Cohen's kappa (Educational and Psychological Measurement 20 (1960) 37): 1 for equal
verdicts, 0 for as many equal ones as by chance. Intervals are percentiles of draws of patients,
because the images of a patient resemble each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from cadlib.metrics.summary import interval_ends

DRAWS = 1000
ACCEPTED = "on lesion"
"""The verdict that accepts a map."""

Texts = NDArray[np.object_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class VerdictPairs:
    """Two verdicts on each of N maps, and the patient of each, numbered from 0."""

    first: Texts
    second: Texts
    patients: Integers


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, from `n` pairs or maps; NaN and None where undefined."""

    value: float
    interval: tuple[float, float] | None
    n: int


def agreement(pairs: VerdictPairs, seed: int = 0) -> Estimate:
    """Return Cohen's kappa of pairs of verdicts.

    It is NaN without pairs, and where all verdicts are the same: chance alone would give that too.
    """

    def kappa(rows: Integers) -> float:
        return _kappa(pairs.first[rows], pairs.second[rows])

    return _estimate(kappa, pairs.patients, seed)


def equal_share(pairs: VerdictPairs, seed: int = 0) -> Estimate:
    """Return the share of pairs with the same verdict; NaN without pairs."""
    # As numbers, so that their mean is a share.
    is_equal = (pairs.first == pairs.second).astype(np.float64)
    return share(is_equal, pairs.patients, seed)


def accepted_share(verdicts: Texts, patients: Integers, seed: int = 0) -> Estimate:
    """Return the share of maps that readers accepted; NaN without maps."""
    is_accepted = (verdicts == ACCEPTED).astype(np.float64)
    return share(is_accepted, patients, seed)


def share(values: NDArray[np.float64], patients: Integers, seed: int = 0) -> Estimate:
    """Return the mean of values from 0 to 1 with its interval; NaN without values."""

    def mean(rows: Integers) -> float:
        return float(values[rows].mean()) if len(rows) else float("nan")

    return _estimate(mean, patients, seed)


def pairs_of_readers(
    readers: Sequence[str],
    maps: Sequence[str],
    verdicts: Sequence[str],
    patients: Sequence[int],
) -> VerdictPairs:
    """Return the verdicts of each pair of readers on each map that both have reviewed.

    A reader must have one verdict on a map: raise ValueError for two.
    """
    first: list[str] = []
    second: list[str] = []
    patient_of: list[int] = []
    for of_map in _rows_by_map(readers, maps).values():
        # In the order of names, so that the pair does not depend on who came first.
        for one, other in combinations(sorted(of_map), 2):
            first.append(verdicts[of_map[one]])
            second.append(verdicts[of_map[other]])
            patient_of.append(patients[of_map[one]])
    return VerdictPairs(
        first=np.array(first, object),
        second=np.array(second, object),
        patients=np.array(patient_of, np.int64),
    )


def _rows_by_map(readers: Sequence[str], maps: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the row of each reader by map; raise ValueError for two of one reader."""
    by_map: dict[str, dict[str, int]] = {}
    for row, (reader, name) in enumerate(zip(readers, maps, strict=True)):
        of_map = by_map.setdefault(name, {})
        # A repeated review is compared with the first one, not with those of others.
        if reader in of_map:
            raise ValueError(f"Expected one verdict of {reader} on {name}, but got two.")
        of_map[reader] = row
    return by_map


def _kappa(first: Texts, second: Texts) -> float:
    labels = {*first, *second}
    # With one verdict only, agreement by chance is 1 and kappa 0 / 0.
    if len(labels) < 2:
        return float("nan")
    return float(cohen_kappa_score(first.astype(str), second.astype(str)))


def _estimate(
    statistic: Callable[[Integers], float],
    patients: Integers,
    seed: int,
) -> Estimate:
    """Return a statistic of all rows, and its interval over draws of patients."""
    n = len(patients)
    value = statistic(np.arange(n))
    rows_of: dict[int, list[int]] = {}
    for row, patient in enumerate(patients.tolist()):
        rows_of.setdefault(patient, []).append(row)
    groups: list[Any] = [np.array(rows, np.int64) for rows in rows_of.values()]
    # One patient gives no idea of how much patients differ.
    if len(groups) < 2:
        return Estimate(value, None, n)
    # The same verdicts always have the same interval.
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        chosen = rng.integers(len(groups), size=len(groups))
        rows = np.concatenate([groups[place] for place in chosen])
        drawn.append(statistic(rows))
    return Estimate(value, interval_ends(np.array(drawn)), n)
