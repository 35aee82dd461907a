"""Prevents spreadsheets from computing cells of a CSV file as formulas.

File names, ids and table text come from outside. OWASP: "CSV Injection",
https://owasp.org/www-community/attacks/CSV_Injection
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# The wide forms are those of East Asian keyboards, which spreadsheets take as well.
_STARTS = "=+\\-@＝＋－＠"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FORMULA = re.compile(rf"""'*[ "]*[{_STARTS}\t\r\n]""")
# A spreadsheet of another country splits a line at other signs than a comma, so a cell may begin
# inside a cell.
_INNER = re.compile(rf"""(?<=[;\t\r\n])(?='*[ "]*[{_STARTS}])""")
_INNER_SAFE = re.compile(rf"""(?<=[;\t\r\n])'(?='*[ "]*[{_STARTS}])""")


def safe_cell(text: str) -> str:
    """Return text as a cell that no spreadsheet computes.

    Text that begins as a formula does gets an apostrophe before it. Numbers stay as they are,
    negative ones too. `original_cell` reverses it.

    >>> safe_cell("=A1")
    "'=A1"
    >>> safe_cell("-0.25")
    '-0.25'
    """
    if _NUMBER.fullmatch(text):
        return text
    escaped = _INNER.sub("'", text)
    if _FORMULA.match(text):
        return f"'{escaped}"
    return escaped


def original_cell(cell: str) -> str:
    """Return the text behind a cell of `safe_cell`; other cells stay as they are.

    >>> original_cell("'=A1")
    '=A1'
    """
    text = _INNER_SAFE.sub("", cell)
    # An apostrophe before other text belongs to the text.
    if text.startswith("'") and _FORMULA.match(text, 1):
        return text[1:]
    return text


def safe_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose text can be written as CSV: `safe_cell` of each cell."""
    safe = table.copy()
    for name in safe.columns:
        column = safe[name]
        # Numbers, truth values and times cannot be formulas.
        if column.dtype.kind not in "biufcmM":
            safe[name] = column.map(_safe_value, na_action="ignore")
    return safe


def _safe_value(value: object) -> object:
    if isinstance(value, str):
        return safe_cell(value)
    return value
