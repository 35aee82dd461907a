"""Computes gaps between subgroups and tests whether chance alone explains them.

Each subgroup is compared with all other images of the set. A gap is the metric of the subgroup
minus that of the rest, with a 95 % interval of a bootstrap over lesions. Its p value comes from a
permutation test: lesions of the same kind are reassigned at random to the subgroup and the rest, in
their original numbers, and the test counts how often the gap is as far from 0 (Phipson and Smyth,
Stat. Appl. Genet. Mol. Biol. 9 (2010) article 39, for the 1 that is added to both counts). A
bootstrap's own p value would be 0 for ten lesions that are all found, because such draws all agree.

Some twenty subgroups with four metrics make some eighty tests, and chance alone would mark four of
them. The p values are compared with 0.05 after Holm's steps (Scand. J. Statist. 6 (1979) 65): the
probability of even one false mark is then at most 5 %, however the tests depend on each other, as
those of women and men do, or of the old and of an archive of old patients. Benjamini and Hochberg's
false discovery rate would mark more gaps, some of them wrongly, and a mark here may stop the use of
a model for a group of patients.

A mark also needs an interval without 0: lesions with many images lie in one subgroup and not in the
rest. A permutation ignores that, and the bootstrap takes it into account.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics import classification
from cadlib.metrics.classification import Bools, Floats, Labels
from cadlib.metrics.operating_point import Interval
from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.metrics.summary import Metric, intervals
from cadlib.metrics.summary_schema import SubgroupGap
from cadlib.progress import Progress, no_progress

PERMUTATIONS = 9999
"""The smallest p value is then 1 in 10,000, which Holm's steps can mark among 500 tests."""
DRAWS = 500
"""Bootstrap draws: half of those of `summary`, as there are as many intervals as tests here."""
LEAST_LESIONS = 10
"""Lesions of each kind that a metric needs, in the subgroup and in the rest.

A test of fewer could mark nothing.
"""
SIGNIFICANT = 0.05
ENOUGH = 50
"""Permutations as far from 0 after which the test stops: p is then far from any mark."""
_AT_ONCE = 101
_Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Gap:
    """The metric of a subgroup and of the rest, and the p value of their difference.

    `subgroup` and `rest` are over the `kinds` diagnoses that both have. `lesions` is the number of
    lesions of the subgroup behind the metric. `p` is two-sided, `adjusted` the same after Holm's
    steps.
    """

    group: str
    metric: str
    subgroup: float
    rest: float
    interval: Interval
    kinds: int
    lesions: int
    p: float
    adjusted: float

    @property
    def difference(self) -> float:
        """Return the subgroup's metric minus that of the rest."""
        return self.subgroup - self.rest

    @property
    def beyond_chance(self) -> bool:
        """Return whether the gap is larger than chance makes it."""
        if self.interval is None:
            return False
        low, high = self.interval
        if low <= 0 <= high:
            return False
        return self.adjusted < SIGNIFICANT

    def stored(self) -> SubgroupGap:
        """Return the gap as metrics.json has it, with `beyond_chance`."""
        return SubgroupGap(**asdict(self), beyond_chance=self.beyond_chance)


class _Metric(Protocol):
    """A metric of N images of some kinds."""

    def measure(self, weights: Floats) -> Floats:
        """Compute it where each image counts `weights` times, (…, N) -> (…)."""

    def deal(self, pieces: Labels, owners: Labels, permutations: int) -> Iterator[Floats]:
        """Reassign lesions at random; yield the differences between the inside and the rest.

        `pieces` is (3, P): the lesion, whether it is inside, its kind. `owners`, (N,), is the piece
        of each image. Each array yielded is (D,), and all of them together hold `permutations`
        values.
        """


@dataclass(frozen=True, eq=False)
class _Test:
    """A metric of the images of `kinds`, (N,) int, with -1 for an image that never counts.

    It needs lesions of `needed` kinds. `build` returns the metric of the images in given rows.
    """

    name: str
    kinds: Labels
    needed: int
    build: Callable[[_Rows], _Metric]


def gaps(
    labels: AnyLabels,
    probabilities: Floats,
    lesions: NDArray[np.integer[Any]],
    subgroups: Mapping[str, Bools],
    threshold: float,
    permutations: int = PERMUTATIONS,
    draws: int = DRAWS,
    progress: Progress = no_progress,
) -> tuple[Gap, ...]:
    """Return the gaps of all subgroups that have enough lesions, by subgroup and metric.

    `labels` and `lesions` are (N,) int, `probabilities` (N, 8) float64, a subgroup (N,) bool.
    Images without a diagnosis, in `PartialLabels`, count in all metrics but the balanced accuracy.
    Sensitivity and specificity are for malignancy at `threshold`. A lesion with images inside and
    outside counts on both sides. `progress` is called with the number of finished subgroups and of
    all.
    """
    every_label = PartialLabels.of(labels)
    tests = _tests(every_label, probabilities, threshold)
    unadjusted = []
    for done, (name, inside) in enumerate(subgroups.items(), start=1):
        for test in tests:
            gap = _gap(name, inside, test, lesions, permutations, draws)
            if gap:
                unadjusted.append(gap)
        progress("subgroups compared", done, len(subgroups))
    # Only now, because Holm's steps need the number of all tests.
    p_values = holm([gap.p for gap in unadjusted])
    adjusted = []
    for gap, p in zip(unadjusted, p_values, strict=True):
        adjusted.append(replace(gap, adjusted=p))
    return tuple(adjusted)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that they compare with one level, however many there are (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    rising = np.asarray(p_values, np.float64)[order]
    # The smallest value is multiplied by the number of tests, the next by one less, and so on.
    factors = np.arange(len(order), 0, -1)
    # A larger p value is never adjusted to a smaller one.
    steps = np.maximum.accumulate(rising * factors)
    adjusted = np.empty(len(order))
    # Back into the order of the argument.
    adjusted[order] = np.minimum(steps, 1)
    return [float(p) for p in adjusted]


def _tests(labels: PartialLabels, probabilities: Floats, threshold: float) -> list[_Test]:
    scores = classification.malignant_probability(probabilities)
    truth = labels.malignant
    codes = labels.codes
    right_diagnosis = probabilities.argmax(axis=1) == codes
    right_decision = (scores >= threshold) == truth
    # Sensitivity is over malignant images alone, specificity over benign ones.
    malignant = np.where(truth, 0, -1)
    benign = np.where(truth, -1, 0)

    def accuracy(rows: _Rows) -> _Metric:
        return _Shares(right_diagnosis[rows], codes[rows])

    def area(rows: _Rows) -> _Metric:
        return _Area(scores[rows], truth[rows])

    def sensitivity(rows: _Rows) -> _Metric:
        return _Shares(right_decision[rows], malignant[rows])

    def specificity(rows: _Rows) -> _Metric:
        return _Shares(right_decision[rows], benign[rows])

    return [
        _Test("balanced_accuracy", codes, 2, accuracy),
        _Test("malignant_auc", truth.astype(np.int64), 2, area),
        _Test("sensitivity", malignant, 1, sensitivity),
        _Test("specificity", benign, 1, specificity),
    ]


def _gap(
    name: str,
    inside: Bools,
    test: _Test,
    lesions: Labels,
    permutations: int,
    draws: int,
) -> Gap | None:
    """Return the gap of one subgroup in one metric, its p value not adjusted.

    Return None where lesions are too few.
    """
    # A diagnosis that one side lacks would make the gap one of mixes, not of the model.
    shared_kinds = _kinds_of_both(test.kinds, inside, lesions)
    if len(shared_kinds) < test.needed:
        return None
    rows = np.flatnonzero(np.isin(test.kinds, shared_kinds))
    kinds = test.kinds[rows]
    lesions = lesions[rows]
    inside = inside[rows]
    metric = test.build(rows)
    members = inside.astype(np.float64)
    ends = _gap_interval(name, metric, members, lesions, draws)
    facts = np.stack([lesions, inside, kinds])
    p = _permutation_p(metric, members, facts, permutations)
    return Gap(
        group=name,
        # Each side is measured alone: the members count once, then all others.
        metric=test.name,
        subgroup=float(metric.measure(members)),
        rest=float(metric.measure(1 - members)),
        interval=ends,
        kinds=len(shared_kinds),
        lesions=len(np.unique(lesions[inside])),
        p=p,
        adjusted=1.0,
    )


def _kinds_of_both(kinds: Labels, inside: Bools, lesions: Labels) -> list[int]:
    """Return the kinds that have enough lesions both in the subgroup and in the rest."""
    shared_kinds = []
    # -1 marks an image that the metric does not count.
    counted = kinds[kinds >= 0]
    for kind in np.unique(counted):
        is_kind = kinds == kind
        inside_lesions = lesions[is_kind & inside]
        rest_lesions = lesions[is_kind & ~inside]
        n_inside = len(np.unique(inside_lesions))
        n_rest = len(np.unique(rest_lesions))
        if min(n_inside, n_rest) >= LEAST_LESIONS:
            shared_kinds.append(kind)
    return shared_kinds


def _difference(metric: _Metric, members: Floats, counts: Floats) -> Floats:
    """Return the metric of the members minus that of the rest; each image counts `counts` times."""
    inside = metric.measure(members * counts)
    rest = metric.measure((1 - members) * counts)
    return inside - rest


def _gap_interval(
    name: str,
    metric: _Metric,
    members: Floats,
    lesions: Labels,
    draws: int,
) -> Interval:
    def compute(_labels: Labels, _probabilities: Floats, weights: Floats) -> Floats:
        return _difference(metric, members, weights)

    _, groups = np.unique(lesions, return_inverse=True)
    drawn = Metric(name, compute)
    # The metric has its own images, so labels and probabilities are only placeholders.
    ends = intervals(groups, groups, [(drawn, np.empty(0))], draws)[name]
    if ends is None:
        return None
    low, high = ends
    return low, high


def _permutation_p(
    metric: _Metric,
    members: Floats,
    facts: Labels,
    permutations: int,
) -> float:
    """Return the p value of a gap; `facts` is (3, N): lesion, whether it is inside, and kind."""
    once_each = np.ones(len(members))
    gap = float(_difference(metric, members, once_each))
    # Images that agree in all three belong to one piece, which is dealt as a whole.
    pieces, owners = np.unique(facts, axis=1, return_inverse=True)
    differences = metric.deal(pieces, owners, permutations)
    return _p_value(abs(gap), differences)


def _p_value(gap: float, differences: Iterator[Floats]) -> float:
    """Return how often a random difference is as far from 0 as `gap`.

    It stops early after ENOUGH such differences: a p value that cannot be marked needs no precision
    (Besag and Clifford, Biometrika 78 (1991) 301).
    """
    far = 0
    done = 0
    for batch in differences:
        # The small term counts differences that are equal but for rounding as equally far.
        as_far = np.abs(batch) >= gap - 1e-12
        far += int(as_far.sum())
        done += len(batch)
        if far >= ENOUGH:
            break
    # The images as they are count as one more permutation (Phipson and Smyth 2010).
    return (far + 1) / (done + 1)


@dataclass(frozen=True, eq=False)
class _Shares:
    """The mean over kinds of the share of images that are right; (N,) bool and int."""

    right: Bools
    kinds: Labels

    def measure(self, weights: Floats) -> Floats:
        every_kind = np.unique(self.kinds)
        is_kind = self.kinds[:, None] == every_kind
        of_kind = is_kind.astype(np.float64)
        whole = weights @ of_kind
        right_of_kind = of_kind * self.right[:, None]
        right_part = weights @ right_of_kind
        undefined = np.full(whole.shape, np.nan)
        is_defined = whole > 0
        shares = np.divide(right_part, whole, out=undefined, where=is_defined)
        mean: Floats = shares.mean(axis=-1)
        return mean

    def deal(self, pieces: Labels, owners: Labels, permutations: int) -> Iterator[Floats]:
        """Deal all permutations at once.

        Pieces with as many images, and as many right ones, are alike, so only their numbers count.
        """
        # A fixed seed: the same images always have the same p value.
        rng = np.random.default_rng(0)
        n_images = np.bincount(owners)
        n_right = np.bincount(owners, self.right)
        sizes = np.stack([n_images, n_right])
        _, inside, kinds = pieces
        differences = []
        for kind in np.unique(kinds):
            is_kind = kinds == kind
            n_inside = int(inside[is_kind].sum())
            alike, many = np.unique(sizes[:, is_kind], axis=1, return_counts=True)
            # Dealing numbers of alike pieces is as random as dealing the pieces, and far faster.
            dealt = rng.multivariate_hypergeometric(many, n_inside, permutations)
            inside_n, inside_right = alike @ dealt.T
            all_n, all_right = alike @ many
            rest_n = all_n - inside_n
            rest_share = (all_right - inside_right) / rest_n
            inside_share = inside_right / inside_n
            differences.append(inside_share - rest_share)
        yield np.mean(differences, axis=0)


@dataclass(frozen=True, eq=False)
class _Area:
    """The area under the ROC curve of (N,) scores and truth."""

    scores: Floats
    truth: Bools

    def measure(self, weights: Floats) -> Floats:
        return classification.auc(self.scores, self.truth, weights)

    def deal(self, pieces: Labels, owners: Labels, permutations: int) -> Iterator[Floats]:
        """Deal a batch of permutations at a time."""
        # A fixed seed, as for the shares.
        rng = np.random.default_rng(0)
        # Sorted once for all permutations: the scores stay, only the sides change.
        order = np.argsort(-self.scores, kind="stable")
        ranked = _Ranked.of(self.scores[order], self.truth[order], owners[order])
        for first in range(0, permutations, _AT_ONCE):
            n_permutations = min(_AT_ONCE, permutations - first)
            dealt = _dealt_pieces(rng, pieces, n_permutations)
            yield ranked.differences(dealt)


def _dealt_pieces(rng: np.random.Generator, pieces: Labels, permutations: int) -> Floats:
    """Return which pieces are inside in each permutation, 0 or 1; (permutations, P)."""
    _, inside, kinds = pieces
    dealt = np.empty((permutations, len(kinds)))
    for kind in np.unique(kinds):
        is_kind = kinds == kind
        # Each row is shuffled by itself, so the numbers inside stay the original ones.
        rows = np.tile(inside[is_kind], (permutations, 1))
        dealt[:, is_kind] = rng.permuted(rows, axis=1)
    return dealt


@dataclass(frozen=True, eq=False)
class _Ranked:
    """The pieces of the positives and of the negatives by falling score.

    `above` and `not_below` have for each negative how many positives score above it, and how many
    score at least as high. `all_before` is their mean, so ties count half.
    """

    positive_owners: Labels
    negative_owners: Labels
    above: NDArray[np.intp]
    not_below: NDArray[np.intp]
    all_before: Floats

    @classmethod
    def of(cls, scores: Floats, truth: Bools, owners: Labels) -> "_Ranked":
        # `searchsorted` needs rising values, and the scores fall.
        positive_scores = -scores[truth]
        negative_scores = -scores[~truth]
        above = np.searchsorted(positive_scores, negative_scores, "left")
        not_below = np.searchsorted(positive_scores, negative_scores, "right")
        all_before = np.mean([above, not_below], axis=0)
        return cls(owners[truth], owners[~truth], above, not_below, all_before)

    def differences(self, dealt: Floats) -> Floats:
        """Return the area of the inside minus that of the rest for each row of `dealt`.

        Only the positives before each negative that are inside are counted. The pairs of the rest
        are all pairs without those that contain an image of the inside.
        """
        inside_positives = np.cumsum(dealt[:, self.positive_owners], axis=1)
        nothing = np.zeros((len(dealt), 1))
        inside_positives = np.concatenate([nothing, inside_positives], axis=1)
        inside_above = inside_positives[:, self.above]
        inside_before = (inside_above + inside_positives[:, self.not_below]) / 2
        negative = dealt[:, self.negative_owners]
        pairs = (inside_before * negative).sum(axis=1)
        positives = inside_positives[:, -1]
        negatives = negative.sum(axis=1)
        # Pairs with both images inside were subtracted twice, so they are added again.
        rest_pairs = (
            self.all_before.sum() - inside_before.sum(axis=1) - negative @ self.all_before + pairs
        )
        rest_positives = len(self.positive_owners) - positives
        rest_negatives = len(self.negative_owners) - negatives
        area = pairs / (positives * negatives)
        rest_area = rest_pairs / (rest_positives * rest_negatives)
        difference: Floats = area - rest_area
        return difference
