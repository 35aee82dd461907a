"""Two models on the same images: is one better than the other by more than chance.

Each draw of lesions gives both models' figures and their difference, so that what makes these images hard for both
does not widen its interval. Right and wrong, and referred or not, are compared by McNemar's exact test (McNemar,
Psychometrika 12 (1947) 153) in a form that lets the images of one lesion depend on each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.operating_point import Interval
from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.metrics.summary import DRAWS, Figure, json_ready, partial_intervals
from cadlib.taxonomy import CODES

FIGURE_NAMES: Final = {
    "balanced_accuracy": "Balanced accuracy",
    "malignant_auc": "AUC malignant",
    "melanoma_auc": "AUC melanoma",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "brier": "Brier score (less is better)",
}
"""What a reader calls the figures that are compared, in their order."""
OF_DIAGNOSES: Final = ("balanced_accuracy", "melanoma_auc", "brier")
"""The figures that need a diagnosis for each image."""
KEYS = ("first", "second", "difference")


@dataclass(frozen=True)
class Answers:
    """What one model said of N images: probabilities, (N, 8) float64, and its threshold on the malignant one."""

    probabilities: Floats
    threshold: float


@dataclass(frozen=True)
class Difference:
    """A figure of both models, second minus first, and the 95 % interval of that; None where one is not defined.

    Of `higher_is_better` figures a difference above 0 speaks for the second model.
    """

    first: float | None
    second: float | None
    difference: float | None
    interval: Interval
    higher_is_better: bool = True

    @property
    def better(self) -> str | None:
        """Return which model is better by this figure, "first" or "second"; None where chance can have made it."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return None
        return "second" if (self.interval[0] > 0) is self.higher_is_better else "first"


@dataclass(frozen=True)
class McNemar:
    """On how many of `n` images only one of the models was right, and how likely chance alone splits them so.

    `exact` and `mid_p` are two-sided p values; the mid-p one counts an outcome as far off as this one half, for the
    exact one says too seldom that there is a difference (Fagerland, Lydersen and Laake, BMC Med. Res. Methodol. 13
    (2013) 91).
    """

    n: int
    only_first: int
    only_second: int
    exact: float
    mid_p: float


@dataclass(frozen=True)
class Comparison:
    """Two models on `n` images of `n_lesions` lesions: figures by name, and the tests of paired decisions by name.

    The figures in OF_DIAGNOSES, and which first diagnosis is right, are over the `n_diagnosed` images with a diagnosis.
    """

    n: int
    n_lesions: int
    n_diagnosed: int
    figures: Mapping[str, Difference]
    tests: Mapping[str, McNemar]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, None where a figure is not defined."""
        ready: dict[str, Any] = json_ready(asdict(self))
        return ready


def compare(
    labels: AnyLabels,
    first: Answers,
    second: Answers,
    lesions: NDArray[np.integer[Any]],
    draws: int = DRAWS,
) -> Comparison:
    """Compare two models on N images; `labels` and `lesions`, the group of each image, are (N,) int.

    Sensitivity and specificity, and what is referred, are at each model's own threshold. Images of `PartialLabels`
    without a diagnosis count only in the figures that need none.
    """
    every = PartialLabels.of(labels)
    diagnosed = every.diagnosed
    groups, models = np.unique(lesions, return_inverse=True)[1], (first, second)
    truth, pair = every.malignant, np.stack([first.probabilities, second.probabilities])
    scores = [classification.malignant_probability(one.probabilities) for one in models]
    referred = np.stack([score >= one.threshold for score, one in zip(scores, models, strict=True)])
    right = pair.argmax(axis=-1) == every.codes
    named = pair[:, diagnosed]
    figures = {
        **{
            name: (paired(figure), named if name in OF_DIAGNOSES else pair, name != "brier")
            for name, figure in _FIGURES.items()
        },
        "sensitivity": (_paired_share(truth), referred.astype(np.float64), True),
        "specificity": (_paired_share(~truth), (~referred).astype(np.float64), True),
    }
    asked = [
        (Figure(name, compute, KEYS, malignant=name not in OF_DIAGNOSES), given)
        for name, (compute, given, _) in figures.items()
    ]
    ends = partial_intervals(every, groups, asked, draws)
    codes = every.codes[diagnosed]
    found = {
        figure.name: _difference(
            figure.compute(every if figure.malignant else codes, given),
            ends[figure.name]["difference"],
            figures[figure.name][2],
        )
        for figure, given in asked
    }
    parts = {
        "right": (right, diagnosed),
        "malignant referred": (referred, truth),
        "benign not referred": (~referred, ~truth),
    }
    tests = {name: mcnemar(good[0], good[1], groups, part) for name, (good, part) in parts.items()}
    return Comparison(len(every), len(np.unique(groups)), int(diagnosed.sum()), found, tests)


def mcnemar(
    first: NDArray[np.bool_], second: NDArray[np.bool_], groups: Labels, among: NDArray[np.bool_]
) -> McNemar:
    """Compare two models' decisions, (N,) bool, right or not, on the images `among` all.

    Were there no difference, each lesion would speak as often for the one as for the other, by as many images as it
    does: a lesion's balance keeps its size and takes either sign with one half. The sum of the balances has then a
    distribution that is known exactly; with an image a lesion it is that of McNemar's test. `groups`, (N,) int, has
    the lesion of each image.
    """
    balance = (second.astype(np.int64) - first)[among]
    sizes = (
        np.abs(np.bincount(groups[among], balance)).astype(np.int64)
        if len(balance)
        else np.empty(0, np.int64)
    )
    reached = abs(int(balance.sum()))
    chances = _signed_sums(sizes)
    far = np.abs(np.arange(len(chances)) - len(chances) // 2)
    beyond, there = float(chances[far > reached].sum()), float(chances[far == reached].sum())
    one_right = int((balance < 0).sum()), int((balance > 0).sum())
    if (
        not sizes.any()
    ):  # every lesion is as it is for the other model: nothing could fall otherwise
        there *= 2
    return McNemar(len(balance), *one_right, min(beyond + there, 1.0), min(beyond + there / 2, 1.0))


def paired(figure: Callable[..., Floats]) -> Callable[..., Floats]:
    """Return what computes a figure of two models' probabilities, (2, N, 8), and the second minus the first."""

    def both(labels: AnyLabels, pair: Floats, weights: Floats | None = None) -> Floats:
        first, second = (figure(labels, probabilities, weights) for probabilities in pair)
        return np.stack([first, second, second - first], axis=-1)

    return both


def melanoma_auc(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Return the area under the ROC curve of melanoma against all other diagnoses."""
    melanoma = CODES.index("MEL")
    return classification.auc(probabilities[:, melanoma], labels == melanoma, weights)


_FIGURES: dict[str, Callable[..., Floats]] = {
    "balanced_accuracy": classification.balanced_accuracy,
    "malignant_auc": classification.malignant_auc,
    "melanoma_auc": melanoma_auc,
    "brier": classification.brier_score,
}


def _difference(values: Floats, ends: list[float] | None, higher_is_better: bool) -> Difference:
    first, second, difference = (None if np.isnan(value) else float(value) for value in values)
    return Difference(
        first, second, difference, (ends[0], ends[1]) if ends else None, higher_is_better
    )


def _paired_share(among: NDArray[np.bool_]) -> Callable[..., Floats]:
    """Return what computes the share of `among`, (N,) bool, of which each of two models is right, (2, N) 0 or 1."""

    def share(_: AnyLabels, right: Floats, weights: Floats | None = None) -> Floats:
        counts = (np.ones(len(among)) if weights is None else weights) * among
        whole = np.asarray(counts.sum(axis=-1))
        of_whole: Floats = np.divide(
            counts @ right, whole, out=np.full(whole.shape, np.nan), where=whole > 0
        )
        return of_whole

    return paired(share)


def _signed_sums(sizes: NDArray[np.int64]) -> Floats:
    """Return how likely each sum from -sum(sizes) to it is, where each size takes either sign with one half."""
    from scipy.stats import binom  # noqa: PLC0415 - takes a second, and an answer needs none

    chances = np.ones(1)
    for size, count in zip(*np.unique(sizes[sizes > 0], return_counts=True), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    return chances
