"""States the types of a model's metrics under other conditions.

These are sections of metrics.json in a model folder: damaged images, other archives, heatmaps,
similar cases and unknown images.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cadlib.files.json_types import Count, Digest, Share, Value
from cadlib.metrics.summary_schema import (
    Difference,
    DifferenceInterval,
    MetricsObject,
    ModelFacts,
    ShareInterval,
    ShareIntervals,
    Shares,
    Split,
    ValueInterval,
)

Differences: TypeAlias = dict[str, Difference | None]
DifferenceIntervals: TypeAlias = dict[str, DifferenceInterval]
Values: TypeAlias = dict[str, Value | None]
ValueIntervals: TypeAlias = dict[str, ValueInterval]
Setting: TypeAlias = bool | int | float | str | None
_RUN_KEYS = {"with_archive": "with", "without_archive": "without"}
"""Field -> its key in metrics.json; "with" is a keyword of Python."""


class SplitName(MetricsObject, frozen=True, kw_only=True):
    """A split of a data set."""

    name: str
    split: Split


class Sample(MetricsObject, frozen=True, kw_only=True):
    """How the images were sampled from those of the split."""

    of: Count
    """Images that the sample is drawn from."""
    strata: str
    seed: int


class CleanIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `CleanMetrics`."""

    balanced_accuracy: ShareInterval
    malignant_auc: ShareInterval
    accuracy: ShareInterval


class CleanMetrics(MetricsObject, frozen=True, kw_only=True):
    """The metrics of the unchanged images."""

    balanced_accuracy: Share | None
    malignant_auc: Share | None
    accuracy: Share | None
    intervals: CleanIntervals


class FallIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of the falls under one kind of damage, by strength."""

    balanced_accuracy_fall: DifferenceIntervals
    malignant_auc_fall: DifferenceIntervals
    accuracy_fall: DifferenceIntervals


class Corruption(MetricsObject, frozen=True, kw_only=True):
    """The metrics under one kind of damage, by strength: "1" to "5", and "mean" over them.

    A fall is the metric of the clean images minus that of the damaged ones.
    """

    intervals: FallIntervals
    balanced_accuracy_fall: Differences
    balanced_accuracy: Shares
    malignant_auc_fall: Differences
    malignant_auc: Shares
    accuracy_fall: Differences
    accuracy: Shares
    relative_error: Value | None
    """Error over the strengths divided by the clean error: 1 where damage does no harm."""


class MeanFallIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `MeanCorruption`."""

    balanced_accuracy_fall: DifferenceInterval
    malignant_auc_fall: DifferenceInterval
    accuracy_fall: DifferenceInterval


class MeanCorruption(MetricsObject, frozen=True, kw_only=True):
    """The means over all kinds of damage."""

    balanced_accuracy_fall: Difference | None
    malignant_auc_fall: Difference | None
    accuracy_fall: Difference | None
    relative_error: Value | None
    intervals: MeanFallIntervals


class FlipIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `Flips`."""

    rate: ShareIntervals
    malignant_shift: ShareInterval


class Flips(MetricsObject, frozen=True, kw_only=True):
    """How rotated and mirrored views change the predictions."""

    rate: Shares
    """Share of images with another top diagnosis, by view, in the "mean" and in "any" view."""
    malignant_shift: Share | None
    """Mean absolute change of the malignant probability."""
    malignant_shift_95th_percentile: Share | None
    intervals: FlipIntervals


class DamageMetrics(MetricsObject, frozen=True, kw_only=True):
    """The effect of damaged and rotated images; see `evaluation.robustness`."""

    n: Count
    n_lesions: Count
    n_classes: Count
    n_by_class: dict[str, Count]
    clean: CleanMetrics
    corruptions: dict[str, Corruption]
    mean: MeanCorruption
    flips: Flips


class Robustness(DamageMetrics, frozen=True, kw_only=True):
    """The effect of damaged and rotated images, with the facts about its measurement."""

    model: ModelFacts
    data: SplitName
    sample: Sample
    rejected: dict[str, str]
    """Image id -> why it could not be read."""


class DiagnosisMapIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `DiagnosisMaps`."""

    faithfulness: ValueIntervals
    inside_lesion: ShareIntervals | UnsetType = UNSET
    unreadable: ShareIntervals


class DiagnosisMaps(MetricsObject, frozen=True, kw_only=True):
    """The metrics of the best method's maps by the code of the explained diagnosis."""

    n: dict[str, Count]
    faithfulness: Values
    inside_lesion: Shares | UnsetType = UNSET
    unreadable: Shares
    intervals: DiagnosisMapIntervals


class MapLimits(MetricsObject, frozen=True, kw_only=True):
    """The values that 95 % of the random maps stay below."""

    faithfulness: Value | None
    stability: Value | None


class MapIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `MapMetrics` by method."""

    faithfulness: ValueIntervals
    faithfulness_blurred: ValueIntervals | UnsetType = UNSET
    stability: ValueIntervals
    inside_lesion: ShareIntervals | UnsetType = UNSET
    untrained_likeness: ValueIntervals
    untrained_faithfulness: ValueIntervals
    unreadable: ShareIntervals
    gain: ValueIntervals


class MapMetrics(MetricsObject, frozen=True, kw_only=True):
    """How far the heatmaps can be trusted, by method; see `evaluation.saliency_benchmark`."""

    n: Count
    n_lesions: Count
    faithfulness: Values
    """Area between the curves of insertion and deletion; also of "random" and "centre"."""
    faithfulness_blurred: Values | UnsetType = UNSET
    """The same with blurred regions instead of skin. Absent in files of earlier versions."""
    stability: Values
    """Mean correlation with the maps of the turned image, for RISE with those of other masks.

    Also of "random"."""
    inside_lesion: Shares | UnsetType = UNSET
    """Mean value inside the lesion over the sum of the means inside and outside.

    Also of "random" and "centre". Absent in files of earlier versions."""
    untrained_likeness: Values
    """Correlation with the map of a network of random weights."""
    untrained_faithfulness: Values
    unreadable: Shares
    """Share of maps that are not called readable."""
    gain: Values
    """Faithfulness minus that of the method that comes with each prediction."""
    by_diagnosis: DiagnosisMaps
    limits: MapLimits
    best: str
    """Method with the highest faithfulness."""
    intervals: MapIntervals

    @property
    def best_is_significant(self) -> bool:
        """Return whether the whole 95 % interval of the best method's gain is above 0."""
        interval = self.intervals.gain[self.best]
        if interval is None:
            return False
        low, _ = interval
        return low > 0

    @property
    def shown_first(self) -> str:
        """Return the method that is shown first: the best one if its gain is significant.

        Else it is the one that comes with each prediction.
        """
        if self.best_is_significant:
            return self.best
        return next(iter(self.gain))


class SaliencyMetrics(MapMetrics, frozen=True, kw_only=True):
    """How far the heatmaps can be trusted, with the facts about the measurement."""

    model: ModelFacts
    data: SplitName
    sample: Sample
    rejected: dict[str, str]
    """Image id -> why it could not be read."""


class TwoRuns(MetricsObject, frozen=True, kw_only=True, rename=_RUN_KEYS):
    """A metric of a network with the archive in training, and of one without it."""

    with_archive: Share | None
    without_archive: Share | None
    change: Difference | None


class TwoRunsIntervals(MetricsObject, frozen=True, kw_only=True, rename=_RUN_KEYS):
    """The 95 % intervals of `TwoRuns`."""

    with_archive: ShareInterval
    without_archive: ShareInterval
    change: DifferenceInterval


class ArchiveIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `ArchiveComparison`, paired over lesions."""

    balanced_accuracy: TwoRunsIntervals
    malignant_auc: TwoRunsIntervals
    melanoma_auc: TwoRunsIntervals


class ArchiveComparison(MetricsObject, frozen=True, kw_only=True):
    """The metrics of two networks on the images of an archive that one was trained on."""

    n: Count
    n_lesions: Count
    n_classes: Count
    balanced_accuracy: TwoRuns
    malignant_auc: TwoRuns
    melanoma_auc: TwoRuns
    intervals: ArchiveIntervals


class ArchiveLeftOut(ArchiveComparison, frozen=True, kw_only=True):
    """The loss on the images of an archive that was left out of training."""

    trained_on: Count
    """Training images of the run without the archive."""
    left_out: Count
    """Training images of the archive."""


class AcrossArchives(MetricsObject, frozen=True, kw_only=True):
    """The loss of networks on an archive left out of training; see `training.cross_archive`."""

    data: str
    """Name of the data set."""
    split_sha256: Digest
    recipe: dict[str, Setting]
    """The settings of every run."""
    steps: Count
    """Steps of every run."""
    git_commit: str
    archives: dict[str, ArchiveLeftOut]


class MeasuredSplit(MetricsObject, frozen=True, kw_only=True):
    """The split that similar cases were measured on."""

    split: Split


class CaseIntervals(MetricsObject, frozen=True, kw_only=True):
    """The 95 % intervals of `CaseMetrics`."""

    precision: ShareInterval
    precision_by_class: ShareIntervals
    by_chance: ShareInterval
    vote_accuracy: ShareInterval
    vote_sensitivity: ShareIntervals
    model_accuracy: ShareInterval
    model_sensitivity: ShareIntervals
    right_when_agreeing: ShareIntervals


class CaseMetrics(MetricsObject, frozen=True, kw_only=True):
    """How often similar cases have the true diagnosis; see `training.similar_case_index`."""

    k: Count
    """Cases shown of each image."""
    n: Count
    n_lesions: Count
    n_by_class: dict[str, Count]
    n_agreeing: dict[str, Count]
    """Images by the number of cases with the model's top diagnosis: "0" to k."""
    taken_for_training: Count
    """Images that were taken for a training image, which none is."""
    precision: Share | None
    """Share of the cases with the true diagnosis."""
    precision_by_class: Shares
    by_chance: Share | None
    """The same share of random training images."""
    vote_accuracy: Share | None
    """Share of images whose most frequent diagnosis among the cases is the true one."""
    vote_sensitivity: Shares
    model_accuracy: Share | None
    model_sensitivity: Shares
    right_when_agreeing: Shares
    """Share of right top diagnoses, by the keys of `n_agreeing`."""
    intervals: CaseIntervals


class SimilarCases(CaseMetrics, frozen=True, kw_only=True):
    """How often similar cases have the true diagnosis on a split."""

    data: MeasuredSplit


class UnknownCount(MetricsObject, frozen=True, kw_only=True):
    """How many of `n` images are called unknown."""

    n: Annotated[int, Meta(ge=1)]
    unknown: Count


class UnknownCounts(MetricsObject, frozen=True, kw_only=True):
    """Images of a split that are called unknown; see `training.novelty_detector`."""

    split: Split
    unknown: dict[str, UnknownCount]
    """By kind of image: all, size, archive, diagnosis."""


class Detection(MetricsObject, frozen=True, kw_only=True):
    """How well far images are told from validation images."""

    n: Count
    auroc: Share
    """Area under the ROC curve."""
    fpr: Share
    """Share of far images that pass where 95 % of the validation images do."""


class MethodDetection(MetricsObject, frozen=True, kw_only=True):
    """The results of a method on the images that chose it, and on all others."""

    choice: Detection
    proof: Detection


class LimitDetection(Detection, frozen=True, kw_only=True):
    """The results of the model's own detector with its limit."""

    known_share: Share = msgspec.field(name="known")
    """Share of the images that are called known."""


class KindDetection(Detection, frozen=True, kw_only=True):
    """The results of the model's own detector on a kind of far images."""

    sources: Count
    """Images before they were cropped."""
    known_share: Share = msgspec.field(name="known")


class FarDetection(MetricsObject, frozen=True, kw_only=True):
    """How well images that are no dermoscopy of a lesion are detected."""

    methods: dict[str, MethodDetection]
    kinds: dict[str, KindDetection]
    proof: LimitDetection


class NoveltyProof(MetricsObject, frozen=True, kw_only=True):
    """How well unknown images are detected; see `benchmarks/novelty.py`."""

    sha256: Digest
    """Of the detector that was measured."""
    far: FarDetection
    damaged: dict[str, tuple[Share, ...]]
    """Share of damaged images that are called unknown, by damage and strength."""
    corners: Share
    """Share of corners without a lesion that are called unknown."""
    near: dict[str, dict[str, int | float]] | None = None
    """By the code of a diagnosis left out of training: `n` and `known` images, `accuracy`, and the
    area under the ROC curve of each method."""
