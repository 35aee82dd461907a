"""Defines colours, sizes of letters and distances of a PDF report.

Lengths are in mm, sizes of letters in pt.
"""

from dataclasses import dataclass

PAPER = "#FFFFFF"
INK = "#16191C"
GREY = "#565D63"
RULE = "#D3D6D8"
TRACK = "#EFF0F1"
ACCENT = "#0F766E"
ACCENT_TINT = "#EDF5F4"
WARNING = "#9A3412"
WARNING_TINT = "#FDF3EC"
"""Text on its ground has a contrast of at least 4.9 (WCAG 2: 4.5)."""

MARGIN = 18.0
FOOT_HEIGHT = 18.0
"""From the lower edge of the page, where no content is."""
LEAD_PT = 12.5
GAP = 6.0
"""Between two columns."""
_MM_A_POINT = 25.4 / 72
_LINE_SPACING = 1.4


@dataclass(frozen=True)
class Letters:
    """How a text is set. `colour` is #RRGGBB."""

    size_pt: float
    bold: bool = False
    colour: str = INK

    @property
    def line(self) -> float:
        """Return the height of a line in mm."""
        return self.size_pt * _MM_A_POINT * _LINE_SPACING


TITLE = Letters(18, bold=True)
HEADING = Letters(11, bold=True, colour=ACCENT)
VALUE = Letters(10, bold=True)
BODY = Letters(9.2)
STRONG = Letters(9.2, bold=True)
SMALL = Letters(8.2, colour=GREY)
SMALL_STRONG = Letters(8.2, bold=True, colour=WARNING)
FOOT = Letters(7.5, colour=GREY)


@dataclass(frozen=True)
class Fact:
    """A labelled value, with a smaller `note` below it."""

    label: str
    value: str
    note: str = ""
