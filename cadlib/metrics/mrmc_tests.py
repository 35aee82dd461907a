"""Tests means of modalities and gives their 95 % intervals.

Infinite degrees of freedom stand for the normal distribution, and for the chi-square distribution
that belongs to it.
"""

import math
from dataclasses import dataclass

import numpy as np

from cadlib.metrics.summary import LEVEL

_ROUNDING = 1e-24
"""Mean squares below are rounding errors of 0: the metrics of 10,000 cases differ by over 1e-10."""


@dataclass(frozen=True)
class FTest:
    """A test of equal means: F, its degrees of freedom, and the p value.

    With `df2` infinite, `f * df1` is a chi-square statistic with `df1` degrees of freedom.
    """

    f: float
    df1: int
    df2: float
    p_value: float


@dataclass(frozen=True)
class MeanDifference:
    """The mean of the second modality minus that of the first, with a two-sided t test of 0."""

    first: str
    second: str
    difference: float
    standard_error: float
    df: float
    t: float
    p_value: float
    low: float
    high: float


@dataclass(frozen=True)
class ModalityMean:
    """The mean of a modality over readers. Its interval is cut off at 0 and 1."""

    modality: str
    mean: float
    standard_error: float
    df: float
    low: float
    high: float


def hillis_df(reader_square: float, error: float, df: float) -> float:
    """Return the denominator degrees of freedom of Hillis 2007, there ddf_H.

    `error` is `reader_square`, a mean square of `df` degrees of freedom, plus the part of the
    cases. Without a reader variance the degrees are infinite.
    """
    if reader_square <= _ROUNDING:
        return math.inf if error > _ROUNDING else math.nan
    ratio = error / reader_square
    return df * ratio**2


def f_test(mean_square: float, error: float, df1: int, df2: float) -> FTest:
    """Test whether all modalities have the same mean.

    Equal means have p = 1, also where the error is 0. Different means with an error of 0 have no
    test: nothing shows how far chance could move them.
    """
    # Imported here because it takes a second, and an assessment of one image needs no test.
    from scipy.stats import chi2, f  # noqa: PLC0415

    if mean_square <= _ROUNDING and error >= 0:
        return FTest(0.0, df1, df2, 1.0)
    if error <= _ROUNDING:
        return FTest(math.nan, df1, df2, math.nan)
    statistic = mean_square / error
    p_value = f.sf(statistic, df1, df2)
    # scipy's F distribution takes no infinite degrees of freedom.
    if math.isinf(df2):
        chi_square = statistic * df1
        p_value = chi2.sf(chi_square, df1)
    return FTest(statistic, df1, df2, float(p_value))


def mean_difference(
    first: str,
    second: str,
    difference: float,
    variance: float,
    df: float,
) -> MeanDifference:
    """Return a difference with its test and interval; `variance` is that of the difference."""
    # Imported here as in `f_test`.
    from scipy.stats import t  # noqa: PLC0415

    standard_error = _root(variance)
    low, high = _interval(difference, standard_error, df)
    # As in `f_test`: no difference has p = 1, a difference without an error has no test.
    if difference**2 <= _ROUNDING and variance >= 0:
        statistic = 0.0
        p_value = 1.0
    elif variance <= _ROUNDING:
        statistic = math.nan
        p_value = math.nan
    else:
        statistic = difference / standard_error
        tail = t.sf(abs(statistic), df)
        p_value = 2 * float(tail)
    return MeanDifference(
        first=first,
        second=second,
        difference=difference,
        standard_error=standard_error,
        df=df,
        t=statistic,
        p_value=p_value,
        low=low,
        high=high,
    )


def modality_mean(modality: str, mean: float, variance: float, df: float) -> ModalityMean:
    """Return a mean with its interval; `variance` is that of the mean."""
    standard_error = _root(variance)
    low, high = _interval(mean, standard_error, df)
    return ModalityMean(
        modality=modality,
        mean=mean,
        standard_error=standard_error,
        df=df,
        # The metrics are shares or areas, so no mean lies outside 0 to 1.
        low=float(np.clip(low, 0, 1)),
        high=float(np.clip(high, 0, 1)),
    )


def _root(variance: float) -> float:
    # An estimate of a variance can be negative, which no standard error is.
    if variance >= 0:
        return math.sqrt(variance)
    return math.nan


def _interval(value: float, standard_error: float, df: float) -> tuple[float, float]:
    """Return low and high end; NaN without an error, which shows no distance from the truth."""
    # Imported here as in `f_test`.
    from scipy.stats import t  # noqa: PLC0415

    if not standard_error**2 > _ROUNDING:
        return math.nan, math.nan
    upper_tail = (1 + LEVEL) / 2
    quantile = t.ppf(upper_tail, df)
    half_width = float(quantile) * standard_error
    return value - half_width, value + half_width
