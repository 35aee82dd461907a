"""Age, sex and site of a patient's lesion, and the row of numbers that stands for them: zeros for what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import FactsRejected

if TYPE_CHECKING:  # a picture can bring facts, and is read without it
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
"""A site that is known less exactly -> those of SITES that it may be.

A data set keeps it, and facets and subgroups show it. The evidence of a model has no row for it
and treats it as missing: which of them it is, is not known.
"""
MAX_AGE_YEARS = 120
AGE_KNOTS_YEARS = (15, 30, 45, 60, 75, 90)
"""Between two knots an age counts for both, by its distance from them; beyond the ends for the nearest."""
FACTORS: dict[str, tuple[str, ...]] = {
    "age": tuple(f"age {knot}" for knot in AGE_KNOTS_YEARS),
    "sex": SEXES,
    "site": SITES,
}
FEATURES = tuple(feature for features in FACTORS.values() for feature in features)
"""The columns of a design matrix."""


@dataclass(frozen=True)
class PatientFacts:
    """What is known of the patient and the lesion's place; None where it is not known.

    `age_years` is 0 to 120, `sex` and `site` are terms of ISIC 2019 (SEXES, SITES), `site` also one of COARSE_SITES.
    Raise FactsRejected for anything else.
    """

    age_years: float | None = None
    sex: str | None = None
    site: str | None = None

    def __post_init__(self) -> None:
        age = self.age_years
        if age is not None and (
            isinstance(age, bool)
            or not isinstance(age, int | float)
            or not 0 <= age <= MAX_AGE_YEARS
        ):
            raise FactsRejected(
                f"Expected an age of 0 to {MAX_AGE_YEARS} years but got {age!r}; leave it away when it is not known."
            )
        sites = (*SITES, *COARSE_SITES)
        for what, value, terms in (("a sex", self.sex, SEXES), ("a site", self.site, sites)):
            if value is not None and value not in terms:
                raise FactsRejected(
                    f"Expected {what} of {', '.join(terms)} but got {value!r}; leave it away when it is not known."
                )

    @property
    def known(self) -> bool:
        """Say whether any fact is known."""
        return (self.age_years, self.sex, self.site) != (None, None, None)

    @property
    def usable(self) -> bool:
        """Tell whether a fact is known exactly enough for the evidence of a model."""
        return bool(self.design().any())

    def design(self) -> NDArray[np.float64]:
        """Return the facts as numbers: (len(FEATURES),) float64, zeros for what is missing."""
        age_years = np.nan if self.age_years is None else self.age_years
        row: NDArray[np.float64] = design([age_years], [self.sex], [self.site])[0]
        return row


NO_FACTS = PatientFacts()


def design_of(table: "pd.DataFrame") -> NDArray[np.float64]:
    """Return the design matrix of a dataset's table; a term outside ISIC 2019's, which its report names, is missing."""
    ages = table["age_approx"].astype("float64").to_numpy(np.float64)
    return design(ages, list(table["sex"]), list(table["anatom_site_general"]))


def design(
    age_years: Sequence[float] | NDArray[np.floating], sex: Sequence[object], site: Sequence[object]
) -> NDArray[np.float64]:
    """Return (N, len(FEATURES)) float64 of ages (NaN: missing), sexes and sites; a known one's columns sum to 1."""
    ages = np.asarray(age_years, np.float64)
    hats = np.stack(
        [np.interp(ages, AGE_KNOTS_YEARS, hat) for hat in np.eye(len(AGE_KNOTS_YEARS))], axis=1
    )
    hats[np.isnan(ages)] = 0.0
    return np.concatenate([hats, _one_hot(sex, SEXES), _one_hot(site, SITES)], axis=1)


def _one_hot(values: Sequence[object], terms: tuple[str, ...]) -> NDArray[np.float64]:
    return np.array(
        [[float(isinstance(value, str) and value == term) for term in terms] for value in values]
    )
