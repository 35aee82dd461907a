"""Draws the building blocks of a PDF report: paragraphs, notices, facts, lists.

Lengths are in mm, sizes of letters in pt. Only long texts are split between two pages.
"""

from collections.abc import Sequence

from cadlib.report.pdf import style
from cadlib.report.pdf.sheet import Column, Sheet
from cadlib.report.pdf.style import BODY, GAP, HEADING, MARGIN, SMALL, VALUE, Fact, Letters

_LABEL_WIDTH = 42.0
_BULLET_WIDTH = 4.0
_BADGE_PADDING = 3.0
_BAR_WIDTH = 1.2
_BOX_PADDING = 3.5


class Document(Sheet):
    """A report of one image, written from top to bottom."""

    def paragraph(self, text: str, letters: Letters = BODY) -> None:
        """Draw a text over the whole width. Only one that is higher than a page is split."""
        column = self.full
        height = self.height_of(text, column.width, letters)
        # A text of several pages begins where it is.
        if height < self.eph:
            self.ensure(height)
        top = self.get_y()
        self.write_text(text, column, top, letters)

    def heading(self, text: str, following: float = 20) -> None:
        """Begin a section, with an entry in the outline; `following` mm stay on the same page."""
        self.space(4.5)
        # A heading at the end of a page would stand alone.
        height = HEADING.line + 3 + following
        self.ensure(height)
        self.start_section(text)
        top = self.get_y()
        end = self.write_text(text, self.full, top, HEADING)
        self.rule(end + 0.6)
        self.set_y(end + 2.6)

    def notice(self, lead: str, text: str = "") -> None:
        """Draw a box with a large sentence and a text below it."""
        letters = Letters(
            style.LEAD_PT,
            bold=True,
            colour=style.ACCENT,
        )
        self._box(lead, text, letters, style.ACCENT_TINT)

    def warning(self, text: str) -> None:
        """Draw a box with a warning."""
        letters = Letters(
            VALUE.size_pt,
            bold=True,
            colour=style.WARNING,
        )
        # The sign marks a warning without colour.
        marked = f"⚠ {text}"
        self._box(marked, "", letters, style.WARNING_TINT)

    def badge(self, text: str, top: float, colour: str) -> None:
        """Draw a word on a ground of a colour, at the right margin."""
        letters = Letters(
            SMALL.size_pt,
            bold=True,
            colour=style.PAPER,
        )
        width = self.width_of(text, letters)
        outer_width = width + 2 * _BADGE_PADDING
        left = self.right - outer_width
        self.set_fill_color(colour)
        self.rect(
            left,
            top,
            outer_width,
            letters.line + 2,
            style="F",
            round_corners=True,
            corner_radius=1.2,
        )
        # The last millimetre is padding, so that the word is never broken.
        column = Column(left + _BADGE_PADDING, width + 1)
        self.write_text(text, column, top + 1, letters)

    def columns(self, facts: Sequence[Fact], count: int = 4) -> None:
        """Draw facts side by side, the label above the value."""
        gaps = (count - 1) * GAP
        width = (self.epw - gaps) / count
        for first in range(0, len(facts), count):
            row = facts[first : first + count]
            self._row(row, width)

    def rows(self, facts: Sequence[Fact]) -> None:
        """Draw facts below each other, the label left of the value. A long value may be split."""
        label_column = Column(MARGIN, _LABEL_WIDTH - GAP)
        value_column = Column(MARGIN + _LABEL_WIDTH, self.epw - _LABEL_WIDTH)
        for fact in facts:
            height = self.height_of(fact.value, value_column.width, BODY)
            # Of a value of several pages the first lines stay beside their label.
            least_height = min(height, 3 * BODY.line)
            self.ensure(least_height)
            top = self.get_y()
            page = self.page_no()
            # Letters of two sizes stand on one line.
            label_end = self.write_text(fact.label, label_column, top + 0.35, SMALL)
            end = self.write_text(fact.value, value_column, top, BODY)
            # On a further page, the end of the label has no meaning.
            if self.page_no() == page:
                end = max(end, label_end)
            self.set_y(end + 0.9)

    def bullets(self, texts: Sequence[str]) -> None:
        """Draw texts as a list."""
        bullet_column = Column(MARGIN, _BULLET_WIDTH)
        text_column = Column(MARGIN + _BULLET_WIDTH, self.epw - _BULLET_WIDTH)
        for text in texts:
            height = self.height_of(text, text_column.width, BODY)
            self.ensure(height)
            top = self.get_y()
            self.write_text("•", bullet_column, top, BODY)
            self.write_text(text, text_column, top, BODY)
            self.space(0.6)

    def _box(self, lead: str, text: str, letters: Letters, tint: str) -> None:
        """Draw two texts on a tinted ground, with a bar in the colour of the first at its left."""
        indent = _BAR_WIDTH + _BOX_PADDING
        width = self.epw - indent - _BOX_PADDING
        column = Column(MARGIN + indent, width)
        lead_height = self.height_of(lead, width, letters)
        text_height = self.height_of(text, width, BODY)
        paddings = 2 * _BOX_PADDING
        height = lead_height + text_height + paddings
        self.ensure(height)
        top = self.get_y()
        # The ground comes first: what is drawn later covers it.
        self.bar(self.full, top, height, tint)
        bar = Column(MARGIN, _BAR_WIDTH)
        self.bar(bar, top, height, letters.colour)
        end = self.write_text(lead, column, top + _BOX_PADDING, letters)
        if text:
            self.write_text(text, column, end, BODY)
        self.set_y(top + height)

    def _row(self, facts: Sequence[Fact], width: float) -> None:
        """Draw facts side by side, each of a width, as high as the highest."""
        heights = [self._fact_height(fact, width) for fact in facts]
        # Columns begin on the same page and at the same height.
        self.ensure(max(heights))
        top = self.get_y()
        x = MARGIN
        ends = []
        for fact in facts:
            column = Column(x, width)
            end = self._fact(fact, column, top)
            ends.append(end)
            x += width + GAP
        self.set_y(max(ends) + 1.5)

    def _fact(self, fact: Fact, column: Column, top: float) -> float:
        """Draw a fact, and return where it ends."""
        end = self.write_text(fact.label, column, top, SMALL)
        end = self.write_text(fact.value, column, end, VALUE)
        # An empty text would be a line.
        if fact.note:
            end = self.write_text(fact.note, column, end, SMALL)
        return end

    def _fact_height(self, fact: Fact, width: float) -> float:
        """Return how high `_fact` is."""
        label_height = self.height_of(fact.label, width, SMALL)
        value_height = self.height_of(fact.value, width, VALUE)
        note_height = self.height_of(fact.note, width, SMALL)
        return label_height + value_height + note_height
