"""Defines age, sex and site of a patient's lesion, also as numbers.

Missing facts are zeros in the row of numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import FactsRejected

# An image with facts is read without pandas.
if TYPE_CHECKING:
    import pandas as pd

SEXES = ("female", "male")
SITES = (
    "anterior torso",
    "head/neck",
    "lateral torso",
    "lower extremity",
    "oral/genital",
    "palms/soles",
    "posterior torso",
    "upper extremity",
)
"""The values of `sex` and `anatom_site_general` in ISIC_2019_Training_Metadata.csv."""
COARSE_SITES = {"torso": ("anterior torso", "lateral torso", "posterior torso")}
"""A less exact site -> the sites of SITES that it may be.

A data set keeps a coarse site, and facets and subgroups show it. The evidence of a model has no row
for it and treats it as missing, because the exact site is not known.
"""
MAX_AGE_YEARS = 120
AGE_KNOTS_YEARS = (15, 30, 45, 60, 75, 90)
"""An age between two knots counts for both, by its distance from each. An age outside the range
counts for the nearest knot."""
FACTORS: dict[str, tuple[str, ...]] = {
    "age": tuple(f"age {knot}" for knot in AGE_KNOTS_YEARS),
    "sex": SEXES,
    "site": SITES,
}
FEATURES = tuple(feature for features in FACTORS.values() for feature in features)
"""The columns of a design matrix."""


@dataclass(frozen=True)
class PatientFacts:
    """Age and sex of the patient and the site of the lesion; None for a missing fact.

    `age_years` is 0 to 120, `sex` and `site` are terms of ISIC 2019 (SEXES, SITES). `site` may also
    be one of COARSE_SITES. Raise FactsRejected for anything else.
    """

    age_years: float | None = None
    sex: str | None = None
    site: str | None = None

    def __post_init__(self) -> None:
        _check_age(self.age_years)
        _check_term("a sex", self.sex, SEXES)
        sites = (*SITES, *COARSE_SITES)
        _check_term("a site", self.site, sites)

    @property
    def known(self) -> bool:
        """Return whether any fact is known."""
        return (self.age_years, self.sex, self.site) != (None, None, None)

    @property
    def usable(self) -> bool:
        """Return whether a fact is known exactly enough for the evidence of a model."""
        row = self.design()
        return bool(row.any())

    def design(self) -> NDArray[np.float64]:
        """Return the facts as numbers: (len(FEATURES),) float64, zeros for what is missing."""
        # `design` takes NaN as missing, because an array of numbers has no None.
        age_years = np.nan if self.age_years is None else self.age_years
        rows = design([age_years], [self.sex], [self.site])
        row: NDArray[np.float64] = rows[0]
        return row


def _check_age(age_years: Any) -> None:
    """Raise FactsRejected for an age that is no number of years in the range."""
    if age_years is None:
        return
    # In Python a bool is also an int.
    is_number = isinstance(age_years, int | float) and not isinstance(age_years, bool)
    if not is_number or not 0 <= age_years <= MAX_AGE_YEARS:
        raise FactsRejected(
            f"Expected an age of 0 to {MAX_AGE_YEARS} years, but got {age_years!r}. "
            "Leave it out when it is not known."
        )


def _check_term(
    what: str,
    value: Any,
    terms: tuple[str, ...],
) -> None:
    """Raise FactsRejected for a value that is not one of the terms."""
    if value is None or value in terms:
        return
    expected = ", ".join(terms)
    raise FactsRejected(
        f"Expected {what} of {expected}, but got {value!r}. Leave it out when it is not known."
    )


NO_FACTS = PatientFacts()


def design_of(table: "pd.DataFrame") -> NDArray[np.float64]:
    """Return the design matrix of a data set's table, (N, len(FEATURES)) float64.

    A term that ISIC 2019 does not define counts as missing. The report of the data set lists it.
    """
    ages = table["age_approx"].astype("float64")
    sexes = list(table["sex"])
    sites = list(table["anatom_site_general"])
    return design(ages.to_numpy(np.float64), sexes, sites)


def design(
    age_years: Sequence[float] | NDArray[np.floating],
    sex: Sequence[object],
    site: Sequence[object],
) -> NDArray[np.float64]:
    """Return the design matrix of ages (NaN: missing), sexes and sites.

    The result is (N, len(FEATURES)) float64. The columns of each factor sum to 1 where the fact is
    known, and are 0 where it is missing.
    """
    ages = np.asarray(age_years, np.float64)
    hats = []
    for hat in np.eye(len(AGE_KNOTS_YEARS)):
        weights = np.interp(ages, AGE_KNOTS_YEARS, hat)
        hats.append(weights)
    age_columns = np.stack(hats, axis=1)
    # Interpolation returns NaN there, and a missing fact is a row of zeros.
    is_missing = np.isnan(ages)
    age_columns[is_missing] = 0.0
    sex_columns = _one_hot(sex, SEXES)
    site_columns = _one_hot(site, SITES)
    columns = [age_columns, sex_columns, site_columns]
    return np.concatenate(columns, axis=1)


def _one_hot(values: Sequence[object], terms: tuple[str, ...]) -> NDArray[np.float64]:
    rows = []
    for value in values:
        # A missing value may be a type of pandas whose comparison gives no bool.
        is_text = isinstance(value, str)
        row = [float(is_text and value == term) for term in terms]
        rows.append(row)
    return np.array(rows)
