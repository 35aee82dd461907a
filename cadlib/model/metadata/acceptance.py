"""Decides whether a model uses patient facts, from the changes they cause."""

from dataclasses import dataclass

from cadlib.model.metadata.changes import (
    ALL,
    ARCHIVE,
    METRICS,
    BandDifferences,
    Difference,
    Differences,
)

GAIN = "balanced_accuracy"
"""The metric that has to gain over all images."""
EARLIER_DECIDING = ("malignant_auc", "nll")
"""The metrics that had to gain in each archive by the rule of earlier versions."""


@dataclass(frozen=True)
class Verdict:
    """Whether facts are accepted, and the reasons with their numbers as `text`."""

    accepted: bool
    text: str


def judge(differences: Differences, age_bands: BandDifferences) -> Verdict:
    """Return whether the facts are accepted.

    Over all images, the balanced accuracy has to be significantly better. No archive may be
    significantly worse in any metric, and no age band in sensitivity. Significant means that the
    whole 95 % interval over lesions is on one side of 0.
    """
    gain = _gain(differences)
    has_gain = gain is not None and gain.verdict(GAIN) == 1
    harms = [*_archive_harms(differences), *_age_harms(age_bands)]
    accepted = has_gain and not harms
    sentences = ["Accepted." if accepted else "Rejected."]
    significance = "significantly better" if has_gain else "not significantly better"
    change = "not defined" if gain is None else gain.text
    sentences.append(f"Over all images, the balanced accuracy is {significance}: {change}.")
    if harms:
        sentences += harms
    else:
        sentences.append(
            "No archive is significantly worse in any metric, and no age band in sensitivity."
        )
    return Verdict(accepted, " ".join(sentences))


def accepted_by_earlier_rule(differences: Differences) -> bool:
    """Return whether the facts are accepted by the rule of earlier versions.

    In every archive, the malignant AUC or the likelihood had to be significantly better. No metric
    could be significantly worse in any part.
    """
    archives = []
    for part, metrics in differences.items():
        if part.startswith(ARCHIVE):
            archives.append(metrics)
    if not archives:
        return False
    for metrics in archives:
        verdicts = [metrics[name].verdict(name) for name in EARLIER_DECIDING]
        # At least one of these metrics has to improve in each archive.
        if max(verdicts) <= 0:
            return False
    for metrics in differences.values():
        verdicts = [change.verdict(name) for name, change in metrics.items()]
        # No metric may become worse, in any part.
        if -1 in verdicts:
            return False
    return True


def _gain(differences: Differences) -> Difference | None:
    """Return the change of the balanced accuracy over all images; None where it is missing."""
    metrics = differences.get(ALL)
    return None if metrics is None else metrics[GAIN]


def _archive_harms(differences: Differences) -> list[str]:
    """Return a sentence for each metric that is significantly worse in an archive."""
    sentences = []
    for part, metrics in differences.items():
        if not part.startswith(ARCHIVE):
            continue
        archive = part.removeprefix(ARCHIVE)
        for name, metric in METRICS.items():
            change = metrics[name]
            if change.verdict(name) == -1:
                sentences.append(
                    f"In the archive {archive}, the {metric.title} is significantly worse: "
                    f"{change.text}."
                )
    return sentences


def _age_harms(age_bands: BandDifferences) -> list[str]:
    """Return a sentence for each age band whose sensitivity is significantly worse."""
    sentences = []
    for band, change in age_bands.items():
        if change.side == -1:
            sentences.append(
                f"At the age of {band} years, the sensitivity of the default operating point is "
                f"significantly worse: {change.text}."
            )
    return sentences
