"""Searches a data set by facets, numbers and text.

It also counts the matches of each value of a facet.

Half a million rows are searched in a few hundredths of a second, because each row is looked at
once: how many conditions does it fail? A row that fails none matches. The count of a facet's value
includes the rows that fail no condition other than the facet's own.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from uuid import uuid4

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.image_ids import composed
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats
from cadlib.metrics.partial_labels import GROUPS, class_numbers, malignant_words
from cadlib.model.novelty import scores_of
from cadlib.taxonomy import CODES, UNKNOWN

FACETS = (
    "diagnosis",
    "malignancy",
    "said",
    "verdict",
    "archive",
    "anatom_site_general",
    "sex",
    "split",
)
NUMBERS = ("age_approx", "short_side_px", "confidence", "risk", "uncertainty", "loss", "novelty")
"""The columns of `described`: facets are searched by value, numbers by range."""
STEPS = {"age_approx": 5.0, "short_side_px": 50.0, "confidence": 0.05}
"""The numbers that are also counted, with the bin width: years, pixels and probability."""
RIGHT = "right"
WRONG = "wrong"
NOT_GIVEN = "not given"
Rows = NDArray[np.int32]
Mask = NDArray[np.bool_]


def described(
    table: pd.DataFrame,
    split: pd.DataFrame | None = None,
    predictions: pd.DataFrame | None = None,
) -> "Catalogue":
    """Return the catalogue of a data set's table, with a model's split and predictions if passed.

    `split` has the columns image and split; `predictions` has image, the eight codes and UNK, as
    `predictions.predictions_table` returns them. The values of an image in neither are missing.

    These columns are added:
    `short_side_px`;
    `malignancy`, "malignant" or "benign";
    `split`;
    `said`, the top diagnosis;
    `verdict`, right or wrong, where the true diagnosis is one of the eight;
    `confidence`, the probability of the top diagnosis;
    `risk`, the malignant probability;
    `uncertainty`, the entropy of the eight probabilities, 0 to 1;
    `loss`, -ln p of the label: of the true diagnosis, or without one of the true group;
    `novelty`, the score of `cadlib.model.novelty` with its limit of 1, computed from UNK.
    """
    columns = {
        "short_side_px": table[["width_px", "height_px"]].min(axis=1),
        "malignancy": malignant_words(table),
    }
    if split is not None:
        split_by_image = split.set_index("image")["split"]
        columns["split"] = table["image"].map(split_by_image)
    table = table.assign(**columns)
    if predictions is not None:
        judged = _judged(table, predictions)
        table = table.merge(
            judged,
            "left",
            "image",
            validate="1:1",
        )
    facets = tuple(name for name in FACETS if name in table)
    numbers = tuple(name for name in NUMBERS if name in table)
    return Catalogue(table, facets, numbers)


def _judged(table: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that `described` derives from predictions, with `image`."""
    shares = predictions[list(CODES)].to_numpy(np.float64)
    risk = classification.malignant_probability(shares)
    truth_by_image = table.set_index("image")["diagnosis"]
    truth = predictions["image"].map(truth_by_image)
    diagnosed = truth.isin(CODES).to_numpy(bool)
    top_places = shares.argmax(axis=1)
    top = np.array(CODES)[top_places]
    group_by_image = malignant_words(table).set_axis(table["image"])
    group = predictions["image"].map(group_by_image)
    unknown_shares = predictions[UNKNOWN].to_numpy(np.float64)
    is_right = top == truth
    return pd.DataFrame(
        {
            "image": predictions["image"].to_numpy(),
            "said": top,
            "verdict": _verdicts(is_right, diagnosed),
            "confidence": shares.max(axis=1),
            "risk": risk,
            "uncertainty": _relative_entropy(shares),
            "loss": _losses(shares, truth, diagnosed, risk, group),
            "novelty": scores_of(unknown_shares),
        }
    )


def _verdicts(right: "pd.Series[bool]", diagnosed: Mask) -> pd.api.extensions.ExtensionArray:
    """Return right or wrong for each prediction, (N,), missing where there is no diagnosis."""
    verdicts = np.where(right, RIGHT, WRONG).astype(object)
    verdicts[~diagnosed] = None
    return pd.array(verdicts, "str")


def _relative_entropy(shares: Floats) -> Floats:
    """Return the entropy of (N, 8) probabilities as a share of the highest possible, (N,)."""
    # The limit of p ln p for p towards 0 is 0, but NumPy would compute NaN.
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(shares > 0, np.log(shares), 0)
    entropy = -(shares * logs).sum(axis=1)
    relative: Floats = entropy / np.log(len(CODES))
    return relative


def _losses(
    shares: Floats,
    truth: "pd.Series[str]",
    diagnosed: Mask,
    risk: Floats,
    group: "pd.Series[str]",
) -> Floats:
    """Return -ln p of the label of each image, (N,), NaN without a label.

    `truth` is the true diagnosis where `diagnosed`; elsewhere `group`, malignant or benign, is the
    label. `risk` is the malignant probability.
    """
    # The first code is a placeholder: its probability is not used below.
    code = truth.where(diagnosed, CODES[0])
    place = class_numbers(code)
    rows = np.arange(len(shares))
    of_the_diagnosis = shares[rows, place]
    is_malignant = group == GROUPS[True]
    of_the_group = np.where(is_malignant, risk, 1 - risk)
    of_the_label = np.where(diagnosed, of_the_diagnosis, of_the_group)
    # The smallest float32 keeps the logarithm of a probability of 0 finite.
    smallest = np.finfo(np.float32).tiny
    of_the_label = np.maximum(of_the_label, smallest)
    losses = -np.log(of_the_label)
    return np.where(group.notna(), losses, np.nan)


@dataclass(frozen=True)
class Query:
    """The conditions and the order of a search in a catalogue.

    `chosen` has the allowed values of each facet (none: all). `ranges` has the least and the
    greatest value of a number, both included. `text` is a part of the image id, in upper or lower
    case. `order` is a column of numbers, "" for the order of the table; missing numbers come last
    in both directions.
    """

    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    text: str = ""
    order: str = ""
    descending: bool = True


@dataclass(frozen=True, eq=False)
class Spread:
    """The histogram of a number.

    `counts`, (bins,), has the number of rows from `low` + i `step` to below the next bin, and
    `missing` the number of rows without a value.
    """

    low: float
    step: float
    counts: NDArray[np.int64]
    missing: int


@dataclass(frozen=True, eq=False)
class Answer:
    """The matching rows of a search, and the counts of each facet.

    `rows`, (n,) int32, has their places in the table, in the order of the query. `counts` is
    facet -> value -> number of rows that have it and meet every other condition; `spreads` has the
    same counts of numbers.
    """

    rows: Rows
    counts: Mapping[str, Mapping[str, int]]
    spreads: Mapping[str, Spread]


class Catalogue:
    """A table that can be searched by its `image` column and the named facets and numbers.

    `key` distinguishes it from every other catalogue.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        facets: tuple[str, ...],
        numbers: tuple[str, ...],
    ) -> None:
        """Prepare a table; raise ValueError for a missing column."""
        lacking = [name for name in ("image", *facets, *numbers) if name not in table]
        if lacking:
            raise ValueError(
                f"Expected columns {', '.join(lacking)} in the table "
                f"but it has {', '.join(table.columns)}."
            )
        self.table = table
        self.key = uuid4().hex
        self._facets = {}
        for name in facets:
            column = table[name]
            self._facets[name] = _coded(column)
        self._numbers = {}
        for name in numbers:
            column = table[name]
            self._numbers[name] = column.to_numpy(np.float32, na_value=np.nan)
        self._orders: dict[str, Rows] = {}
        self._bins = {}
        for name, step in STEPS.items():
            # A number that is missing, or always the same, needs no histogram.
            if self.span(name):
                values = self._numbers[name]
                self._bins[name] = _binned(values, step)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def facets(self) -> tuple[str, ...]:
        """Return the facets with more than one value."""
        names = []
        for name in self._facets:
            values = self.values(name)
            # A facet with one value cannot narrow a search.
            if len(values) > 1:
                names.append(name)
        return tuple(names)

    def values(self, facet: str) -> tuple[str, ...]:
        """Return the values of a facet, sorted, NOT_GIVEN last."""
        _, values = self._facets[facet]
        return values

    def span(self, number: str) -> tuple[float, float] | None:
        """Return the least and the greatest value of a number.

        Return None if no row has a value, or all have the same one.
        """
        if number not in self._numbers:
            return None
        numbers = self._numbers[number]
        present = numbers[np.isfinite(numbers)]
        if not len(present):
            return None
        least = float(present.min())
        greatest = float(present.max())
        if least == greatest:
            return None
        return least, greatest

    def count(
        self,
        facet: str,
        rows: Rows | Mask,
    ) -> dict[str, int]:
        """Return how many of these rows, places or a mask, have each value of a facet."""
        codes, values = self._facets[facet]
        codes_of_rows = codes[rows]
        # A value that no row has is counted, too: 0.
        n_values = len(values)
        counts = np.bincount(codes_of_rows, minlength=n_values)
        return dict(zip(values, counts.tolist(), strict=True))

    def holds(self, images: Collection[str]) -> Mask:
        """Return which rows are of these ids, (N,)."""
        ids = self.table["image"]
        is_listed = ids.isin(images)
        return is_listed.to_numpy(bool)

    def ask(self, query: Query, within: Mask | None = None) -> Answer:
        """Find the rows that match a query, among those of the mask `within`, (N,), if passed.

        The counts are of those rows, too. Raise ValueError for a facet or a number that is missing
        in this catalogue.
        """
        self._check_columns(query)
        fails = self._fails(query)
        failed = self._number_failed(fails, within)
        passed = failed == 0
        # A facet counts the rows that meet all conditions but its own.
        countable = {}
        for name, mask in fails.items():
            # A row that fails one condition, and fails this one, fails no other.
            countable[name] = passed | ((failed == 1) & mask)
        counts = {}
        for name in self.facets:
            counts[name] = self.count(name, countable.get(name, passed))
        spreads = {}
        for name in self._bins:
            spreads[name] = self._spread(name, countable.get(name, passed))
        return Answer(self._ordered(passed, query), counts, spreads)

    def _check_columns(self, query: Query) -> None:
        """Raise ValueError for a column of a query that is missing."""
        columns = {*query.chosen, *query.ranges}
        if query.order:
            columns.add(query.order)
        available = [*self._facets, *self._numbers]
        lacking = columns - set(available)
        if lacking:
            raise ValueError(
                f"Expected facets and numbers of this catalogue ({', '.join(available)}) "
                f"but got {', '.join(lacking)}."
            )

    def _fails(self, query: Query) -> dict[str, Mask]:
        """Return which rows fail each condition of a query, (N,), by the column."""
        fails = {}
        for name, values in query.chosen.items():
            if values:
                fails[name] = self._fails_facet(name, values)
        for name, ends in query.ranges.items():
            least, greatest = ends
            fails[name] = self._fails_range(name, least, greatest)
        if query.text:
            text = composed(query.text).lower()
            # A user types a part of an id, not a regular expression.
            matches = self._ids.str.contains(text, regex=False)
            fails["image"] = ~matches.to_numpy(bool)
        return fails

    def _number_failed(
        self,
        fails: Mapping[str, Mask],
        within: Mask | None,
    ) -> NDArray[np.uint8]:
        """Return how many conditions each row fails, (N,); 2 or more outside `within`."""
        failed = np.zeros(len(self), np.uint8)
        # With 2 a row outside counts for no facet either, see `ask`.
        if within is not None:
            failed[~within] = 2
        for mask in fails.values():
            failed += mask
        return failed

    def _ordered(self, passed: Mask, query: Query) -> Rows:
        """Return the places of the rows that passed, in the order of the query."""
        if not query.order:
            return np.flatnonzero(passed).astype(np.int32)
        ascending = self._order(query.order)
        rows = ascending[passed[ascending]]
        if not query.descending:
            # Missing numbers are last already.
            return rows
        # Missing numbers stay last, so only the others are reversed.
        numbers = self._numbers[query.order]
        n_present = int(np.isfinite(numbers[rows]).sum())
        present = rows[:n_present]
        missing = rows[n_present:]
        return np.concatenate([present[::-1], missing])

    @cached_property
    def _ids(self) -> "pd.Series[str]":
        ids = self.table["image"].astype("str")
        return ids.str.lower()

    def _spread(self, name: str, rows: Mask) -> Spread:
        low, bins, missing = self._bins[name]
        counts = np.bincount(bins[rows], minlength=missing + 1)
        return Spread(
            low=low,
            step=STEPS[name],
            counts=counts[:missing],
            missing=int(counts[missing]),
        )

    def _fails_facet(self, name: str, chosen: tuple[str, ...]) -> Mask:
        codes, values = self._facets[name]
        fails = ~np.isin(values, chosen)
        # Compared once for each value, not for each row.
        return fails[codes]

    def _fails_range(
        self,
        name: str,
        least: float,
        greatest: float,
    ) -> Mask:
        numbers = self._numbers[name]
        # The numbers are float32, so a bound has to be rounded in the same way.
        high_enough = numbers >= np.float32(least)
        low_enough = numbers <= np.float32(greatest)
        return ~(high_enough & low_enough)

    def _order(self, name: str) -> Rows:
        """Return the places of all rows by a number, ascending, missing numbers last."""
        # Sorted once, at the first query that needs this order.
        if name not in self._orders:
            # argsort puts NaN last
            places = np.argsort(self._numbers[name], kind="stable")
            self._orders[name] = places.astype(np.int32)
        return self._orders[name]


def _coded(column: "pd.Series[str]") -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """Return a column as codes, (N,), and the value of each code, NOT_GIVEN last."""
    values = sorted(column.dropna().unique())
    names = [str(value) for value in values]
    if column.isna().any():
        names.append(NOT_GIVEN)
    places = pd.Categorical(column, categories=values).codes
    # pandas gives missing values the code -1; here they follow the others.
    codes = np.where(places < 0, len(values), places)
    return codes.astype(np.uint16), tuple(names)


def _binned(
    numbers: NDArray[np.float32],
    step: float,
) -> tuple[float, NDArray[np.uint16], int]:
    """Return the bins of numbers.

    These are the start of the first bin, the bin of each number, (N,), and the bin of the missing
    numbers.
    """
    present = np.isfinite(numbers)
    # Without the small addition 0.15 / 0.05 would be just below 3.
    in_steps = numbers[present] / np.float32(step) + 1e-3
    places = np.floor(in_steps).astype(np.int64)
    first = int(places.min())
    last = int(places.max())
    missing = last - first + 1
    bins = np.full(len(numbers), missing, np.uint16)
    bins[present] = places - first
    return first * step, bins, missing
