"""Whether the evidence of facts helps in every archive; a model keeps it only then, and keeps the figures anyway."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cadlib.images.patient import design_of
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.operating_point import (
    DEFAULT_OPERATING_POINT,
    TARGET_SENSITIVITY,
    OperatingPoint,
    choose_thresholds,
)
from cadlib.metrics.summary import DEFINED_SHARE, DRAWS, LEVEL, bootstrap, measured_point
from cadlib.model.metadata.evidence import MetadataEvidence, add_evidence
from cadlib.model.metadata.fitting import fit_evidence, out_of_fold
from cadlib.taxonomy import CODES

if TYPE_CHECKING:  # takes a third of a second, and a model is read without it
    import pandas as pd

Parts = Mapping[str, NDArray[np.bool_]]
ARCHIVE = "archive "
"""How the name of a part begins that is an archive."""


def _melanoma_auc(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    index = CODES.index("MEL")
    return classification.auc(probabilities[:, index], labels == index, weights)


def _specificity(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    target = TARGET_SENSITIVITY[DEFAULT_OPERATING_POINT]
    return classification.malignant_specificity(labels, probabilities, target, weights)


FIGURES: dict[str, tuple[Callable[..., Floats], int]] = {
    "balanced_accuracy": (classification.balanced_accuracy, 1),
    "malignant_auc": (classification.malignant_auc, 1),
    "melanoma_auc": (_melanoma_auc, 1),
    "nll": (classification.negative_log_likelihood, -1),
    "ece": (classification.expected_calibration_error, -1),
    "specificity": (_specificity, 1),
}
"""Name -> how it is computed, and whether more of it is better (1) or worse (-1). The specificity is that at the target
sensitivity of the default operating point, with the threshold chosen anew."""
DECIDING = ("malignant_auc", "nll")


@dataclass(frozen=True)
class Difference:
    """A figure without and with the facts, and the 95 % interval of the change, None where it has none."""

    before: float | None
    after: float | None
    low: float | None
    high: float | None

    def verdict(self, figure: str) -> int:
        """Return 1 where the whole interval is better, -1 where it is worse, 0 where that cannot be told."""
        if self.low is None or self.high is None:
            return 0
        return FIGURES[figure][1] * (int(self.low > 0) - int(self.high < 0))


Differences = Mapping[str, Mapping[str, Difference]]
"""Part of the images -> figure -> its difference."""


@dataclass(frozen=True)
class MetadataTrial:
    """What facts changed on validation images; `evidence` is None where it did not help in every archive.

    `operating_points` are the thresholds for a malignant probability with facts: another probability needs another
    threshold for the same sensitivity. They are chosen on evidence from fits without the image's lesion.
    """

    differences: Differences
    evidence: MetadataEvidence | None
    operating_points: tuple[OperatingPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        return {
            "differences": {
                part: {name: asdict(found) for name, found in figures.items()}
                for part, figures in self.differences.items()
            },
            "evidence": self.evidence and self.evidence.to_json(),
            "operating_points": [asdict(point) for point in self.operating_points],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read what to_json wrote; raise ValueError, TypeError, KeyError or AttributeError for anything else."""
        differences = {
            part: {name: Difference(**figures[name]) for name in FIGURES}
            for part, figures in raw["differences"].items()
        }
        evidence = raw["evidence"]
        if evidence is not None and not helps(differences):
            raise ValueError(
                "Expected no evidence where the figures do not show that it helps in every archive."
            )
        return cls(
            differences,
            None if evidence is None else MetadataEvidence.from_json(evidence),
            tuple(map(OperatingPoint.from_json, raw["operating_points"])),
        )


def run_trial(
    table: "pd.DataFrame",
    probabilities: Floats,
    labels: Labels,
    lesions: Labels,
    short_side_px: int,
) -> MetadataTrial | None:
    """Try the facts of a dataset's table on its images; None where it has none.

    `probabilities` is (N, 8) float64, calibrated, of images that the network was not trained on; `lesions` is (N,) int.
    Images with a short side of at least `short_side_px` and smaller ones are two parts of their own.
    """
    design, archives = design_of(table), archives_of(table)
    if not design.any():
        return None
    held_out = add_evidence(
        probabilities, out_of_fold(design, probabilities, labels, archives, lesions)
    )
    differences = compare(labels, probabilities, held_out, lesions, parts_of(table, short_side_px))
    thresholds = choose_thresholds(
        classification.malignant_probability(held_out), classification.malignant_truth(labels)
    )
    measured = (measured_point(threshold, labels, held_out, lesions) for threshold in thresholds)
    points = tuple(OperatingPoint.from_json({**point, "split": "validation"}) for point in measured)
    kept = helps(differences)
    weights = fit_evidence(design, probabilities, labels, archives)
    return MetadataTrial(
        differences,
        MetadataEvidence.from_weights(weights) if kept else None,
        points if kept else (),
    )


def helps(differences: Differences) -> bool:
    """Say whether facts help: in every archive AUC or likelihood is clearly better, and nothing anywhere clearly worse.

    Clearly: the whole interval of the difference lies on one side.
    """
    archives = [figures for part, figures in differences.items() if part.startswith(ARCHIVE)]
    better = all(any(figures[name].verdict(name) > 0 for name in DECIDING) for figures in archives)
    worse = any(
        found.verdict(name) < 0
        for figures in differences.values()
        for name, found in figures.items()
    )
    return bool(archives) and better and not worse


def compare(
    labels: Labels, before: Floats, after: Floats, lesions: Labels, parts: Parts, draws: int = DRAWS
) -> dict[str, dict[str, Difference]]:
    """Compare two sets of (N, 8) probabilities of the same images in each part that has one, lesions drawn in pairs."""
    found: dict[str, dict[str, Difference]] = {}
    for part, inside in parts.items():
        if inside.any():
            groups = np.unique(lesions[inside], return_inverse=True)[1]
            weights = np.concatenate(list(bootstrap(groups, draws)))
            both = labels[inside], before[inside], after[inside]
            found[part] = {
                name: _difference(compute, *both, weights) for name, (compute, _) in FIGURES.items()
            }
    return found


def parts_of(table: "pd.DataFrame", short_side_px: int) -> dict[str, NDArray[np.bool_]]:
    """Return all images, each archive's, and those above and below a short side, as masks."""
    archives = archives_of(table)
    short = table[["width_px", "height_px"]].min(axis=1).to_numpy(np.float64, na_value=np.nan)
    return {
        "all": np.ones(len(table), bool),
        **{f"{ARCHIVE}{name}": archives == name for name in np.unique(archives)},
        f"short side ≥ {short_side_px} px": short >= short_side_px,
        f"short side < {short_side_px} px": short < short_side_px,
    }


def archives_of(table: "pd.DataFrame") -> NDArray[np.str_]:
    """Return the archive of each image as text; images of none that is known count as one more."""
    return table["archive"].fillna("not known").to_numpy(np.str_)


def _difference(
    compute: Callable[..., Floats], labels: Labels, before: Floats, after: Floats, weights: Floats
) -> Difference:
    drawn = compute(labels, after, weights) - compute(labels, before, weights)
    defined = drawn[~np.isnan(drawn)]
    low = high = None
    if len(defined) and len(defined) >= DEFINED_SHARE * len(drawn):
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).round(4).tolist()
    one, other = (float(compute(labels, p)) for p in (before, after))
    return Difference(_rounded(one), _rounded(other), low, high)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
