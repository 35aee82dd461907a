"""Can this picture be read? Size, sharpness, noise, light, contrast, frame, and what lies on the skin or misses there.

Every figure but the size and JPEG's blocks is taken on a picture of at most 256 px on its short side, so that it means
the same for a thumbnail and for a photograph. `benchmarks/quality.py` prints how the figures spread over real images,
from which the limits are read off, and how many damaged and undamaged pictures each limit catches; docs/quality.md says
what that gave.
"""

from dataclasses import dataclass
from typing import Any, Literal

from cadlib.images import LesionImage
from cadlib.images.quality.measurements import QualityFigures, measure

Severity = Literal["good", "poor", "unreadable"]

SWAPPED = "red and blue swapped"
_MISLED = (
    "colour cast",
    "ink",
)  # swapped channels turn skin bluish, and brown into a colour that skin does not have


@dataclass(frozen=True)
class Limit:
    """From where on a figure is a finding: beyond `poor`; and where no answer can rest on it: beyond `unreadable`.

    `below` tells the side: a figure below the limit is one, else a figure above it.
    """

    figure: str
    name: str
    below: bool
    poor: float
    unreadable: float | None
    sentence: str


LIMITS = (
    Limit(
        "short_side_px",
        "size",
        True,
        150,
        None,
        "The picture is very small; what a dermatoscope shows is lost.",
    ),
    Limit(
        "detail", "sharpness", True, 0.034, 0.018, "The picture is blurred or of low resolution."
    ),
    Limit("noise", "noise", False, 0.006, 0.02, "The picture is noisy."),
    Limit(
        "blocks",
        "compression",
        False,
        1.72,
        None,
        "The file is compressed so much that its blocks show.",
    ),
    Limit("brightness", "underexposure", True, 0.51, 0.33, "The picture is dark."),
    Limit(
        "clipped",
        "overexposure",
        False,
        0.12,
        0.56,
        "Much of the picture is white: nothing can be seen there.",
    ),
    Limit("glare", "glare", False, 0.0012, None, "Light is reflected by bubbles or the skin."),
    Limit("contrast", "contrast", True, 0.385, 0.2, "The picture has little contrast."),
    Limit(
        "dark_frame",
        "dark frame",
        False,
        0.02,
        0.75,
        "Much of the picture is the black round the lens.",
    ),
    Limit("red_lead", SWAPPED, True, -0.5, -0.8, "Red and blue look swapped."),
    Limit("blue_cast", "colour cast", False, 0.008, 0.25, "The light is bluish; colours mislead."),
    Limit("hair", "hair", False, 0.02, None, "Hair or other dark lines cover part of the image."),
    Limit("ruler", "ruler", False, 0.5, None, "A ruler lies in the picture."),
    Limit("ink", "ink", False, 0.002, None, "Ink, a sticker or a glove lies in the picture."),
    Limit("lesion_contrast", "lesion", True, 4.7, 2.4, "No lesion stands out from the skin."),
    Limit(
        "lesion_at_border",
        "whole lesion",
        False,
        0.2,
        None,
        "The lesion reaches beyond the picture.",
    ),
)
"""In the order in which a reader sees them. Read off `benchmarks/quality.py`, which also says how they do: a `poor`
limit lies near the 98th percentile of training images of at least 150 px, and nearer where what lies beyond it was seen
to be there (hair, ruler, ink); an `unreadable` one beyond the 99.9th."""

PROBLEMS = {
    "size": "too small",
    "sharpness": "blurred",
    "compression": "compressed",
    "contrast": "low contrast",
    "lesion": "no clear lesion",
    "whole lesion": "lesion cut off",
}
"""Name of a check -> the problem that a failed one shows, where the name tells what is missing instead.

"⚠ whole lesion" would read as the opposite. Files keep the names of the checks.
"""


@dataclass(frozen=True)
class Finding:
    """One figure of a picture held against its limit; `sentence` says what is wrong, empty where nothing is."""

    name: str
    figure: float
    limit: float
    severity: Severity
    sentence: str

    @property
    def problem(self) -> str:
        """Return what is wrong in one or two words, for a badge."""
        return PROBLEMS.get(self.name, self.name)


@dataclass(frozen=True)
class QualityReport:
    """Every finding on one picture, in the order of `LIMITS`.

    Where red and blue look swapped, the colour cast and the ink are no findings: the exchange explains them.
    """

    figures: QualityFigures
    findings: tuple[Finding, ...]

    @property
    def readable(self) -> bool:
        """Tell whether an answer on this picture may be shown without being asked for."""
        return self.severity != "unreadable"

    @property
    def swapped(self) -> bool:
        """Tell whether red and blue look swapped."""
        return any(finding.name == SWAPPED for finding in self.flagged)

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """Return what is wrong with it, the worst first."""
        wrong = [finding for finding in self.findings if finding.severity != "good"]
        return tuple(sorted(wrong, key=lambda finding: finding.severity == "poor"))

    @property
    def severity(self) -> Severity:
        """Return the severity of the worst finding."""
        return self.flagged[0].severity if self.flagged else "good"

    @property
    def sentence(self) -> str:
        """Return the worst that is wrong with the picture as text, empty where nothing is."""
        return " ".join(
            finding.sentence for finding in self.flagged if finding.severity == self.severity
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values: every figure by the name of its limit, and what is wrong."""
        return {
            "severity": self.severity,
            "figures": {
                limit.name: round(getattr(self.figures, limit.figure), 4) for limit in LIMITS
            },
            "wrong": {finding.name: finding.severity for finding in self.flagged},
        }


def inspect(image: LesionImage) -> QualityReport:
    """Measure a picture and hold each figure against its limit."""
    figures = measure(image)
    findings = [_held(limit, getattr(figures, limit.figure)) for limit in LIMITS]
    if any(finding.name == SWAPPED and finding.severity != "good" for finding in findings):
        findings = [finding for finding in findings if finding.name not in _MISLED]
    return QualityReport(figures, tuple(findings))


def _held(limit: Limit, figure: float) -> Finding:
    def beyond(bound: float | None) -> bool:
        return bound is not None and (figure < bound if limit.below else figure > bound)

    if beyond(limit.unreadable):
        assert limit.unreadable is not None
        return Finding(limit.name, figure, limit.unreadable, "unreadable", limit.sentence)
    if beyond(limit.poor):
        return Finding(limit.name, figure, limit.poor, "poor", limit.sentence)
    return Finding(limit.name, figure, limit.poor, "good", "")
