"""A data set as columns that are searched: facets with the counts that each choice would give, text, an order.

Half a million rows answer in a few hundredths of a second, for each row is looked at once: how many of the conditions
it fails. A row that fails none is found; a facet counts those that fail no other condition than its own.
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
from cadlib.metrics.partial_labels import GROUPS, malignant_words
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
"""The columns of `described` that are searched by their values, and by their size."""
STEPS = {"age_approx": 5.0, "short_side_px": 50.0, "confidence": 0.05}
"""The numbers that are counted, as facets are: years, pixels and probability that are counted together."""
RIGHT, WRONG = "right", "wrong"
NOT_GIVEN = "not given"
Rows = NDArray[np.int32]


def described(
    table: pd.DataFrame, split: pd.DataFrame | None = None, predictions: pd.DataFrame | None = None
) -> "Catalogue":
    """Return the catalogue of a data set's table, with a model's own split and its predictions where they are given.

    `split` has image and split, `predictions` image, the eight codes and UNK, as `predictions.predictions_table`; an
    image that is in neither has none. Added are `short_side_px`; `malignancy`, "malignant" or "benign"; `split`;
    `said`, the first diagnosis; `verdict`, right or wrong where the true diagnosis is one of the eight; `confidence`,
    the probability of the first; `risk`, the malignant probability; `uncertainty`, the entropy of the eight, 0 to 1;
    `loss`, -ln p of the label: of the true diagnosis, or without one of the group that is true; `novelty`,
    the score of `cadlib.model.novelty` with its limit of 1, which UNK stands for.
    """
    columns = {
        "short_side_px": table[["width_px", "height_px"]].min(axis=1),
        "malignancy": malignant_words(table),
    }
    if split is not None:
        columns["split"] = table["image"].map(split.set_index("image")["split"])
    table = table.assign(**columns)
    if predictions is not None:
        table = table.merge(_judged(table, predictions), "left", "image", validate="1:1")
    facets, numbers = (
        tuple(name for name in names if name in table) for names in (FACETS, NUMBERS)
    )
    return Catalogue(table, facets, numbers)


def _judged(table: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    shares = predictions[list(CODES)].to_numpy(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(shares > 0, np.log(shares), 0)
    said = np.array(CODES)[shares.argmax(axis=1)]
    truth = predictions["image"].map(table.set_index("image")["diagnosis"])
    known = truth.isin(CODES).to_numpy(bool)
    place = truth.where(known, CODES[0]).map(CODES.index).to_numpy(np.int64)
    risk = classification.malignant_probability(shares)
    group = predictions["image"].map(malignant_words(table).set_axis(table["image"]))
    of_the_group = np.where(group == GROUPS[True], risk, 1 - risk)
    of_the_true = np.where(known, shares[np.arange(len(shares)), place], of_the_group)
    of_the_true = np.maximum(of_the_true, np.finfo(np.float32).tiny)
    verdict = np.where(said == truth, RIGHT, WRONG).astype(object)
    verdict[~known] = None
    return pd.DataFrame(
        {
            "image": predictions["image"].to_numpy(),
            "said": said,
            "verdict": pd.array(verdict, "str"),
            "confidence": shares.max(axis=1),
            "risk": risk,
            "uncertainty": -(shares * logs).sum(axis=1) / np.log(len(CODES)),
            "loss": np.where(group.notna(), -np.log(of_the_true), np.nan),
            "novelty": scores_of(predictions[UNKNOWN].to_numpy(np.float64)),
        }
    )


@dataclass(frozen=True)
class Query:
    """What is asked of a catalogue.

    `chosen` has the values of each facet that may stand (none: all), `ranges` the least and greatest value of a number,
    both inside, `text` a part of the id in any case. `order` is a column of numbers, "" for that of the table;
    missing numbers come last either way.
    """

    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    text: str = ""
    order: str = ""
    descending: bool = True


@dataclass(frozen=True, eq=False)
class Spread:
    """How many rows have a number from `low` + i `step` to before the next one: `counts`, (bins,); and have none."""

    low: float
    step: float
    counts: NDArray[np.int64]
    missing: int


@dataclass(frozen=True, eq=False)
class Answer:
    """The places in the table of the rows found, (n,) int32 in the order asked for, and the counts of each facet.

    `counts` is facet -> value -> how many rows have it that pass every other condition; `spreads` the same of numbers.
    """

    rows: Rows
    counts: Mapping[str, Mapping[str, int]]
    spreads: Mapping[str, Spread]


class Catalogue:
    """A table, ready to be searched by its `image` column, the facets and the numbers that are named.

    `key` tells it from every other catalogue.
    """

    def __init__(
        self, table: pd.DataFrame, facets: tuple[str, ...], numbers: tuple[str, ...]
    ) -> None:
        """Prepare a table; raise ValueError for a column that it lacks."""
        if lacking := [name for name in ("image", *facets, *numbers) if name not in table]:
            raise ValueError(
                f"Expected columns {', '.join(lacking)} in the table but it has {', '.join(table.columns)}."
            )
        self.table, self.key = table, uuid4().hex
        self._facets = {name: _coded(table[name]) for name in facets}
        self._numbers = {
            name: table[name].to_numpy(np.float32, na_value=np.nan) for name in numbers
        }
        self._orders: dict[str, Rows] = {}
        self._bins = {
            name: _binned(self._numbers[name], step)
            for name, step in STEPS.items()
            if self.span(name)
        }

    def __len__(self) -> int:
        return len(self.table)

    @property
    def facets(self) -> tuple[str, ...]:
        """Return the facets that tell rows apart: those with more than one value."""
        return tuple(name for name, (_, values) in self._facets.items() if len(values) > 1)

    def values(self, facet: str) -> tuple[str, ...]:
        """Return the values of a facet, sorted, NOT_GIVEN last."""
        return self._facets[facet][1]

    def span(self, number: str) -> tuple[float, float] | None:
        """Return the least and the greatest value of a number; None where no row has one, or all the same."""
        if number not in self._numbers:
            return None
        known = self._numbers[number][np.isfinite(self._numbers[number])]
        return (
            (float(known.min()), float(known.max()))
            if len(known) and known.min() < known.max()
            else None
        )

    def count(self, facet: str, rows: Rows | NDArray[np.bool_]) -> dict[str, int]:
        """Return how many of these rows, places or a mask, have each value of a facet."""
        codes, known = self._facets[facet]
        return dict(
            zip(known, np.bincount(codes[rows], minlength=len(known)).tolist(), strict=True)
        )

    def holds(self, images: Collection[str]) -> NDArray[np.bool_]:
        """Return which rows are of these ids, (N,)."""
        return self.table["image"].isin(images).to_numpy(bool)

    def ask(self, query: Query, within: NDArray[np.bool_] | None = None) -> Answer:
        """Find the rows of a query, among those of a mask (N,) where one is given; the counts are of those, too.

        Raise ValueError for a facet or a number that this catalogue lacks.
        """
        asked = {*query.chosen, *query.ranges, *([query.order] if query.order else [])}
        if lacking := asked - {*self._facets, *self._numbers}:
            columns = ", ".join([*self._facets, *self._numbers])
            raise ValueError(
                f"Expected facets and numbers of this catalogue ({columns}) but got {', '.join(lacking)}."
            )
        fails = {
            name: self._fails_facet(name, values) for name, values in query.chosen.items() if values
        }
        fails |= {name: self._fails_range(name, *ends) for name, ends in query.ranges.items()}
        if query.text:
            fails["image"] = ~self._ids.str.contains(
                composed(query.text).lower(), regex=False
            ).to_numpy(bool)
        failed = (
            np.zeros(len(self), np.uint8)
            if within is None
            else np.where(within, 0, 2).astype(np.uint8)
        )
        for mask in fails.values():
            failed += mask
        passed = failed == 0
        others = {name: passed | ((failed == 1) & mask) for name, mask in fails.items()}
        counts = {name: self.count(name, others.get(name, passed)) for name in self.facets}
        spreads = {name: self._spread(name, others.get(name, passed)) for name in self._bins}
        rows = np.flatnonzero(passed).astype(np.int32)
        if query.order:
            ascending = self._order(query.order)
            rows = ascending[passed[ascending]]
            if query.descending:
                known = int(np.isfinite(self._numbers[query.order][rows]).sum())
                rows = np.concatenate([rows[:known][::-1], rows[known:]])
        return Answer(rows, counts, spreads)

    @cached_property
    def _ids(self) -> "pd.Series[str]":
        return self.table["image"].astype("str").str.lower()

    def _spread(self, name: str, rows: NDArray[np.bool_]) -> Spread:
        low, bins, missing = self._bins[name]
        counts = np.bincount(bins[rows], minlength=missing + 1)
        return Spread(low, STEPS[name], counts[:missing], int(counts[missing]))

    def _fails_facet(self, name: str, values: tuple[str, ...]) -> NDArray[np.bool_]:
        codes, known = self._facets[name]
        return ~np.isin(known, values)[codes]

    def _fails_range(self, name: str, least: float, most: float) -> NDArray[np.bool_]:
        numbers = self._numbers[name]
        return ~((numbers >= np.float32(least)) & (numbers <= np.float32(most)))

    def _order(self, name: str) -> Rows:
        if name not in self._orders:
            self._orders[name] = np.argsort(self._numbers[name], kind="stable").astype(
                np.int32
            )  # NaN comes last
        return self._orders[name]


def _coded(column: "pd.Series[str]") -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    values = sorted(column.dropna().unique())
    known = [*map(str, values), *([NOT_GIVEN] if column.isna().any() else [])]
    codes = pd.Categorical(column, categories=values).codes
    return np.where(codes < 0, len(values), codes).astype(np.uint16), tuple(known)


def _binned(numbers: NDArray[np.float32], step: float) -> tuple[float, NDArray[np.uint16], int]:
    """Return where the first bin begins, the bin of each number, (N,), and the bin of those that are missing."""
    known = np.isfinite(numbers)
    places = np.floor(numbers[known] / np.float32(step) + 1e-3).astype(
        np.int64
    )  # 0.15 / 0.05 is just below 3
    first = int(places.min())
    missing = int(places.max()) - first + 1
    bins = np.full(len(numbers), missing, np.uint16)
    bins[known] = places - first
    return first * step, bins, missing
