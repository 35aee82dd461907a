"""Keeps cells of a CSV file from being formulas when a spreadsheet opens it.

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
    """Return text as a cell that no spreadsheet computes: an apostrophe before what begins as a formula does.

    Numbers stay as they are, negative ones too. `original_cell` is the way back.

    >>> safe_cell("=A1")
    "'=A1"
    >>> safe_cell("-0.25")
    '-0.25'
    """
    if _NUMBER.fullmatch(text):
        return text
    begins = "'" if _FORMULA.match(text) else ""
    return begins + _INNER.sub("'", text)


def original_cell(cell: str) -> str:
    """Return the text that `safe_cell` made a cell of; a cell that somebody else wrote stays as it is.

    >>> original_cell("'=A1")
    '=A1'
    """
    text = _INNER_SAFE.sub("", cell)
    return text[1:] if text.startswith("'") and _FORMULA.match(text, 1) else text


def safe_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose text can be written as CSV: each cell as `safe_cell` makes it."""
    safe = table.copy()
    for name in safe.columns:
        if safe[name].dtype.kind not in "biufcmM":
            safe[name] = safe[name].map(_safe_value, na_action="ignore")
    return safe


def _safe_value(value: object) -> object:
    return safe_cell(value) if isinstance(value, str) else value
