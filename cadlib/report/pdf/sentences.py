"""Writes the sentences of a PDF report."""

import math
from collections.abc import Sequence
from datetime import date, datetime

from cadlib.cases.records import OTHER
from cadlib.images import LesionImage
from cadlib.images.quality import QualityCheck, QualityReport
from cadlib.images.synthetic import is_demo
from cadlib.metrics.operating_point import OperatingPoint, two_digits
from cadlib.metrics.predictive_values import INTERVAL_NOTE
from cadlib.model.metadata import PatientFacts
from cadlib.model.novelty import NOT_CHECKED, Novelty
from cadlib.report.pdf.details import ReportedReading, in_utc
from cadlib.saliency.heatmap import METHODS, Heatmap
from cadlib.saliency.trust import LEAST_FAITHFUL, LEAST_STABLE, Trust
from cadlib.taxonomy import diagnosis

TITLE = "Assessment of a skin lesion"
CAD_NOTE = (
    "Computer-aided diagnosis: it supports the reader and never replaces one. "
    "It is not a diagnosis."
)
NOT_SET = "not set"
PRELIMINARY = "Preliminary"
SIGNED = "Signed"
CODE_POINTS_NOTE = (
    "Characters that the fonts of this report do not have are shown as Unicode code points: [U+…]."
)
MAP_NOT_CHECKED = (
    "Do not interpret this map: its faithfulness and stability have not been measured."
)
NO_MAP = "No saliency map was computed for this report."
_SEVERITIES = {"poor": "interpret with care", "unreadable": "not interpretable"}
_STAGES = {"before": "Before the reader saw the result", "after": "After the reader saw the result"}
_RESPONSES = {
    "agrees": "agrees with the result",
    "changes": "changes the first reading",
    "overrides": "decides against the result",
}


def moment_text(moment: datetime) -> str:
    """Return a time in UTC: "30 Nov 2026, 14:05 UTC"."""
    return f"{moment:%d %b %Y, %H:%M} UTC"


def day_text(day: date) -> str:
    """Return a day: "30 Nov 2026"."""
    return f"{day:%d %b %Y}"


def share_text(value: float) -> str:
    """Return a share, 0 to 1, with two digits, or that it is not defined."""
    return "not defined" if math.isnan(value) else two_digits(value)


def interval_text(ends: Sequence[float] | None) -> str:
    """Return a 95 % interval: "95 % CI 0.92 to 0.96"."""
    if not ends:
        return "95 % CI not defined"
    low, high = ends
    return f"95 % CI {share_text(low)} to {share_text(high)}"


def named(code: str) -> str:
    """Return a diagnosis with its mark and code: "▲ Melanoma (MEL)"."""
    # A reader may choose a diagnosis that the model does not know.
    if code == OTHER:
        return f"○ Another diagnosis ({OTHER})"
    entry = diagnosis(code)
    return f"{entry.mark} {entry.name} ({code})"


def image_text(image: LesionImage) -> str:
    """Return what an image is: "Original image, 600 × 450 px"."""
    width_px, height_px = image.file_px
    kind = "Original image"
    # Nobody may take a drawing for a patient's lesion.
    if is_demo(image.pixels):
        kind = "Synthetic lesion, not real skin"
    return f"{kind}, {width_px:,} × {height_px:,} px"


def map_text(heatmap: Heatmap) -> str:
    """Return what a saliency map explains, and what its colours mean."""
    name = next(method.name for method in METHODS if method.key == heatmap.method)
    if heatmap.diagnosis is None:
        subject = f"Saliency map: {name}, not class-specific"
    else:
        subject = f"Saliency map: {name} for {named(heatmap.diagnosis)}"
    # A map of zeros is a result, too.
    if not heatmap.raw_peak:
        return f"{subject}. No region supports this diagnosis."
    return f"{subject}. Colours: from transparent (0) to yellow ({heatmap.raw_peak:.2g})."


def checks_text(trust: Trust) -> str:
    """Return faithfulness and stability of a saliency map, each with its lower limit."""
    faithfulness = _signed_text(trust.faithfulness)
    stability = _signed_text(trust.stability)
    return (
        f"Faithfulness {faithfulness} (limit {LEAST_FAITHFUL}), "
        f"stability {stability} (limit {LEAST_STABLE})."
    )


def set_text(likely: Sequence[str] | None, coverage: float) -> str:
    """Return a sentence on a prediction set and on how often such sets contain the truth."""
    share = f"{100 * coverage:.0f} %"
    # None and an empty set are two different results.
    if likely is None:
        return "No prediction set: it was not fitted for results with patient data."
    if not likely:
        return f"No diagnosis fits this image well: its {share} prediction set is empty."
    return (
        f"◆ in the {share} prediction set. It was built to contain the true diagnosis "
        f"for {share} of the images of each diagnosis."
    )


def point_text(point: OperatingPoint) -> str:
    """Return an operating point, and what it was measured on."""
    return (
        f"Operating point: {point.shown_name}, threshold {point.threshold:.3f}, "
        f"measured on {point.split} images."
    )


def prevalence_text(prevalence: float) -> str:
    """Return what PPV and NPV assume."""
    return (
        f"PPV and NPV assume that {100 * prevalence:.3g} % of the examined lesions are malignant. "
        f"{INTERVAL_NOTE}"
    )


def quality_text(report: QualityReport) -> str:
    """Return how many checks of the quality passed."""
    total = len(report.checks)
    passed = total - len(report.flagged)
    return f"Image quality: {passed} of {total} checks passed."


def finding_text(check: QualityCheck) -> str:
    """Return a failed check: "Blurred (interpret with care): the sentence"."""
    problem = check.problem.capitalize()
    severity = _SEVERITIES[check.severity]
    return f"{problem} ({severity}): {check.sentence}"


def novelty_text(novelty: Novelty | None) -> str:
    """Return whether an image is similar to the training images, and how near the limit is."""
    if novelty is None:
        return f"{NOT_CHECKED}."
    score = f"(novelty {_beside_limit(novelty.score)}, limit 1)"
    if not novelty.known:
        return f"Image type: not similar to the training images {score}. {novelty.sentence}"
    return (
        f"Image type: similar to the training images {score}. "
        "This does not mean that the diagnosis is one of the eight."
    )


def facts_text(facts: PatientFacts | None) -> str:
    """Return which facts of the patient the result uses."""
    if facts is None or not facts.known:
        return "None: the result uses the image only"
    parts = []
    if facts.age_years is not None:
        parts.append(f"age {facts.age_years:.0f} years")
    if facts.sex:
        parts.append(facts.sex)
    if facts.site:
        parts.append(facts.site)
    text = ", ".join(parts)
    return text.capitalize()


def stage_text(reading: ReportedReading) -> str:
    """Return when a reader decided, and what the reader does with the result."""
    stage = _STAGES[reading.stage]
    if reading.response is None:
        return stage
    return f"{stage}; {_RESPONSES[reading.response]}"


def status_text(reading: ReportedReading | None) -> str:
    """Return who signed a report, or why it is preliminary."""
    if reading is None:
        return f"{PRELIMINARY}: no reader has assessed this image."
    if reading.signed_at is None:
        return f"{PRELIMINARY}: {reading.reader} has not signed this reading."
    signed_at = in_utc("the signature", reading.signed_at)
    return f"{SIGNED} by {reading.reader}, {moment_text(signed_at)}."


def _beside_limit(score: float) -> str:
    """Return a novelty score that never looks like its limit of 1, unless it is 1."""
    text = f"{score:.2f}"
    digits = 2
    while score != 1 and float(text) == 1 and digits < 17:
        digits += 1
        text = f"{score:.{digits}f}"
    return text


def _signed_text(value: float) -> str:
    if math.isnan(value):
        return "not defined"
    text = f"{value:.2f}"
    return text.replace("-", "−")
