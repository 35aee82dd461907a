"""Divides ages into bands."""

from typing import TYPE_CHECKING

# The import takes a third of a second, and reading a model does not need it.
if TYPE_CHECKING:
    import pandas as pd

AGE_BANDS = (0, 30, 45, 60, 75, 121)
"""Years; a band includes its lower end and excludes its upper end."""


def age_bands(ages: "pd.Series[float]") -> "pd.Series[str]":
    """Return the age band of each image as text ("30 to 44"), missing where the age is."""
    import pandas as pd  # noqa: PLC0415 - as above

    years = ages.astype("float64")
    bands = pd.cut(years, AGE_BANDS, right=False)
    names = {}
    for band in bands.cat.categories:
        # The right end of a band is not part of it.
        last_year = band.right - 1
        names[band] = f"{band.left:.0f} to {last_year:.0f}"
    # As objects, because a map of categories would return categories.
    words = bands.astype("object").map(names)
    return words.astype("str")
