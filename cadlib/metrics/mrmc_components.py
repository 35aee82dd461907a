"""Estimates mean squares and variance components of a reader study.

`values` is (T, R) float64, the metric of each modality and reader. `covariances` is (T, R, T, R),
the covariances of these values over cases. An estimate without data is NaN.
"""

from dataclasses import dataclass

import numpy as np

from cadlib.metrics.classification import Bools, Floats


@dataclass(frozen=True)
class MeanSquares:
    """The mean squares of the analysis of variance by modality and reader."""

    modality: float
    reader: float
    modality_reader: float


@dataclass(frozen=True)
class VarianceComponents:
    """The components of Obuchowski and Rockette 1995, as Hillis 2007 estimates them.

    `reader` (Var_R) and `modality_reader` (Var_TR) are variances over readers; an estimate can be
    negative. `error` is the variance of a value over cases. The covariances over cases are of one
    reader in two modalities (`cov1`), of two readers in one modality (`cov2`), and of two readers
    in two modalities (`cov3`).
    """

    reader: float
    modality_reader: float
    cov1: float
    cov2: float
    cov3: float
    error: float


@dataclass(frozen=True)
class SingleModality:
    """What is estimated from the readings of one modality alone."""

    mean: float
    reader_square: float
    error: float
    cov2: float


@dataclass(frozen=True)
class SingleReader:
    """What is estimated from the readings of one reader alone."""

    error: float
    cov1: float


def mean_squares(values: Floats) -> MeanSquares:
    """Return the mean squares of (T, R) values; NaN where they have no degree of freedom."""
    n_modalities, n_readers = values.shape
    # First the grand mean, so that equal values leave no rounding errors.
    deviations = values - values.mean()
    of_modality = deviations.mean(axis=1, keepdims=True)
    of_reader = deviations.mean(axis=0, keepdims=True)
    residual = deviations - of_modality - of_reader
    modality_df = n_modalities - 1
    reader_df = n_readers - 1
    # Every modality has a value of each reader, and every reader one of each modality.
    modality_squares = n_readers * of_modality**2
    reader_squares = n_modalities * of_reader**2
    return MeanSquares(
        modality=_mean_square(modality_squares, modality_df),
        reader=_mean_square(reader_squares, reader_df),
        modality_reader=_mean_square(residual**2, modality_df * reader_df),
    )


def variance_components(
    covariances: Floats,
    squares: MeanSquares,
) -> VarianceComponents:
    """Return the variance components of a study."""
    n_modalities, n_readers, _, _ = covariances.shape
    same_modality = _identity(n_modalities)[:, None, :, None]
    same_reader = _identity(n_readers)[None, :, None, :]
    # Each of the four kinds of pairs is the mean of its own part of the covariances.
    error = _mean_where(covariances, same_modality & same_reader)
    cov1 = _mean_where(covariances, ~same_modality & same_reader)
    cov2 = _mean_where(covariances, same_modality & ~same_reader)
    cov3 = _mean_where(covariances, ~same_modality & ~same_reader)
    # The expected mean squares of Obuchowski and Rockette 1995, solved for the two variances.
    reader_variance = (squares.reader - squares.modality_reader) / n_modalities
    error_of_residual = error - cov1 - cov2 + cov3
    return VarianceComponents(
        reader=reader_variance - cov1 + cov3,
        modality_reader=squares.modality_reader - error_of_residual,
        cov1=cov1,
        cov2=cov2,
        cov3=cov3,
        error=error,
    )


def single_modality(
    values: Floats,
    covariances: Floats,
    place: int,
) -> SingleModality:
    """Return the estimates of the modality at a place."""
    own_values = values[place]
    own_covariances = covariances[place, :, place, :]
    n_readers = len(own_values)
    mean = float(own_values.mean())
    reader_squares = (own_values - mean) ** 2
    same_reader = _identity(n_readers)
    return SingleModality(
        mean=mean,
        reader_square=_mean_square(reader_squares, n_readers - 1),
        error=_mean_where(own_covariances, same_reader),
        cov2=_mean_where(own_covariances, ~same_reader),
    )


def single_reader(covariances: Floats, place: int) -> SingleReader:
    """Return the estimates of the reader at a place."""
    own_covariances = covariances[:, place, :, place]
    same_modality = _identity(len(own_covariances))
    return SingleReader(
        error=_mean_where(own_covariances, same_modality),
        cov1=_mean_where(own_covariances, ~same_modality),
    )


def _identity(n: int) -> Bools:
    """Return (N, N) bool, true where row and column are the same."""
    return np.eye(n, dtype=np.bool_)


def _mean_square(squares: Floats, df: int) -> float:
    """Return the sum of squares per degree of freedom; NaN without one."""
    if not df:
        return np.nan
    total = float(squares.sum())
    return total / df


def _mean_where(covariances: Floats, mask: Bools) -> float:
    """Return the mean of the covariances that a mask selects; NaN if it selects none."""
    full_mask = np.broadcast_to(mask, covariances.shape)
    selected = covariances[full_mask]
    # One reader has no pair of readers, for example.
    if not len(selected):
        return np.nan
    return float(selected.mean())
