"""How the pages write a diagnosis, and text that came with a file."""

import math
from collections.abc import Sequence

from cadlib.images.patient import PatientFacts
from cadlib.metrics.operating_point import OperatingPoint, two_digits
from cadlib.metrics.partial_labels import GROUPS
from cadlib.metrics.predictive_values import INTERVAL_NOTE, PredictiveValues
from cadlib.model.model import Prediction
from cadlib.saliency.test_time_views import Stability
from cadlib.taxonomy import BENIGN_MARK, CODES, DIAGNOSES, MALIGNANT_MARK, diagnosis
from cadlib.ui import harmless

plain = harmless.plain


def apart(value: float, limit: float, digits: str) -> str:
    """Return a value in the format `digits`, ".2f" or ".4g", with more where it would look like the limit.

    Without them a value of 1.003 would be shown as 1.00 beside a limit of 1 that it exceeds.
    """
    kind, places = digits[-1], int(digits[1:-1])
    text = f"{value:.{places}{kind}}"
    while value != limit and float(text) == limit and places < 17:
        places += 1
        text = f"{value:.{places}{kind}}"
    return text


def sign(code: str) -> str:
    """Return the sign of a diagnosis or a group: ▲ malignant, ● benign, ○ none of the eight."""
    if code in GROUPS.values():
        return MALIGNANT_MARK if code == GROUPS[True] else BENIGN_MARK
    return diagnosis(code).mark if code in CODES else "○"


def hue(code: str) -> str:
    """Return the hue of the group of a diagnosis, as Streamlit's themes name it."""
    return {MALIGNANT_MARK: "orange", BENIGN_MARK: "blue"}.get(sign(code), "gray")


def mark(code: str) -> str:
    """Return the sign of a diagnosis in the hue of its group, as Markdown."""
    return f":{hue(code)}[{sign(code)}]"


def about_the_set(likely: Sequence[str], coverage: float) -> str:
    """Say what a prediction set holds, and how often such sets hold the truth."""
    if not likely:
        return f"No diagnosis fits this image well: its {100 * coverage:.0f} % prediction set is empty."
    codes = ", ".join(f"{sign(code)} {code}" for code in likely)
    share = f"{100 * coverage:.0f} %"
    return (
        f"{share} prediction set (◆): {codes}. It was built to contain the true diagnosis for {share} "
        "of the images of each diagnosis."
    )


def _with_n(value: float | None, interval: Sequence[float] | None, images: str) -> str:
    """Return "0.94 (95 % CI 0.92 to 0.96; 1,304 malignant images)", without an interval the images alone."""
    between = ""
    if interval:
        low, high = (two_digits(end) for end in interval)
        between = f"95 % CI {low} to {high}; "
    return f"{_or_undefined(value)} ({between}{images})"


def _with_ends(value: float, interval: Sequence[float] | None) -> str:
    """Return "0.94 (0.92 to 0.96)", without an interval the value alone."""
    if not interval:
        return _or_undefined(value)
    low, high = (_or_undefined(end) for end in interval)
    return f"{_or_undefined(value)} ({low} to {high})"


def _or_undefined(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "not defined"
    return two_digits(value)


def _change(value: float) -> str:
    """Return a signed change with two digits and a minus sign: "+0.06", "−0.06"."""
    return f"{value:+.2f}".replace("-", "−")


def about_the_threshold(point: OperatingPoint) -> str:
    """Say what an operating point did on the images it was measured on."""
    sensitivity = _with_n(
        point.sensitivity, point.intervals.sensitivity, f"{point.n_malignant:,} malignant images"
    )
    specificity = _with_n(
        point.specificity, point.intervals.specificity, f"{point.n_benign:,} benign images"
    )
    return (
        f"At this threshold ({point.split} split): sensitivity {sensitivity}, "
        f"specificity {specificity}."
    )


def about_the_patients(values: PredictiveValues, images: str) -> str:
    """Say what a threshold does to 100 patients at a prevalence, with both predictive values.

    `images` are those that it was measured on, "test images".
    """
    counts, ends = values.of(100), values.intervals or (None, None)
    note = f" {INTERVAL_NOTE}" if values.intervals else ""
    missed = values.one_missed_in
    seldom = ""
    if math.isfinite(missed):
        seldom = f" About one malignant lesion is missed in {missed:,.0f} patients."
    return (
        f"Of 100 patients with one lesion each, {counts.found + counts.needless} are referred; "
        f"{counts.found} of these have a malignant lesion. "
        f"PPV {_with_ends(values.positive, ends[0])}, NPV {_with_ends(values.negative, ends[1])}."
        f"{seldom}{note} Sensitivity and specificity come from {images}; "
        "measure them on your own images."
    )


def about_the_prevalence(measured: float, here: float, share: float, prevalence: float) -> str:
    """Say what a malignant probability is where other shares of the lesions are malignant."""
    return (
        f"The malignant probability {two_digits(measured)} assumes that {100 * share:.0f} % of the images are "
        f"malignant, as in the data set. At {100 * prevalence:.1f} % it is {two_digits(here)}, if lesions look "
        "the same there and here. The referral decision does not change."
    )


def about_the_facts(prediction: Prediction) -> str:
    """Say what age, sex and site changed: the malignant probability, and the diagnosis they moved most."""
    if prediction.image_probabilities is None:
        return "No patient data: the result uses the image only."
    risk = sum(
        change for change, one in zip(prediction.moved, DIAGNOSES, strict=True) if one.malignant
    )
    most = max(zip(prediction.moved, CODES, strict=True), key=lambda pair: abs(pair[0]))
    return (
        f"Patient data changed the malignant probability by {_change(risk)}. "
        f"The largest change was {named(most[1])}, {_change(most[0])}."
    )


def about_the_header(facts: PatientFacts) -> str:
    """Say what the header of a file told of its patient."""
    age = None if facts.age_years is None else f"{facts.age_years:.0f} years"
    return (
        f"From the file header: {', '.join(part for part in (age, facts.sex, facts.site) if part)}."
    )


def about_the_turns(found: Stability, threshold: float, *, with_facts: bool = False) -> str:
    """Say whether the answer stays the same when the picture is turned round and mirrored.

    The views are predicted from the image alone, so `threshold` is that for results without patient data.
    `with_facts` tells that the result beside this sentence has patient data.
    """
    low, high = found.malignant_range
    alone = ", without patient data" if with_facts else ""
    views = (
        f"Rotated and mirrored{alone}: same top diagnosis in {found.same} of "
        f"{len(found.probabilities)} views, "
        f"malignant probability {two_digits(low)} to {two_digits(high)}"
    )
    if low < threshold <= high:
        return f"{views}; the range crosses the referral threshold."
    return f"{views}."


def percent(share: float) -> str:
    """Return a share, 0 to 1, in whole percent that never shows 0 or 100 for what is only near it."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def named(code: str) -> str:
    """Return a code with its name, "MEL Melanoma"; the code alone where it is none of the eight."""
    return f"{code} {diagnosis(code).name}" if code in CODES else code
