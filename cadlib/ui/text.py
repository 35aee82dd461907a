"""Writes the sentences of the pages about diagnoses and results."""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime

from cadlib.images.patient import PatientFacts
from cadlib.metrics.operating_point import OperatingPoint, two_digits
from cadlib.metrics.partial_labels import GROUPS
from cadlib.metrics.predictive_values import INTERVAL_NOTE, PredictiveValues
from cadlib.model.model import Prediction
from cadlib.saliency.test_time_views import Stability
from cadlib.taxonomy import BENIGN_MARK, CODES, DIAGNOSES, MALIGNANT_MARK, diagnosis
from cadlib.ui import harmless

plain = harmless.plain

# A double has at most 17 significant digits, so more of them cannot separate two values.
_MOST_DIGITS = 17
_HUES = {MALIGNANT_MARK: "orange", BENIGN_MARK: "blue"}
_NO_SIGN = "○"


def apart(value: float, limit: float, digits: str) -> str:
    """Return a value in the format `digits`, ".2f" or ".4g".

    It has more digits where it would look like the limit. Without them a
    value of 1.003 would be shown as 1.00 beside a limit of 1 that it exceeds.
    """
    form = digits[-1]
    places = int(digits[1:-1])
    text = f"{value:.{places}{form}}"
    while value != limit and float(text) == limit and places < _MOST_DIGITS:
        places += 1
        text = f"{value:.{places}{form}}"
    return text


def sign(code: str) -> str:
    """Return the sign of a diagnosis or a group: ▲ malignant, ● benign, ○ none of the eight."""
    if code == GROUPS[True]:
        return MALIGNANT_MARK
    if code in GROUPS.values():
        return BENIGN_MARK
    if code in CODES:
        return diagnosis(code).mark
    return _NO_SIGN


def hue(code: str) -> str:
    """Return the hue of the group of a diagnosis, as Streamlit's themes name it."""
    return _HUES.get(sign(code), "gray")


def mark(code: str) -> str:
    """Return the sign of a diagnosis in the hue of its group, as Markdown."""
    return f":{hue(code)}[{sign(code)}]"


def named(code: str) -> str:
    """Return a code with its name, "MEL Melanoma"; the code alone where it is none of the eight."""
    if code not in CODES:
        return code
    return f"{code} {diagnosis(code).name}"


def day_text(day: date) -> str:
    """Return a day, or the day of a moment: "1 Dec 2026"."""
    return f"{day.day} {day:%b %Y}"


def moment_text(moment: datetime) -> str:
    """Return a moment in UTC: "1 Dec 2026, 14:05 UTC"."""
    in_utc = moment.astimezone(UTC)
    return f"{day_text(in_utc)}, {in_utc:%H:%M} UTC"


def percent(share: float) -> str:
    """Return a share, 0 to 1, in whole percent: "17 %"; never 0 or 100 for a value only near it."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def about_the_set(likely: Sequence[str], coverage: float) -> str:
    """Return a sentence on a prediction set and on how often such sets contain the truth."""
    share = f"{100 * coverage:.0f} %"
    if not likely:
        return f"No diagnosis fits this image well: its {share} prediction set is empty."
    codes = ", ".join(f"{sign(code)} {code}" for code in likely)
    return (
        f"{share} prediction set (◆): {codes}. "
        f"It was built to contain the true diagnosis for {share} of the images of each diagnosis."
    )


def about_the_threshold(point: OperatingPoint) -> str:
    """Return sensitivity and specificity of an operating point on the images of its split."""
    sensitivity = _or_undefined(point.sensitivity)
    specificity = _or_undefined(point.specificity)
    return (
        f"At this threshold ({point.split} split): "
        f"sensitivity {sensitivity} ({point.n_malignant:,} malignant images), "
        f"specificity {specificity} ({point.n_benign:,} benign images)."
    )


def threshold_intervals(point: OperatingPoint) -> str:
    """Return the 95 % intervals of `about_the_threshold`, for a tooltip."""
    sensitivity = _ends(point.intervals.sensitivity)
    specificity = _ends(point.intervals.specificity)
    return f"95 % CI: sensitivity {sensitivity}, specificity {specificity}."


def about_the_patients(values: PredictiveValues, images: str) -> str:
    """Return what a threshold means for 100 patients at a prevalence, with both predictive values.

    `images` names those that it was measured on: "test images".
    """
    counts = values.of(100)
    referred = counts.detected + counts.needless
    positive = _or_undefined(values.positive)
    negative = _or_undefined(values.negative)
    of_100 = (
        f"Of 100 patients with one lesion each, {referred} are referred; "
        f"{counts.detected} of these have a malignant lesion."
    )
    sentences = [of_100, f"PPV {positive}, NPV {negative}."]
    # It is infinite where no malignant lesion is missed.
    if math.isfinite(values.one_missed_in):
        patients = f"{values.one_missed_in:,.0f}"
        sentences.append(f"About one malignant lesion is missed in {patients} patients.")
    sentences.append(
        f"Sensitivity and specificity come from {images}; measure them on your own images."
    )
    return " ".join(sentences)


def patients_intervals(values: PredictiveValues) -> str:
    """Return the intervals of `about_the_patients`, for a tooltip."""
    intervals = values.intervals
    if not intervals:
        return "No 95 % CI: there are too few lesions at this threshold."
    positive, negative = intervals
    return f"95 % CI: PPV {_ends(positive)}, NPV {_ends(negative)}. {INTERVAL_NOTE}"


def about_the_prevalence(measured: float, here: float, share: float, prevalence: float) -> str:
    """Return what a malignant probability is at another share of malignant lesions."""
    return (
        f"The malignant probability {two_digits(measured)} assumes that "
        f"{100 * share:.0f} % of the images are malignant, as in the data set. "
        f"At {100 * prevalence:.1f} % it is {two_digits(here)}, "
        "if lesions look the same there and here. The referral decision does not change."
    )


def about_the_facts(prediction: Prediction) -> str:
    """Return how patient data changed the malignant probability, and which diagnosis most."""
    if prediction.image_probabilities is None:
        return "No patient data: the result uses the image only."
    risk = 0.0
    largest_change = 0.0
    largest_code = CODES[0]
    for change, entry in zip(prediction.moved, DIAGNOSES, strict=True):
        if entry.malignant:
            risk += change
        if abs(change) > abs(largest_change):
            largest_change = change
            largest_code = entry.code
    return (
        f"Patient data changed the malignant probability by {_change(risk)}. "
        f"The largest change was {named(largest_code)}, {_change(largest_change)}."
    )


def about_the_header(facts: PatientFacts) -> str:
    """Return the patient data that the header of a file contains."""
    parts = []
    if facts.age_years is not None:
        parts.append(f"{facts.age_years:.0f} years")
    if facts.sex:
        parts.append(facts.sex)
    if facts.site:
        parts.append(facts.site)
    return f"From the file header: {', '.join(parts)}."


def about_the_turns(stability: Stability, threshold: float, *, with_facts: bool = False) -> str:
    """Return whether the result stays the same when the image is rotated and mirrored.

    The views are predicted from the image alone, so `threshold` is that for results without patient
    data. `with_facts` is true if the result beside this sentence uses patient data.
    """
    low, high = stability.malignant_range
    lead = "Rotated and mirrored"
    if stability.averaged:
        lead = "Each rotated and mirrored view before averaging"
    alone = ", without patient data" if with_facts else ""
    views = len(stability.probabilities)
    risk_range = f"{two_digits(low)} to {two_digits(high)}"
    sentence = (
        f"{lead}{alone}: same top diagnosis in {stability.same} of {views} views, "
        f"malignant probability {risk_range}"
    )
    # A probability at the threshold is referred, so the two ends have different decisions.
    if low < threshold <= high:
        return f"{sentence}; the range crosses the referral threshold."
    return f"{sentence}."


def _ends(interval: Sequence[float] | None) -> str:
    """Return "0.92 to 0.96", or that the interval is not defined."""
    if not interval:
        return "not defined"
    low, high = interval
    low_text = _or_undefined(low)
    high_text = _or_undefined(high)
    return f"{low_text} to {high_text}"


def _or_undefined(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "not defined"
    return two_digits(value)


def _change(value: float) -> str:
    """Return a signed change with two digits and a minus sign: "+0.06", "−0.06"."""
    text = f"{value:+.2f}"
    return text.replace("-", "−")
