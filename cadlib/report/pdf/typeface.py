"""Prepares texts for the fonts of a PDF report.

The fonts are Inter 4.001, regular and semi-bold (SIL Open Font License, `fonts/OFL.txt`). They have
Latin with all accents, Vietnamese, Greek and Cyrillic. Other characters are shown as code points.
"""

import unicodedata
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont

FAMILY = "Inter"
FONTS_DIR = Path(__file__).parents[1] / "fonts"
REGULAR_FILE = FONTS_DIR / "Inter-Regular.ttf"
BOLD_FILE = FONTS_DIR / "Inter-SemiBold.ttf"


@cache
def _covered() -> frozenset[int]:
    """Return the code points that both fonts have."""
    of_each = []
    for file in (REGULAR_FILE, BOLD_FILE):
        with TTFont(file, lazy=True) as font:
            of_each.append(frozenset(font.getBestCmap()))
    regular, bold = of_each
    return regular & bold


def printable(text: str) -> str:
    """Return a text in which every character can be printed; line breaks stay.

    A run of characters that the fonts lack, or that have no shape of their own, becomes their code
    points: "[U+674E U+660E]". So nothing vanishes, and nothing changes the direction of a line.
    """
    # A letter with its accent is one glyph only in the composed form.
    composed = unicodedata.normalize("NFC", text)
    parts: list[str] = []
    missing: list[str] = []
    for character in composed:
        shown = _shown(character)
        if shown is None:
            missing.append(f"U+{ord(character):04X}")
            continue
        parts.append(_in_brackets(missing))
        parts.append(shown)
        missing = []
    parts.append(_in_brackets(missing))
    return "".join(parts)


def is_changed(text: str) -> bool:
    """Return whether a text has characters that are shown as code points."""
    characters = unicodedata.normalize("NFC", text)
    return any(_shown(character) is None for character in characters)


def _shown(character: str) -> str | None:
    """Return the printed form of a character; None where it is shown as a code point."""
    if character == "\n":
        return character
    is_space = character == "\t" or unicodedata.category(character) == "Zs"
    # Fixed spaces have widths of their own, which the breaks of lines do not consider.
    if is_space:
        return " "
    is_visible = character.isprintable() and ord(character) in _covered()
    return character if is_visible else None


def _in_brackets(code_points: list[str]) -> str:
    if not code_points:
        return ""
    return f"[{' '.join(code_points)}]"
