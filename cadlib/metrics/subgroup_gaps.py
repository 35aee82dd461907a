"""Gaps between subgroups: where a model does worse for some than for the rest, by more than chance.

Each subgroup is held against all other images of the set. A gap is its figure minus that of the rest, with a 95 %
interval of a bootstrap over lesions. Its p value is that of a permutation test: lesions of the same kind are dealt
anew to the subgroup and the rest, as many as there were, and it is counted how often the gap comes out as far from 0
(Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) article 39, for the one that is added to both counts). A
bootstrap's own p value would be 0 for ten lesions that are all found, as such draws all agree.

Some twenty subgroups with four figures are some eighty tests, of which chance alone would mark four. The p values are
held against 0.05 by the steps of Holm (Scand. J. Statist. 6 (1979) 65): with them it is at most 5 % likely that even
one mark is chance's, however the tests depend on each other, as women and men do, or the old and an archive of the
old. Benjamini and Hochberg's rate of false marks would mark more, of which some are wrong, and a mark here may stop a
model for somebody.

A mark needs an interval without 0 besides: lesions of many images sit in one subgroup and not in the rest, which a
permutation does not know and the bootstrap does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.operating_point import Interval
from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.metrics.summary import Figure, intervals
from cadlib.progress import Progress, no_progress

PERMUTATIONS = 9999
"""The smallest p value is then 1 in 10,000, which Holm's steps can mark among 500 tests."""
DRAWS = 500
"""Of a bootstrap: half of what `summary` takes, for there are as many intervals here as tests."""
LEAST_LESIONS = 10
"""Of each kind that a figure needs, in the subgroup and in the rest; a test of fewer could mark nothing."""
SIGNIFICANT = 0.05
ENOUGH = 50
"""Permutations that come out as far, after which no more are tried: p is then far from any mark."""
_AT_ONCE = 101


@dataclass(frozen=True)
class Gap:
    """What a subgroup's figure is, what that of the rest, and how likely chance alone makes them so different.

    `subgroup` and `rest` are of the diagnoses that both have, `kinds` many; `lesions` of the subgroup stand behind the
    figure. `p` is two-sided, `adjusted` the same after Holm's steps.
    """

    group: str
    figure: str
    subgroup: float
    rest: float
    interval: Interval
    kinds: int
    lesions: int
    p: float
    adjusted: float

    @property
    def difference(self) -> float:
        """Return the subgroup's figure minus that of the rest."""
        return self.subgroup - self.rest

    @property
    def beyond_chance(self) -> bool:
        """Progress whether the gap is larger than chance makes it."""
        apart = self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]
        return apart and self.adjusted < SIGNIFICANT

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with `beyond_chance`."""
        return {**asdict(self), "beyond_chance": self.beyond_chance}


class _Figure(Protocol):
    """A figure of N images of some kinds."""

    def measure(self, weights: Floats) -> Floats:
        """Return it where each image counts so often, (…, N) -> (…)."""

    def deal(self, pieces: Labels, of: Labels, permutations: int) -> Iterator[Floats]:
        """Yield by how much it differs between the inside and the rest as lesions are dealt anew, (some,) at a time.

        `pieces` is (3, P): the lesion, whether it is inside, its kind; `of`, (N,), the piece of each image.
        """


@dataclass(frozen=True, eq=False)
class _Test:
    """A figure of the images of `kinds`, (N,) int, -1 for one that never counts; it needs so many kinds of lesions.

    `of` returns the figure of the images of some rows.
    """

    name: str
    kinds: Labels
    needed: int
    of: Callable[[NDArray[np.intp]], _Figure]


def gaps(
    labels: AnyLabels,
    probabilities: Floats,
    lesions: NDArray[np.integer[Any]],
    subgroups: Mapping[str, NDArray[np.bool_]],
    threshold: float,
    permutations: int = PERMUTATIONS,
    draws: int = DRAWS,
    progress: Progress = no_progress,
) -> tuple[Gap, ...]:
    """Return the gaps of all subgroups that have the lesions for it, by subgroup and figure.

    `labels` and `lesions` are (N,) int, `probabilities` (N, 8) float64, a subgroup (N,) bool. Images without a
    diagnosis, of `PartialLabels`, count in all figures but the balanced accuracy. Sensitivity and
    specificity are those of malignancy at `threshold`. A lesion with images inside and outside counts on both sides.
    `progress` is called with the subgroups done and their number.
    """
    tests = _tests(PartialLabels.of(labels), probabilities, threshold)
    found = []
    for done, (name, inside) in enumerate(subgroups.items(), start=1):
        some = (_gap(name, inside, test, lesions, permutations, draws) for test in tests)
        found += [gap for gap in some if gap]
        progress("subgroups compared", done, len(subgroups))
    adjusted = holm([gap.p for gap in found])
    return tuple(replace(gap, adjusted=p) for gap, p in zip(found, adjusted, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values that are compared with one level, however many there are (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(
        np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    )
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(steps, 1)
    return [float(p) for p in adjusted]


def _tests(labels: PartialLabels, probabilities: Floats, threshold: float) -> list[_Test]:
    scores, truth = classification.malignant_probability(probabilities), labels.malignant
    codes = labels.codes
    named, called = probabilities.argmax(axis=1) == codes, (scores >= threshold) == truth

    malignant, benign = np.where(truth, 0, -1), np.where(truth, -1, 0)
    return [
        _Test("balanced_accuracy", codes, 2, lambda rows: _Shares(named[rows], codes[rows])),
        _Test(
            "malignant_auc",
            truth.astype(np.int64),
            2,
            lambda rows: _Area(scores[rows], truth[rows]),
        ),
        _Test("sensitivity", malignant, 1, lambda rows: _Shares(called[rows], malignant[rows])),
        _Test("specificity", benign, 1, lambda rows: _Shares(called[rows], benign[rows])),
    ]


def _gap(
    name: str,
    inside: NDArray[np.bool_],
    test: _Test,
    lesions: Labels,
    permutations: int,
    draws: int,
) -> Gap | None:
    """Return the gap of one subgroup in one figure, its p value not adjusted; None where lesions are too few."""
    both = [
        kind
        for kind in np.unique(test.kinds[test.kinds >= 0])
        if all(
            len(np.unique(lesions[(test.kinds == kind) & side])) >= LEAST_LESIONS
            for side in (inside, ~inside)
        )
    ]
    if len(both) < test.needed:
        return None
    rows = np.flatnonzero(np.isin(test.kinds, both))
    kinds, lesions, inside = test.kinds[rows], lesions[rows], inside[rows]
    figure = test.of(rows)
    measure = figure.measure

    def difference(members: Floats, counts: Floats) -> Floats:
        return measure(members * counts) - measure((1 - members) * counts)

    ones, members = np.ones(len(rows)), inside.astype(np.float64)
    drawn = Figure(name, lambda _, __, weights=ones: difference(members, weights))
    groups = np.unique(lesions, return_inverse=True)[1]
    ends = intervals(groups, groups, [(drawn, np.empty(0))], draws)[name]
    reached = abs(float(difference(members, ones)))
    pieces = np.unique(np.stack([lesions, inside, kinds]), axis=1, return_inverse=True)
    return Gap(
        name,
        test.name,
        float(measure(members)),
        float(measure(1 - members)),
        ends and tuple(ends),
        len(both),
        len(np.unique(lesions[inside])),
        _chance(reached, figure.deal(*pieces, permutations)),
        1.0,
    )


def _chance(reached: float, differences: Iterator[Floats]) -> float:
    """Return how often a difference as far from 0 as `reached` comes out where lesions are dealt anew.

    It ends early where ENOUGH came out so: what cannot be marked need not be known sharply (Besag and Clifford,
    Biometrika 78 (1991) 301).
    """
    far, done = 0, 0
    for some in differences:
        far += int(
            (np.abs(some) >= reached - 1e-12).sum()
        )  # what is equal but for rounding is as far
        done += len(some)
        if far >= ENOUGH:
            break
    return (far + 1) / (done + 1)


@dataclass(frozen=True, eq=False)
class _Shares:
    """The mean over kinds of the share of images that are right; (N,) bool and int."""

    right: NDArray[np.bool_]
    kinds: Labels

    def measure(self, weights: Floats) -> Floats:
        of_kind = (self.kinds[:, None] == np.unique(self.kinds)).astype(np.float64)
        whole = weights @ of_kind
        parts = np.divide(
            weights @ (of_kind * self.right[:, None]),
            whole,
            out=np.full(whole.shape, np.nan),
            where=whole > 0,
        )
        mean: Floats = parts.mean(axis=-1)
        return mean

    def deal(self, pieces: Labels, of: Labels, permutations: int) -> Iterator[Floats]:
        """Deal all at once: pieces of as many images, as many of them right, are alike, so only their numbers count."""
        rng, sizes = (
            np.random.default_rng(0),
            np.stack([np.bincount(of), np.bincount(of, self.right)]),
        )
        differences = []
        for kind in np.unique(pieces[2]):
            here = pieces[2] == kind
            alike, many = np.unique(sizes[:, here], axis=1, return_counts=True)
            dealt = rng.multivariate_hypergeometric(many, int(pieces[1, here].sum()), permutations)
            (n, right), (of_n, of_right) = alike @ dealt.T, alike @ many
            differences.append(right / n - (of_right - right) / (of_n - n))
        yield np.mean(differences, axis=0)


@dataclass(frozen=True, eq=False)
class _Area:
    """The area under the ROC curve of (N,) scores and truth."""

    scores: Floats
    truth: NDArray[np.bool_]

    def measure(self, weights: Floats) -> Floats:
        return classification.auc(self.scores, self.truth, weights)

    def deal(self, pieces: Labels, of: Labels, permutations: int) -> Iterator[Floats]:
        """Deal some at a time; of the positives before each negative, ties counted half, those inside are counted once.

        The pairs of the rest are all pairs without those that a member is part of.
        """
        rng, order = np.random.default_rng(0), np.argsort(-self.scores, kind="stable")
        scores, truth, of = self.scores[order], self.truth[order], of[order]
        before = [
            np.searchsorted(-scores[truth], -scores[~truth], side) for side in ("left", "right")
        ]
        all_before = np.mean(before, axis=0)
        n_positive, n_negative = int(truth.sum()), int((~truth).sum())
        for first in range(0, permutations, _AT_ONCE):
            dealt = np.empty((min(_AT_ONCE, permutations - first), pieces.shape[1]))
            for kind in np.unique(pieces[2]):
                here = pieces[2] == kind
                dealt[:, here] = rng.permuted(np.tile(pieces[1, here], (len(dealt), 1)), axis=1)
            found = np.cumsum(dealt[:, of[truth]], axis=1)
            found = np.concatenate([np.zeros((len(dealt), 1)), found], axis=1)
            inside_before, negative = (
                (found[:, before[0]] + found[:, before[1]]) / 2,
                dealt[:, of[~truth]],
            )
            pairs, positives, negatives = (
                (inside_before * negative).sum(axis=1),
                found[:, -1],
                negative.sum(axis=1),
            )
            of_rest = all_before.sum() - inside_before.sum(axis=1) - negative @ all_before + pairs
            yield pairs / (positives * negatives) - of_rest / (
                (n_positive - positives) * (n_negative - negatives)
            )
