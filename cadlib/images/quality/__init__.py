"""Checks whether an image can be read.

The checks cover size, sharpness, noise, light, contrast, frame, what lies on the skin and whether
the whole lesion is there. Every measurement except the size and JPEG's blocks is taken on an image
of at most 256 px on its short side, so that it means the same for a thumbnail and for a photograph.

The limits come from `benchmarks/quality.py`. It prints the distribution of the measurements over
real images, and how many damaged and undamaged images each limit flags. docs/quality.md has its
results.
"""

from dataclasses import dataclass
from typing import Any, Literal

from cadlib.images import LesionImage
from cadlib.images.quality.measurements import QualityMeasurements, measure

Severity = Literal["good", "poor", "unreadable"]

SWAPPED = "red and blue swapped"
# Swapped channels turn skin bluish, and brown into a colour that skin does not have.
_MISLED = ("colour cast", "ink")


@dataclass(frozen=True)
class Limit:
    """The limits of one measurement, by its name in `QualityMeasurements`.

    `poor` images are flagged, on `unreadable` ones no answer can rest. If `below`, a measurement
    below the limit is a problem, else a measurement above it.
    """

    measurement: str
    name: str
    below: bool
    poor: float
    unreadable: float | None
    sentence: str


LIMITS = (
    Limit(
        measurement="short_side_px",
        name="size",
        below=True,
        poor=150,
        unreadable=None,
        sentence="The image is very small; dermoscopic structures are lost.",
    ),
    Limit(
        measurement="detail",
        name="sharpness",
        below=True,
        poor=0.034,
        unreadable=0.018,
        sentence="The image is blurred or has a low resolution.",
    ),
    Limit(
        measurement="noise",
        name="noise",
        below=False,
        poor=0.006,
        unreadable=0.02,
        sentence="The image is noisy.",
    ),
    Limit(
        measurement="blocks",
        name="compression",
        below=False,
        poor=1.72,
        unreadable=None,
        sentence="The compression is so strong that JPEG blocks are visible.",
    ),
    Limit(
        measurement="brightness",
        name="underexposure",
        below=True,
        poor=0.51,
        unreadable=0.33,
        sentence="The image is too dark.",
    ),
    Limit(
        measurement="clipped",
        name="overexposure",
        below=False,
        poor=0.12,
        unreadable=0.56,
        sentence="Large parts of the image are white; no detail is visible there.",
    ),
    Limit(
        measurement="glare",
        name="glare",
        below=False,
        poor=0.0012,
        unreadable=None,
        sentence="Bubbles or skin reflect the light.",
    ),
    Limit(
        measurement="contrast",
        name="contrast",
        below=True,
        poor=0.385,
        unreadable=0.2,
        sentence="The image has low contrast.",
    ),
    Limit(
        measurement="dark_frame",
        name="dark frame",
        below=False,
        poor=0.02,
        unreadable=0.75,
        sentence="The dark lens border covers much of the image.",
    ),
    Limit(
        measurement="red_lead",
        name=SWAPPED,
        below=True,
        poor=-0.5,
        unreadable=-0.8,
        sentence="Red and blue look swapped.",
    ),
    Limit(
        measurement="blue_cast",
        name="colour cast",
        below=False,
        poor=0.008,
        unreadable=0.25,
        sentence="The light is bluish; colours are misleading.",
    ),
    Limit(
        measurement="hair",
        name="hair",
        below=False,
        poor=0.02,
        unreadable=None,
        sentence="Hair or other dark lines cover part of the image.",
    ),
    Limit(
        measurement="ruler",
        name="ruler",
        below=False,
        poor=0.5,
        unreadable=None,
        sentence="A ruler is visible in the image.",
    ),
    Limit(
        measurement="ink",
        name="ink",
        below=False,
        poor=0.002,
        unreadable=None,
        sentence="Ink, a sticker or a glove is visible in the image.",
    ),
    Limit(
        measurement="lesion_contrast",
        name="lesion",
        below=True,
        poor=4.7,
        unreadable=2.4,
        sentence="No lesion stands out from the surrounding skin.",
    ),
    Limit(
        measurement="lesion_at_border",
        name="whole lesion",
        below=False,
        poor=0.2,
        unreadable=None,
        sentence="The lesion extends beyond the image border.",
    ),
)
"""Limits in the order of display, chosen with `benchmarks/quality.py`, which also measures them.

A `poor` limit is near the 98th percentile of training images of at least 150 px. It is stricter
where a look at the images confirmed the problem (hair, ruler, ink). An `unreadable` limit is beyond
the 99.9th percentile."""

PROBLEMS = {
    "size": "too small",
    "sharpness": "blurred",
    "compression": "compressed",
    "contrast": "low contrast",
    "lesion": "no clear lesion",
    "whole lesion": "lesion cut off",
}
"""Name of a check -> its problem on a badge, where the name is that of the opposite.

"⚠ whole lesion" would read as if the lesion was whole. Files use the names of the checks.
"""


@dataclass(frozen=True)
class QualityCheck:
    """One measurement of an image compared with its limit. `sentence` is the problem, or empty."""

    name: str
    measurement: float
    limit: float
    severity: Severity
    sentence: str

    @property
    def problem(self) -> str:
        """Return the problem in one or two words, for a badge."""
        return PROBLEMS.get(self.name, self.name)


@dataclass(frozen=True)
class QualityReport:
    """All checks of one image, in the order of `LIMITS`.

    Where red and blue look swapped, colour cast and ink are left out: the exchange explains them.
    """

    measurements: QualityMeasurements
    checks: tuple[QualityCheck, ...]

    @property
    def readable(self) -> bool:
        """Return whether an answer for this image may be shown without a request."""
        return self.severity != "unreadable"

    @property
    def swapped(self) -> bool:
        """Return whether red and blue look swapped."""
        return any(check.name == SWAPPED for check in self.flagged)

    @property
    def flagged(self) -> tuple[QualityCheck, ...]:
        """Return the checks that are not good, the worst first."""
        return (*self._of("unreadable"), *self._of("poor"))

    def _of(self, severity: Severity) -> list[QualityCheck]:
        """Return the checks of a severity, in the order of `LIMITS`."""
        return [check for check in self.checks if check.severity == severity]

    @property
    def severity(self) -> Severity:
        """Return the severity of the worst check."""
        flagged = self.flagged
        if not flagged:
            return "good"
        return flagged[0].severity

    @property
    def sentence(self) -> str:
        """Return the sentences of the worst checks, or an empty text."""
        worst = self._of(self.severity)
        # A good check has an empty sentence.
        sentences = [check.sentence for check in worst if check.sentence]
        return " ".join(sentences)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values: measurements by name of limit, and the flags."""
        measurements = {}
        for limit in LIMITS:
            measurement = getattr(self.measurements, limit.measurement)
            measurements[limit.name] = round(measurement, 4)
        # The key stays "figures", so that other programs can still read it.
        return {
            "severity": self.severity,
            "figures": measurements,
            "wrong": {check.name: check.severity for check in self.flagged},
        }


def inspect(image: LesionImage) -> QualityReport:
    """Measure an image and compare each measurement with its limit."""
    measurements = measure(image)
    checks = []
    for limit in LIMITS:
        measurement = getattr(measurements, limit.measurement)
        check = _compare(limit, measurement)
        checks.append(check)
    report = QualityReport(measurements, tuple(checks))
    if not report.swapped:
        return report
    # The exchange of red and blue explains these results, so they are left out.
    unexplained = [check for check in checks if check.name not in _MISLED]
    remaining = tuple(unexplained)
    return QualityReport(measurements, remaining)


def _compare(limit: Limit, measurement: float) -> QualityCheck:
    if limit.unreadable is not None and _is_beyond(limit, measurement, limit.unreadable):
        return QualityCheck(limit.name, measurement, limit.unreadable, "unreadable", limit.sentence)
    if _is_beyond(limit, measurement, limit.poor):
        return QualityCheck(limit.name, measurement, limit.poor, "poor", limit.sentence)
    return QualityCheck(limit.name, measurement, limit.poor, "good", "")


def _is_beyond(limit: Limit, measurement: float, bound: float) -> bool:
    # A measurement equal to its limit is good.
    if limit.below:
        return measurement < bound
    return measurement > bound
