"""Checks whether an image can be read.

The checks cover size, sharpness, noise, light, contrast, frame, what lies on the skin and whether
the whole lesion is there. Every figure except the size and JPEG's blocks is measured on an image of
at most 256 px on its short side, so that it means the same for a thumbnail and for a photograph.

The limits come from `benchmarks/quality.py`. It prints the distribution of the figures over real
images, and how many damaged and undamaged images each limit flags. docs/quality.md has its results.
"""

from dataclasses import dataclass
from typing import Any, Literal

from cadlib.images import LesionImage
from cadlib.images.quality.measurements import QualityFigures, measure

Severity = Literal["good", "poor", "unreadable"]

SWAPPED = "red and blue swapped"
# Swapped channels turn skin bluish, and brown into a colour that skin does not have.
_MISLED = ("colour cast", "ink")


@dataclass(frozen=True)
class Limit:
    """The limits of one figure: `poor` images are flagged, on `unreadable` ones no answer can rest.

    If `below`, a figure below the limit is a finding, else a figure above it.
    """

    figure: str
    name: str
    below: bool
    poor: float
    unreadable: float | None
    sentence: str


LIMITS = (
    Limit(
        figure="short_side_px",
        name="size",
        below=True,
        poor=150,
        unreadable=None,
        sentence="The image is very small; dermoscopic structures are lost.",
    ),
    Limit(
        figure="detail",
        name="sharpness",
        below=True,
        poor=0.034,
        unreadable=0.018,
        sentence="The image is blurred or has a low resolution.",
    ),
    Limit(
        figure="noise",
        name="noise",
        below=False,
        poor=0.006,
        unreadable=0.02,
        sentence="The image is noisy.",
    ),
    Limit(
        figure="blocks",
        name="compression",
        below=False,
        poor=1.72,
        unreadable=None,
        sentence="The compression is so strong that JPEG blocks are visible.",
    ),
    Limit(
        figure="brightness",
        name="underexposure",
        below=True,
        poor=0.51,
        unreadable=0.33,
        sentence="The image is too dark.",
    ),
    Limit(
        figure="clipped",
        name="overexposure",
        below=False,
        poor=0.12,
        unreadable=0.56,
        sentence="Large parts of the image are white; no detail is visible there.",
    ),
    Limit(
        figure="glare",
        name="glare",
        below=False,
        poor=0.0012,
        unreadable=None,
        sentence="Bubbles or skin reflect the light.",
    ),
    Limit(
        figure="contrast",
        name="contrast",
        below=True,
        poor=0.385,
        unreadable=0.2,
        sentence="The image has low contrast.",
    ),
    Limit(
        figure="dark_frame",
        name="dark frame",
        below=False,
        poor=0.02,
        unreadable=0.75,
        sentence="The dark lens border covers much of the image.",
    ),
    Limit(
        figure="red_lead",
        name=SWAPPED,
        below=True,
        poor=-0.5,
        unreadable=-0.8,
        sentence="Red and blue look swapped.",
    ),
    Limit(
        figure="blue_cast",
        name="colour cast",
        below=False,
        poor=0.008,
        unreadable=0.25,
        sentence="The light is bluish; colours are misleading.",
    ),
    Limit(
        figure="hair",
        name="hair",
        below=False,
        poor=0.02,
        unreadable=None,
        sentence="Hair or other dark lines cover part of the image.",
    ),
    Limit(
        figure="ruler",
        name="ruler",
        below=False,
        poor=0.5,
        unreadable=None,
        sentence="A ruler is visible in the image.",
    ),
    Limit(
        figure="ink",
        name="ink",
        below=False,
        poor=0.002,
        unreadable=None,
        sentence="Ink, a sticker or a glove is visible in the image.",
    ),
    Limit(
        figure="lesion_contrast",
        name="lesion",
        below=True,
        poor=4.7,
        unreadable=2.4,
        sentence="No lesion stands out from the surrounding skin.",
    ),
    Limit(
        figure="lesion_at_border",
        name="whole lesion",
        below=False,
        poor=0.2,
        unreadable=None,
        sentence="The lesion extends beyond the image border.",
    ),
)
"""Limits in the order of display, chosen with `benchmarks/quality.py`, which also measures them.

A `poor` limit is near the 98th percentile of training images of at least 150 px. It is stricter
where a look at the images confirmed the finding (hair, ruler, ink). An `unreadable` limit is beyond
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
class Finding:
    """One figure of an image compared with its limit. `sentence` is the problem, or empty."""

    name: str
    figure: float
    limit: float
    severity: Severity
    sentence: str

    @property
    def problem(self) -> str:
        """Return the problem in one or two words, for a badge."""
        return PROBLEMS.get(self.name, self.name)


@dataclass(frozen=True)
class QualityReport:
    """All findings of one image, in the order of `LIMITS`.

    Where red and blue look swapped, colour cast and ink are left out: the exchange explains them.
    """

    figures: QualityFigures
    findings: tuple[Finding, ...]

    @property
    def readable(self) -> bool:
        """Return whether an answer for this image may be shown without a request."""
        return self.severity != "unreadable"

    @property
    def swapped(self) -> bool:
        """Return whether red and blue look swapped."""
        return any(finding.name == SWAPPED for finding in self.flagged)

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """Return the findings that are not good, the worst first."""
        return (*self._of("unreadable"), *self._of("poor"))

    def _of(self, severity: Severity) -> list[Finding]:
        """Return the findings of a severity, in the order of `LIMITS`."""
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def severity(self) -> Severity:
        """Return the severity of the worst finding."""
        flagged = self.flagged
        if not flagged:
            return "good"
        return flagged[0].severity

    @property
    def sentence(self) -> str:
        """Return the sentences of the worst findings, or an empty text."""
        worst = self._of(self.severity)
        # A good finding has an empty sentence.
        sentences = [finding.sentence for finding in worst if finding.sentence]
        return " ".join(sentences)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values: each figure by the name of its limit, and the flags."""
        figures = {}
        for limit in LIMITS:
            figure = getattr(self.figures, limit.figure)
            figures[limit.name] = round(figure, 4)
        return {
            "severity": self.severity,
            "figures": figures,
            "wrong": {finding.name: finding.severity for finding in self.flagged},
        }


def inspect(image: LesionImage) -> QualityReport:
    """Measure an image and compare each figure with its limit."""
    figures = measure(image)
    findings = []
    for limit in LIMITS:
        figure = getattr(figures, limit.figure)
        finding = _compare(limit, figure)
        findings.append(finding)
    report = QualityReport(figures, tuple(findings))
    if not report.swapped:
        return report
    # The exchange of red and blue explains these findings, so they are left out.
    unexplained = [finding for finding in findings if finding.name not in _MISLED]
    remaining = tuple(unexplained)
    return QualityReport(figures, remaining)


def _compare(limit: Limit, figure: float) -> Finding:
    if limit.unreadable is not None and _is_beyond(limit, figure, limit.unreadable):
        return Finding(limit.name, figure, limit.unreadable, "unreadable", limit.sentence)
    if _is_beyond(limit, figure, limit.poor):
        return Finding(limit.name, figure, limit.poor, "poor", limit.sentence)
    return Finding(limit.name, figure, limit.poor, "good", "")


def _is_beyond(limit: Limit, figure: float, bound: float) -> bool:
    # A figure equal to its limit is good.
    if limit.below:
        return figure < bound
    return figure > bound
