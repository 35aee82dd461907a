"""Compares modalities that several readers used on the same cases.

The method is the analysis of variance of Obuchowski and Rockette 1995 (Commun. Stat. Simul. Comput.
24:285) with the degrees of freedom of Hillis 2007 (Stat. Med. 26:596) and the bounds on variance
components of Hillis, Berbaum and Metz 2008 (Acad. Radiol. 15:647). A modality is a way of reading,
such as the reader alone or the reader with the model. Each reader reads each case in each modality.

The three analyses differ in what their result applies to:

- random readers and random cases: all similar readers and cases;
- fixed readers and random cases: all similar cases, but only these readers;
- random readers and fixed cases: all similar readers, but only these cases.

A value that is not defined, such as the variance over a single reader, is NaN, never 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cadlib.errors import StudyInvalid
from cadlib.metrics.classification import Bools, Floats
from cadlib.metrics.crossed_scores import CrossedScores, crossed_scores
from cadlib.metrics.mrmc_components import (
    MeanSquares,
    SingleModality,
    VarianceComponents,
    mean_squares,
    single_modality,
    single_reader,
    variance_components,
)
from cadlib.metrics.mrmc_covariances import (
    auc_values,
    delong_covariances,
    jackknife_covariances,
    share_covariances,
    shares,
)
from cadlib.metrics.mrmc_tests import (
    FTest,
    MeanDifference,
    ModalityMean,
    f_test,
    hillis_df,
    mean_difference,
    modality_mean,
)
from cadlib.metrics.study_readings import StudyReadings

MetricName = Literal["auc", "sensitivity", "specificity"]
CovarianceMethod = Literal["delong", "jackknife"]
FEWEST_MODALITIES = 2


@dataclass(frozen=True)
class Analysis:
    """One of the three analyses.

    `test` is that of equal means of all modalities. `differences` has each pair of modalities once,
    the later minus the earlier. `means` has each modality, estimated from its own readings alone.
    """

    test: FTest
    differences: tuple[MeanDifference, ...]
    means: tuple[ModalityMean, ...]


@dataclass(frozen=True, eq=False)
class ModalityComparison:
    """The comparison of T modalities that R readers used.

    `values` is (T, R) float64, read-only: the metric of each modality and reader. Modalities and
    readers are in the order in which the readings name them first. `by_reader` has the differences
    of each reader alone, with these readers fixed.
    """

    metric: MetricName
    covariance_method: CovarianceMethod
    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    n_malignant: int
    n_benign: int
    values: Floats
    mean_squares: MeanSquares
    components: VarianceComponents
    random_readers_random_cases: Analysis
    fixed_readers_random_cases: Analysis
    random_readers_fixed_cases: Analysis
    by_reader: Mapping[str, tuple[MeanDifference, ...]]


@dataclass(frozen=True, eq=False)
class _Measured:
    """The metric of each modality and reader, (T, R), and what is estimated from it.

    `covariances` is (T, R, T, R). `singles` has the estimates of each modality alone.
    """

    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    values: Floats
    covariances: Floats
    squares: MeanSquares
    components: VarianceComponents
    singles: tuple[SingleModality, ...]


@dataclass(frozen=True)
class _Error:
    """The error term of an analysis: R times the variance of a mean, and degrees of freedom."""

    square: float
    df: float


def compare_modalities(
    readings: StudyReadings,
    metric: MetricName = "auc",
    covariance_method: CovarianceMethod = "delong",
) -> ModalityComparison:
    """Compare the modalities of a study in a metric.

    Sensitivity and specificity need scores of 1 (refer) and 0; both covariance methods give the
    same there. Without a malignant or a benign case, what needs one is NaN.

    Raise StudyInvalid for fewer than two modalities, a missing reading, and scores that are no
    decisions where the metric needs decisions.
    """
    crossed = crossed_scores(readings)
    n_modalities = len(crossed.modalities)
    if n_modalities < FEWEST_MODALITIES:
        raise StudyInvalid(
            f"Expected at least {FEWEST_MODALITIES} modalities to compare but got "
            f"{n_modalities}. Add the readings of another modality."
        )
    measured = _measure(crossed, metric, covariance_method)
    n_malignant = int(crossed.malignant.sum())
    return ModalityComparison(
        metric=metric,
        covariance_method=covariance_method,
        modalities=crossed.modalities,
        readers=crossed.readers,
        n_malignant=n_malignant,
        n_benign=len(crossed.cases) - n_malignant,
        values=measured.values,
        mean_squares=measured.squares,
        components=measured.components,
        random_readers_random_cases=_random_readers_random_cases(measured),
        fixed_readers_random_cases=_fixed_readers_random_cases(measured),
        random_readers_fixed_cases=_random_readers_fixed_cases(measured),
        by_reader=_differences_by_reader(measured),
    )


def _measure(
    crossed: CrossedScores,
    metric: MetricName,
    covariance_method: CovarianceMethod,
) -> _Measured:
    n_modalities, n_readers, n_cases = crossed.scores.shape
    # All pairs of a modality and a reader in rows: each pair of rows has a covariance.
    rows = crossed.scores.reshape(n_modalities * n_readers, n_cases)
    row_values, row_covariances = _estimates(rows, crossed.malignant, metric, covariance_method)
    shape = (n_modalities, n_readers)
    values = row_values.reshape(shape)
    covariances = row_covariances.reshape(shape + shape)
    # The values leave this module as they are.
    values.setflags(write=False)
    squares = mean_squares(values)
    singles = []
    for place in range(n_modalities):
        single = single_modality(values, covariances, place)
        singles.append(single)
    return _Measured(
        modalities=crossed.modalities,
        readers=crossed.readers,
        values=values,
        covariances=covariances,
        squares=squares,
        components=variance_components(covariances, squares),
        singles=tuple(singles),
    )


def _estimates(
    rows: Floats,
    malignant: Bools,
    metric: MetricName,
    covariance_method: CovarianceMethod,
) -> tuple[Floats, Floats]:
    """Return the metric of each of K rows of scores, (K,), and its covariances, (K, K)."""
    if metric != "auc":
        correct = _correct_decisions(rows, malignant, metric)
        return shares(correct), share_covariances(correct)
    areas = auc_values(rows, malignant)
    if covariance_method == "delong":
        return areas, delong_covariances(rows, malignant)
    return areas, jackknife_covariances(rows, malignant)


def _correct_decisions(
    rows: Floats,
    malignant: Bools,
    metric: MetricName,
) -> Floats:
    """Return 1 for each correct decision on the malignant, or on the benign cases, and 0 else."""
    is_decision = np.isin(rows, (0, 1))
    if not is_decision.all():
        others = rows[~is_decision]
        raise StudyInvalid(
            f"Expected decisions of 0 or 1 for the {metric} but got a score of "
            f"{others[0]}. Apply a threshold to the scores first."
        )
    # The sensitivity needs malignant cases alone, the specificity benign ones.
    if metric == "sensitivity":
        return rows[:, malignant]
    return 1 - rows[:, ~malignant]


def _random_readers_random_cases(measured: _Measured) -> Analysis:
    n_modalities, n_readers = measured.values.shape
    squares = measured.squares
    components = measured.components
    error = _error_of_readers_and_cases(
        squares.modality_reader,
        (n_modalities - 1) * (n_readers - 1),
        components.cov2 - components.cov3,
        n_readers,
    )
    own_errors = []
    for single in measured.singles:
        own_error = _error_of_readers_and_cases(
            single.reader_square,
            n_readers - 1,
            single.cov2,
            n_readers,
        )
        own_errors.append(own_error)
    return _analysis(measured, error, own_errors)


def _fixed_readers_random_cases(measured: _Measured) -> Analysis:
    _, n_readers = measured.values.shape
    components = measured.components
    error = _error_of_cases(
        components.error - components.cov1,
        components.cov2 - components.cov3,
        n_readers,
    )
    own_errors = []
    for single in measured.singles:
        own_error = _error_of_cases(single.error, single.cov2, n_readers)
        own_errors.append(own_error)
    return _analysis(measured, error, own_errors)


def _random_readers_fixed_cases(measured: _Measured) -> Analysis:
    n_modalities, n_readers = measured.values.shape
    # With fixed cases no covariance is left: an ordinary analysis of variance of the readers.
    df = (n_modalities - 1) * (n_readers - 1)
    error = _Error(measured.squares.modality_reader, df)
    own_errors = []
    for single in measured.singles:
        own_error = _Error(single.reader_square, n_readers - 1)
        own_errors.append(own_error)
    return _analysis(measured, error, own_errors)


def _error_of_readers_and_cases(
    reader_square: float,
    df: int,
    covariance: float,
    n_readers: int,
) -> _Error:
    """Return the error of sampled readers and cases (Hillis 2007).

    `covariance` is that of two readers who read the same cases.
    """
    # No true covariance is negative, so a negative estimate counts as 0.
    shared_cases = n_readers * _at_least_zero(covariance)
    square = reader_square + shared_cases
    return _Error(square, hillis_df(reader_square, square, df))


def _error_of_cases(
    variance: float,
    covariance: float,
    n_readers: int,
) -> _Error:
    """Return the error of sampled cases with fixed readers, which is normal in large samples."""
    between_readers = 0.0
    # A single reader has no covariance with another one.
    if n_readers > 1:
        between_readers = (n_readers - 1) * _at_least_zero(covariance)
    return _Error(variance + between_readers, np.inf)


def _at_least_zero(value: float) -> float:
    # Built-in `max` hides a NaN, depending on the order of its arguments.
    return float(np.maximum(value, 0.0))


def _analysis(
    measured: _Measured,
    error: _Error,
    own_errors: list[_Error],
) -> Analysis:
    """Return the test, differences and means that belong to the errors of an analysis."""
    n_modalities, n_readers = measured.values.shape
    test = f_test(
        measured.squares.modality,
        error.square,
        n_modalities - 1,
        error.df,
    )
    modality_means = measured.values.mean(axis=1)
    # A difference has the error of two means, of R readers each.
    variance = 2 * error.square / n_readers
    differences = _differences(
        measured.modalities,
        modality_means,
        variance,
        error.df,
    )
    means = []
    for place, own_error in enumerate(own_errors):
        mean = modality_mean(
            measured.modalities[place],
            measured.singles[place].mean,
            own_error.square / n_readers,
            own_error.df,
        )
        means.append(mean)
    return Analysis(test, differences, tuple(means))


def _differences_by_reader(measured: _Measured) -> dict[str, tuple[MeanDifference, ...]]:
    """Return the differences of each reader, whose error rests on the reader's own readings."""
    by_reader = {}
    for place, reader in enumerate(measured.readers):
        single = single_reader(measured.covariances, place)
        # The same cases in both modalities: what they share cancels out.
        variance = 2 * (single.error - single.cov1)
        by_reader[reader] = _differences(
            measured.modalities,
            measured.values[:, place],
            variance,
            np.inf,
        )
    return by_reader


def _differences(
    modalities: tuple[str, ...],
    means: Floats,
    variance: float,
    df: float,
) -> tuple[MeanDifference, ...]:
    """Return the difference of each pair of modalities; all pairs have the same variance."""
    differences = []
    for first, second in _pairs(len(modalities)):
        difference = means[second] - means[first]
        tested = mean_difference(
            modalities[first],
            modalities[second],
            float(difference),
            variance,
            df,
        )
        differences.append(tested)
    return tuple(differences)


def _pairs(n: int) -> Iterator[tuple[int, int]]:
    """Yield each pair of the places 0 to n - 1, the smaller one first."""
    for first in range(n):
        for second in range(first + 1, n):
            yield first, second
