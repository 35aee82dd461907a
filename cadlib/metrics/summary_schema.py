"""States the types and the ranges of the metrics of some images.

These objects are what `evaluate` writes into metrics.json. A value that is not defined is None, and
so is an interval that rests on too few lesions. A key that an earlier version did not write has a
default; it is not written again.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cadlib.files.json_types import Count, Digest, JsonObject, Share, Value
from cadlib.taxonomy import CLASSES

Difference = Annotated[float, Meta(ge=-1, le=1)]
"""One share minus another."""
ShareInterval: TypeAlias = tuple[Share, Share] | None
"""Low and high end of a 95 % interval over lesions."""
DifferenceInterval: TypeAlias = tuple[Difference, Difference] | None
ValueInterval: TypeAlias = tuple[Value, Value] | None
Shares: TypeAlias = dict[str, Share | None]
"""A share by a key of the data: the code of a class, a strength, a method."""
ShareIntervals: TypeAlias = dict[str, ShareInterval]
Split = Literal["train", "validation", "test"]


class MetricsObject(JsonObject, frozen=True, kw_only=True, omit_defaults=True):
    """An object of metrics.json; values that equal their defaults are not written."""


class Intervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of the metrics of `Summary`, under their names."""

    balanced_accuracy: ShareInterval
    accuracy: ShareInterval
    malignant_auc: ShareInterval
    malignant_specificity_at_sensitivity: ShareIntervals
    malignant_average_precision: ShareInterval | UnsetType = UNSET
    auc: ShareIntervals
    average_precision: ShareIntervals
    sensitivity: ShareIntervals
    specificity: ShareIntervals
    ppv: ShareIntervals
    npv: ShareIntervals
    ece: ValueInterval
    """Of the error without the effect of chance, so it may lie below the value."""
    brier: ValueInterval
    malignant_ece: ValueInterval | UnsetType = UNSET
    ece_uncalibrated: ValueInterval | UnsetType = UNSET
    brier_uncalibrated: ValueInterval | UnsetType = UNSET
    balanced_accuracy_by_rule: ShareInterval | UnsetType = UNSET


BY_CLASS = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "npv")
"""Metrics of `Summary` with a value for each class."""


class Summary(MetricsObject, frozen=True, kw_only=True):
    """The metrics of some images, such as a subgroup.

    Metrics of malignancy are over all `n` images, all others over the images with a diagnosis,
    which `n_by_class` adds up to. A metric by class has a key for each code of `n_by_class`.
    """

    n: Count
    """Images with a label."""
    n_malignant: Count | UnsetType = UNSET
    """How many of them are malignant; an earlier version measured images with a diagnosis alone."""
    n_lesions: Count
    n_classes: Count
    """Classes with an image."""
    n_by_class: dict[str, Count]
    balanced_accuracy: Share | None
    """Mean sensitivity over the classes with an image."""
    accuracy: Share | None
    malignant_auc: Share | None
    """Area under the ROC curve of the malignant probability."""
    malignant_specificity_at_sensitivity: Shares
    """By target sensitivity: "0.98", "0.95", "0.90"."""
    malignant_average_precision: Share | UnsetType | None = UNSET
    auc: Shares
    average_precision: Shares
    sensitivity: Shares
    specificity: Shares
    ppv: Shares
    npv: Shares
    ece: Share | None
    """Expected calibration error of the top diagnosis, 0 is best."""
    brier: Annotated[float, Meta(ge=0, le=2)] | None
    """Brier score over all classes, 0 to 2, 0 is best."""
    malignant_ece: Share | UnsetType | None = UNSET
    """Expected calibration error of the malignant probability, 0 is best."""
    ece_uncalibrated: Share | UnsetType | None = UNSET
    """`ece` before calibration; missing where these probabilities are not known."""
    brier_uncalibrated: Annotated[float, Meta(ge=0, le=2)] | UnsetType | None = UNSET
    balanced_accuracy_by_rule: Share | UnsetType | None = UNSET
    """`balanced_accuracy` of the diagnoses that `balanced_rule.BalancedRule` names; missing for a
    model without a rule."""
    intervals: Intervals
    confusion_matrix: tuple[tuple[Count, ...], ...]
    """Images; a row for each true class, a column for each predicted one."""

    def __post_init__(self) -> None:
        classes = CLASSES.get(len(self.n_by_class))
        if classes is None or set(self.n_by_class) != set(classes.codes):
            numbers = " or ".join(map(str, CLASSES))
            raise ValueError(f"`n_by_class` has to be of the {numbers} classes of a challenge")
        for name in BY_CLASS:
            values = getattr(self, name)
            ends = getattr(self.intervals, name)
            if not values.keys() == ends.keys() == self.n_by_class.keys():
                codes = ", ".join(self.n_by_class)
                raise ValueError(f"`{name}` has to be of {codes}, with an interval for each")
        size = len(self.n_by_class)
        row_lengths = [len(row) for row in self.confusion_matrix]
        if row_lengths != [size] * size:
            raise ValueError(f"`confusion_matrix` has to be {size} rows of {size} counts")


class StoredRoc(MetricsObject, frozen=True, kw_only=True):
    """The points of a ROC curve, from (0, 0) to (1, 1), rounded to six decimals.

    An image is called positive at `threshold[k]` and above. The first threshold is None: there
    nothing is called positive.
    """

    fpr: tuple[Share, ...]
    tpr: tuple[Share, ...]
    threshold: tuple[Share | None, ...]
    tpr_interval: tuple[ShareInterval, ...] | None = None
    """An interval of each point; only the curve of malignancy has them."""
    fpr_interval: tuple[ShareInterval, ...] | None = None

    def __post_init__(self) -> None:
        n_points = len(self.fpr)
        for name in ("tpr", "threshold", "tpr_interval", "fpr_interval"):
            values = getattr(self, name)
            if values is not None and len(values) != n_points:
                raise ValueError(f"`{name}` has to be a list of {n_points} values, as `fpr`")


class ReliabilityBin(MetricsObject, frozen=True, kw_only=True):
    """A bin of a reliability diagram: the predictions with a probability from `low` to `high`."""

    low: Share
    high: Share
    n: Count
    """Images of the bin."""
    confidence: Share | None
    """Mean probability; not defined without an image."""
    accuracy: Share | None
    """Share of right diagnoses, or of malignant images."""
    interval: ShareInterval
    """Of `accuracy`."""


class FullSummary(Summary, frozen=True, kw_only=True):
    """The metrics of some images with their curves."""

    roc: dict[str, StoredRoc | None]
    """By the code of a class, and "malignant"; None without a positive or a negative image."""
    reliability: tuple[ReliabilityBin, ...]
    """Of the top diagnosis."""
    malignant_reliability: tuple[ReliabilityBin, ...] | None = None
    """Of the malignant probability; an earlier version did not measure it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.roc.keys() != {*self.n_by_class, "malignant"}:
            codes = ", ".join(self.n_by_class)
            raise ValueError(f"`roc` has to be of {codes} and malignant")


class RateIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of an operating point."""

    sensitivity: ShareInterval
    specificity: ShareInterval


class MeasuredPoint(MetricsObject, frozen=True, kw_only=True):
    """A threshold of the model with its results on some images."""

    name: str
    threshold: Share
    """Malignant probability; an image at or above it is referred."""
    sensitivity: Share | None
    """Share of the malignant images that are referred."""
    specificity: Share | None
    """Share of the benign images that are not referred."""
    n_malignant: Count
    n_benign: Count
    intervals: RateIntervals


class SetIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `PredictionSets`."""

    coverage: ShareIntervals
    overall: ShareInterval
    size: ValueInterval
    empty: ShareInterval


class PredictionSets(MetricsObject, frozen=True, kw_only=True):
    """The metrics of the model's prediction sets."""

    target: Share
    """Intended share of sets with the true diagnosis, for each diagnosis."""
    coverage: Shares
    """Share of the images with their true diagnosis in the set, by code."""
    overall: Share | None
    """The same share of all images."""
    size: Annotated[float, Meta(ge=0, le=100)] | None
    """Mean number of diagnoses in a set."""
    empty: Share | None
    """Share of the sets without a diagnosis."""
    intervals: SetIntervals


class MetadataShift(MetricsObject, frozen=True, kw_only=True):
    """How age, sex and site changed the predictions."""

    images: Count
    """Images with any change."""
    other_top: Count
    """Images with another top diagnosis."""
    mean_change_of_malignant: Share
    """Mean absolute change of the malignant probability of the changed images."""


class ModelFacts(MetricsObject, frozen=True, kw_only=True):
    """The model that was measured."""

    name: str
    version: str
    weights_sha256: Digest
    id: str | None = None
    """The model id; only in the copy that `evaluate` writes outside of the model's folder."""


class SubsetFacts(MetricsObject, frozen=True, kw_only=True):
    """A saved subset of a data set."""

    name: str
    sha256: Digest


class DataFacts(MetricsObject, frozen=True, kw_only=True):
    """The images that were measured."""

    name: str
    """Name of the data set."""
    split: Split | None = None
    """Part of the model's own split, where the images are one."""
    subset: SubsetFacts | None = None
    images: Count
    """Images that could be read, with or without a label."""
    warning: str | None = None
    """Set where red and blue look swapped in most of the images."""


class SubgroupGap(MetricsObject, frozen=True, kw_only=True):
    """A metric of a subgroup beside that of all other images; see `subgroup_gaps.Gap`."""

    group: str
    # The file keeps its former key, so that other programs can still read it.
    metric: str = msgspec.field(name="figure")
    subgroup: Share
    rest: Share
    interval: DifferenceInterval
    kinds: Count
    """Diagnoses that both sides have."""
    lesions: Count
    """Lesions of the subgroup behind the metric."""
    p: Share
    adjusted: Share
    beyond_chance: bool


class SpreadAndPeerIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `SpreadAndPeer`, paired over lesions."""

    spread: ShareInterval
    peer: ShareInterval
    difference: DifferenceInterval


class SpreadAndPeer(MetricsObject, frozen=True, kw_only=True):
    """A metric of the spread of the networks, and of the usual peer on the same images."""

    spread: Share | None
    peer: Share | None
    difference: Difference | None
    """Spread minus peer."""
    intervals: SpreadAndPeerIntervals


class RiskCoverageIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `RiskCoverage`."""

    spread: ShareIntervals
    peer: ShareIntervals


class RiskCoverage(MetricsObject, frozen=True, kw_only=True):
    """Error rate of the top diagnosis by coverage, the share of the images that remain.

    The most uncertain images are left out first.
    """

    spread: Shares
    peer: Shares
    intervals: RiskCoverageIntervals


class BorderlineIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `Borderline`."""

    share: ShareInterval
    error_rate: ShareInterval
    error_rate_of_others: ShareInterval


class Borderline(MetricsObject, frozen=True, kw_only=True):
    """The images where the networks disagree on the decision, and the wrong decisions."""

    n: Count
    share: Share | None
    error_rate: Share | None
    """Share of wrong decisions in these images."""
    error_rate_of_others: Share | None
    intervals: BorderlineIntervals


class SpreadMetrics(MetricsObject, frozen=True, kw_only=True):
    """How well the spread of the networks predicts errors; see `metrics.network_spread`."""

    n: Count
    n_lesions: Count
    n_diagnosed: Count
    """Images with a diagnosis; the metrics of diagnoses are over these."""
    wrong_decisions: Count
    wrong_diagnoses: Count
    threshold: Share
    """Malignant probability of the default operating point."""
    decision_auroc: SpreadAndPeer
    """Area under the ROC curve for a wrong decision."""
    diagnosis_auroc: SpreadAndPeer
    """Area under the ROC curve for a wrong top diagnosis."""
    risk_coverage: RiskCoverage
    aurc: SpreadAndPeer
    """Area under the curve of `risk_coverage`; lower is better."""
    borderline: Borderline


class NetworkSpread(MetricsObject, frozen=True, kw_only=True):
    """How well the spread of several networks predicts errors, on images new to all of them."""

    networks: Count
    trained_on: Count
    """Images that a network was trained on; they are left out."""
    unseen: SpreadMetrics | None
    """None where no image remains."""


class EvaluationMetrics(FullSummary, frozen=True, kw_only=True):
    """All metrics of an evaluation, which `evaluate` writes into metrics.json."""

    unlabelled: Count
    """Images that were predicted but have no label; they are not counted."""
    unknown: Count
    """Images with the label UNK; they are not counted."""
    operating_points: tuple[MeasuredPoint, ...]
    subgroups: dict[str, Summary]
    """By size, archive, age, sex and site."""
    prediction_sets: PredictionSets | None = None
    """Of the eight classes and of images alone."""
    metadata: MetadataShift | None = None
    """With age, sex and site only."""
    model: ModelFacts | None = None
    """None for predictions of a file."""
    data: DataFacts | None = None
    rejected: dict[str, str] | None = None
    """Image id -> why it could not be read."""
    gaps: tuple[SubgroupGap, ...] | None = None
    """Tests of the gaps between subgroups, in an evaluation for the pages."""
    network_spread: NetworkSpread | None = None
    """Of a model of several networks, of the eight classes; not in an evaluation for the pages."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.roc["malignant"] is None:
            return
        rates = [(point.sensitivity, point.specificity) for point in self.operating_points]
        if any(None in pair for pair in rates):
            raise ValueError(
                "`operating_points` has to be points with a sensitivity and a specificity, "
                "because the ROC curve of malignancy is defined"
            )
