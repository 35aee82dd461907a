"""Measures how well the spread of a model's networks predicts its errors.

The networks of a model differ where they are uncertain (deep ensembles: Lakshminarayanan et al.,
NeurIPS 2017). The spread has two measures. For the decision it is the range of the malignant
probabilities of the networks, which each result shows. For the top diagnosis it is the mutual
information between diagnosis and network (Depeweg et al., ICML 2018).

A peer needs only one network: for the decision, how close the malignant probability is to the
threshold; for the top diagnosis, 1 minus the highest probability. The spread is only useful where
it predicts errors better than its peer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cadlib.metrics import classification
from cadlib.metrics.classification import Bools, Floats, Labels, ratio
from cadlib.metrics.partial_labels import PartialLabels
from cadlib.metrics.summary import DRAWS, Metric, mean_of, measured
from cadlib.metrics.summary_schema import (
    Borderline,
    BorderlineIntervals,
    RiskCoverage,
    RiskCoverageIntervals,
    SpreadAndPeer,
    SpreadAndPeerIntervals,
    SpreadMetrics,
)

COVERAGES = tuple(percent / 100 for percent in range(5, 101, 5))
"""Shares of the images at which the risk-coverage curve is stored."""
_PAIR = ("spread", "peer", "difference")
_COVERAGE_KEYS = tuple(f"{coverage:.2f}" for coverage in COVERAGES)


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Uncertainty of N images by the spread and by the peer, and which are wrong; (N,) each."""

    spread: Floats
    peer: Floats
    wrong: Bools


def measure_spread(
    labels: PartialLabels,
    probabilities: Floats,
    members: Floats,
    threshold: float,
    groups: Labels,
    draws: int = DRAWS,
) -> SpreadMetrics:
    """Return how well the spread predicts errors on N images that no network was trained on.

    `probabilities` is (N, 8) float64 of the model, `members` (N, M, 8) of each network alone.
    `threshold` is that of the default operating point. `groups` is (N,) int, the lesion number of
    each image, from 0 and without a gap. N is at least 1.
    """
    diagnosed = labels.diagnosed
    codes = labels.codes[diagnosed]
    diagnoses = _diagnoses(codes, probabilities[diagnosed], members[diagnosed])
    decisions = _decisions(labels.malignant, probabilities, members, threshold)
    # An image without a diagnosis leaves a gap in the numbers of the lesions.
    _, groups_diagnosed = np.unique(groups[diagnosed], return_inverse=True)
    borderline = disagreement(members, threshold)
    return SpreadMetrics(
        n=len(labels),
        n_lesions=len(np.unique(groups)),
        n_diagnosed=len(codes),
        wrong_decisions=int(decisions.wrong.sum()),
        wrong_diagnoses=int(diagnoses.wrong.sum()),
        threshold=threshold,
        **_of_decisions(decisions, borderline, groups, draws),
        **_of_diagnoses(diagnoses, groups_diagnosed, draws),
    )


def malignant_range(members: Floats) -> Floats:
    """Return the range of the malignant probability over the networks; (N, M, 8) to (N,)."""
    malignant = classification.malignant_probability(members)
    spread: Floats = malignant.max(axis=1) - malignant.min(axis=1)
    return spread


def mutual_information(members: Floats) -> Floats:
    """Return the mutual information between diagnosis and network in nats; (N, M, 8) to (N,).

    It is the mean over the networks of the Kullback-Leibler divergence of each network's
    probabilities to their mean, 0 where all agree.
    """
    # An import takes a while, and only models of several networks need it.
    from scipy.special import rel_entr  # noqa: PLC0415

    mean = members.mean(axis=1, keepdims=True)
    divergences = rel_entr(members, mean).sum(axis=-1)
    information = divergences.mean(axis=1)
    # Rounding can push the divergence of equal probabilities below 0.
    not_negative: Floats = np.maximum(information, 0.0)
    return not_negative


def disagreement(members: Floats, threshold: float) -> Bools:
    """Return where networks alone would decide differently at a threshold; (N, M, 8) to (N,)."""
    malignant = classification.malignant_probability(members)
    lowest = malignant.min(axis=1)
    highest = malignant.max(axis=1)
    # A probability at the threshold is referred.
    disagree: Bools = (lowest < threshold) & (threshold <= highest)
    return disagree


def risk_at_coverages(
    uncertainty: Floats,
    wrong: Bools,
    weights: Floats | None = None,
) -> Floats:
    """Return the share of errors in the most certain images, for each of K COVERAGES; (…, K).

    `uncertainty` is (N,) float64, `wrong` (N,) bool. Among equally uncertain images it is the mean
    over all orders.
    """
    errors, remaining = _remaining(uncertainty, wrong, weights)
    *leading_shape, n_steps = errors.shape
    error_rows = errors.reshape(-1, n_steps)
    remaining_rows = remaining.reshape(-1, n_steps)
    risks = []
    for error_row, remaining_row in zip(error_rows, remaining_rows, strict=True):
        n_images = remaining_row[-1]
        wanted = np.array(COVERAGES) * n_images
        wanted_errors = np.interp(wanted, remaining_row, error_row)
        risks.append(ratio(wanted_errors, wanted))
    shaped: Floats = np.array(risks).reshape(*leading_shape, len(COVERAGES))
    return shaped


def risk_coverage_area(
    uncertainty: Floats,
    wrong: Bools,
    weights: Floats | None = None,
) -> Floats:
    """Return the area under the risk-coverage curve (AURC), 0 to 1; the lower, the better.

    It is the mean error rate of the k most certain of N images over all k from 1 to N (Geifman and
    El-Yaniv, NeurIPS 2017; Geifman et al., ICLR 2019). `uncertainty` is (N,) float64, `wrong` (N,)
    bool. Among equally uncertain images it is the mean over all orders. A `weights` of 2 counts an
    image as two equally uncertain ones.
    """
    # An import takes a while, and only models of several networks need it.
    from scipy.special import digamma  # noqa: PLC0415

    errors, remaining = _remaining(uncertainty, wrong, weights)
    errors_before = errors[..., :-1]
    remaining_before = remaining[..., :-1]
    group_errors = np.diff(errors)
    group_rate = np.nan_to_num(ratio(group_errors, np.diff(remaining)))
    # After j of W equal images, the rate is (E + r j) / (B + j) = r + (E - r B) / (B + j), with E
    # errors in B images before them. The sum of 1 / (B + j) is a difference of two digammas.
    inverse_sums = np.diff(digamma(remaining + 1))
    summed_rates = group_errors + (errors_before - group_rate * remaining_before) * inverse_sums
    return ratio(summed_rates.sum(axis=-1), remaining[..., -1])


def _remaining(
    uncertainty: Floats,
    wrong: Bools,
    weights: Floats | None,
) -> tuple[Floats, Floats]:
    """Return errors and images among the most certain ones, (…, K + 1) each.

    The K steps are the distinct uncertainties, the lowest first; before them both are 0.
    """
    errors, right = classification.called_positive(-uncertainty, wrong, weights)
    return errors, errors + right


def _decisions(
    malignant: Bools,
    probabilities: Floats,
    members: Floats,
    threshold: float,
) -> _Ranking:
    score = classification.malignant_probability(probabilities)
    referred = score >= threshold
    return _Ranking(
        spread=malignant_range(members),
        # The nearer to the threshold, the more uncertain.
        peer=-np.abs(score - threshold),
        wrong=referred != malignant,
    )


def _diagnoses(codes: Labels, probabilities: Floats, members: Floats) -> _Ranking:
    return _Ranking(
        spread=mutual_information(members),
        peer=1 - probabilities.max(axis=1),
        wrong=probabilities.argmax(axis=1) != codes,
    )


def _of_decisions(
    decisions: _Ranking,
    borderline: Bools,
    groups: Labels,
    draws: int,
) -> dict[str, Any]:
    """Return the metrics of decisions by their names in `SpreadMetrics`."""
    errors = decisions.wrong.astype(np.float64)
    parts = np.stack([borderline, ~borderline])
    metrics = (
        Metric("auroc", _pair(classification.auc, decisions), _PAIR),
        Metric("share", mean_of(borderline.astype(np.float64))),
        Metric("error_rates", mean_of(errors, parts), ("inside", "outside")),
    )
    values, ends = _measured(metrics, groups, draws)
    rates = values["error_rates"]
    rate_ends = ends["error_rates"]
    stored = Borderline(
        n=int(borderline.sum()),
        share=values["share"],
        error_rate=rates["inside"],
        error_rate_of_others=rates["outside"],
        intervals=BorderlineIntervals(
            share=ends["share"],
            error_rate=rate_ends["inside"],
            error_rate_of_others=rate_ends["outside"],
        ),
    )
    return {"decision_auroc": _stored_pair(values["auroc"], ends["auroc"]), "borderline": stored}


def _of_diagnoses(diagnoses: _Ranking, groups: Labels, draws: int) -> dict[str, Any]:
    """Return the metrics of diagnoses by their names in `SpreadMetrics`."""
    metrics = (
        Metric("auroc", _pair(classification.auc, diagnoses), _PAIR),
        Metric("aurc", _pair(risk_coverage_area, diagnoses), _PAIR),
        Metric("by_spread", _curve(diagnoses.spread, diagnoses.wrong), _COVERAGE_KEYS),
        Metric("by_peer", _curve(diagnoses.peer, diagnoses.wrong), _COVERAGE_KEYS),
    )
    values, ends = _measured(metrics, groups, draws)
    curve = RiskCoverage(
        spread=values["by_spread"],
        peer=values["by_peer"],
        intervals=RiskCoverageIntervals(spread=ends["by_spread"], peer=ends["by_peer"]),
    )
    return {
        "diagnosis_auroc": _stored_pair(values["auroc"], ends["auroc"]),
        "aurc": _stored_pair(values["aurc"], ends["aurc"]),
        "risk_coverage": curve,
    }


def _pair(compute: Callable[..., Floats], ranking: _Ranking) -> Callable[..., Floats]:
    """Return a function that computes a metric of spread and peer, and the difference; (…, 3)."""

    def both(
        _: Labels,
        __: Floats,
        weights: Floats | None = None,
    ) -> Floats:
        spread = compute(ranking.spread, ranking.wrong, weights)
        peer = compute(ranking.peer, ranking.wrong, weights)
        difference = spread - peer
        return np.stack([spread, peer, difference], axis=-1)

    return both


def _curve(uncertainty: Floats, wrong: Bools) -> Callable[..., Floats]:
    """Return a function that computes the risk-coverage curve, (…, K)."""

    def compute(_: Labels, __: Floats, weights: Floats | None = None) -> Floats:
        return risk_at_coverages(uncertainty, wrong, weights)

    return compute


def _measured(
    metrics: tuple[Metric, ...],
    groups: Labels,
    draws: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metrics and their intervals by name."""
    # These metrics hold their own images, and only the number of images is taken from here.
    no_probabilities = np.zeros((len(groups), 0))
    return measured(metrics, groups, no_probabilities, groups, draws)


def _stored_pair(values: dict[str, Any], ends: dict[str, Any]) -> SpreadAndPeer:
    intervals = SpreadAndPeerIntervals(**ends)
    return SpreadAndPeer(**values, intervals=intervals)
