"""Draws the pages of a PDF report: frame, texts, images, bars.

Lengths are in mm, sizes of letters in pt. Every text passes `typeface.printable`.
"""

import io
from dataclasses import dataclass
from datetime import datetime

from fpdf import FPDF
from fpdf.enums import Align, MethodReturnValue, XPos, YPos
from fpdf.prefs import ViewerPreferences

from cadlib import __version__
from cadlib.report.pdf import style, typeface
from cadlib.report.pdf.style import FOOT, GAP, MARGIN, Letters
from cadlib.report.pdf.typeface import printable

_PAGE_NUMBER_WIDTH = 20.0
_TOTAL_PAGES = "\x1e"
"""Stands for the number of pages until it is known; `printable` lets no text contain it."""


@dataclass(frozen=True)
class Frame:
    """What is repeated on the pages: head from the second page on, foot on every page."""

    title: str
    subject: str
    """Whose report it is, so that a page that got lost finds back. Cut to the width of a page."""
    status: str
    foot: str


@dataclass(frozen=True)
class Column:
    """A part of the width of a page, from its left edge `x` on."""

    x: float
    width: float


class Sheet(FPDF):
    """The pages of a report in A4 or Letter. The same calls give the same bytes."""

    def __init__(self, paper: str, created: datetime, frame: Frame) -> None:
        super().__init__(orientation="portrait", unit="mm", format=paper)
        self.frame = frame
        self.set_margin(MARGIN)
        # Columns begin exactly where the margin ends.
        self.c_margin = 0
        self.set_auto_page_break(auto=True, margin=style.FOOT_HEIGHT)
        self.add_font(typeface.FAMILY, "", typeface.REGULAR_FILE)
        self.add_font(typeface.FAMILY, "B", typeface.BOLD_FILE)
        self.alias_nb_pages(_TOTAL_PAGES, align=Align.R)
        self.set_lang("en-GB")
        # No name and no pseudonym: a viewer and a file search show these fields.
        self.set_title(frame.title)
        software = f"cadlib {__version__}"
        self.set_creator(software)
        self.set_producer(software)
        # fpdf2 derives the id of the file from its content and this time.
        self.set_creation_date(created)
        self.viewer_preferences = ViewerPreferences(display_doc_title=True)
        # From here on, fpdf2 calls `header` and `footer` for each page.
        self.add_page()

    @property
    def full(self) -> Column:
        """Return the column between the margins."""
        return Column(MARGIN, self.epw)

    @property
    def right(self) -> float:
        """Return where the right margin begins."""
        return self.w - MARGIN

    def header(self) -> None:
        """Draw the head of a page: a band of colour on the first, a line of text on the others."""
        # The first page has its title instead.
        if self.page_no() == 1:
            self.bar(Column(0, self.w), 0, 2.4, style.ACCENT)
            self.set_y(13)
            return
        frame = self.frame
        left = f"{frame.title} · {frame.subject}"
        status_width = self.width_of(frame.status, FOOT)
        left_width = self.epw - status_width - GAP
        # The status is never cut, a long name is.
        left = self._cut(left, left_width, FOOT)
        self.write_text(left, Column(MARGIN, left_width), 9, FOOT)
        # A line of exactly its own width could be broken by a rounding error.
        status = Column(self.right - status_width, status_width + 1)
        self.write_text(frame.status, status, 9, FOOT)
        self.rule(14.5)
        self.set_y(19)

    def footer(self) -> None:
        """Draw the foot of a page: the intended role of the report, and the number of the page."""
        top = self.h - 13.5
        self.rule(top - 2)
        column = Column(MARGIN, self.epw - _PAGE_NUMBER_WIDTH)
        self.write_text(self.frame.foot, column, top, FOOT)
        number = f"Page {self.page_no()} of {_TOTAL_PAGES}"
        self._use(FOOT)
        self.set_xy(MARGIN, top)
        # This text alone does not pass `printable`, which would show the placeholder.
        self.cell(
            self.epw,
            FOOT.line,
            number,
            align=Align.R,
        )

    def write_text(self, text: str, column: Column, top: float, letters: Letters) -> float:
        """Draw a text in a column, from a height on, and return where it ends, below it."""
        self._use(letters)
        self.set_xy(column.x, top)
        self.multi_cell(
            column.width,
            letters.line,
            printable(text),
            # Justified lines would have gaps in narrow columns.
            align=Align.L,
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )
        return self.get_y()

    def height_of(self, text: str, width: float, letters: Letters) -> float:
        """Return how high a text is in a column; 0 for an empty text."""
        # fpdf2 counts an empty text as a line.
        if not text:
            return 0.0
        self._use(letters)
        height = self.multi_cell(
            width,
            letters.line,
            printable(text),
            align=Align.L,
            dry_run=True,
            output=MethodReturnValue.HEIGHT,
        )
        # Its type depends on `output`.
        assert isinstance(height, float | int)
        return float(height)

    def width_of(self, text: str, letters: Letters) -> float:
        """Return how wide a text is in one line."""
        self._use(letters)
        shown = printable(text)
        return float(self.get_string_width(shown))

    def ensure(self, height: float) -> None:
        """Begin a new page where so much height does not remain."""
        end = self.get_y() + height
        if end > self.page_break_trigger:
            self.add_page()

    def space(self, height: float) -> None:
        """Leave some height empty."""
        y = self.get_y()
        self.set_y(y + height)

    def picture(self, data: bytes, column: Column, top: float, height: float, words: str) -> None:
        """Draw an image file over the width of a column; `words` are read aloud instead."""
        # A JPEG becomes part of the file as it is.
        self.image(
            io.BytesIO(data),
            x=column.x,
            y=top,
            w=column.width,
            h=height,
            alt_text=printable(words),
        )

    def bar(self, column: Column, top: float, height: float, colour: str) -> None:
        """Draw a filled rectangle."""
        self.set_fill_color(colour)
        self.rect(
            column.x,
            top,
            column.width,
            height,
            style="F",
        )

    def rule(self, y: float) -> None:
        """Draw a thin line between the margins."""
        self.set_draw_color(style.RULE)
        self.set_line_width(0.2)
        self.line(
            MARGIN,
            y,
            self.right,
            y,
        )

    def _cut(self, text: str, width: float, letters: Letters) -> str:
        """Return a text that fits into a line, with … where it is cut."""
        if self.width_of(text, letters) <= width:
            return text
        shortened = f"{text}…"
        # A name has at most some hundred characters, so each can be tried.
        while text and self.width_of(shortened, letters) > width:
            text = text[:-1]
            shortened = f"{text}…"
        return shortened

    def _use(self, letters: Letters) -> None:
        """Set font, size and colour of the next text."""
        weight = "B" if letters.bold else ""
        self.set_font(typeface.FAMILY, weight, letters.size_pt)
        self.set_text_color(letters.colour)
