"""Reads a table file as text, whatever its encoding and delimiter.

Nothing is guessed: a file that can be read in two ways is refused with both.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.layouts.columns import names_images
from cadlib.errors import DatasetInvalid

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
_WORKBOOK_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
_DATA_FRAME_SUFFIXES = (".parquet", ".feather", ".arrow")
_COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")
ADVICE = "Save the table as a comma-separated UTF-8 file with one header line."
WINDOWS = "Windows-1252"
_UTF8_OR_WINDOWS = "UTF-8 or Windows-1252"

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_MISSING = frozenset(
    ("", "NA", "N/A", "NaN", "nan", "null", "None", "na", "n/a", "NULL", "none", "#N/A", "<NA>")
)
_HEAD_BYTES = 1 << 16
_COMPARED_ROWS = 50
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    # UTF-32 comes before UTF-16, because its mark begins with the same bytes.
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_WORKBOOK_SIGNATURES = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
# gzip, bzip2, xz, Zstandard
_COMPRESSED_SIGNATURES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SEP_LINE = re.compile(r'"?sep=(.)"?[,;|\t ]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
# A spreadsheet writes ="0123" to keep the text "0123".
_FORMULA_TEXT = re.compile(r'="(.*)"', re.DOTALL)


class TableRefused(DatasetInvalid):
    """A file is no readable table; `reason` is the cause in a few words."""

    def __init__(
        self,
        path: Path,
        reason: str,
        expected: str = "a table in {path}",
    ) -> None:
        wanted = expected.format(path=path)
        super().__init__(f"Expected {wanted}, but {reason}. {ADVICE}")
        self.reason = reason


@dataclass(frozen=True, eq=False)
class TextTable:
    """The cells of a table as text.

    `cells` has a row of the file in each row, str, without surrounding blanks; an empty cell, and
    one that only says "NA" or the like, is missing. `short_rows`, (N,), are rows with fewer cells
    than the header. `columns` are all columns of the file, `encoding` is its encoding's name.
    """

    path: Path
    columns: tuple[str, ...]
    cells: pd.DataFrame
    short_rows: NDArray[np.bool_]
    encoding: str


def is_table_name(name: str) -> bool:
    """Return whether a file of this name is a readable table."""
    suffix = Path(name).suffix.lower()
    return suffix in TABLE_SUFFIXES and not name.startswith(".")


def unread_table(name: str) -> str:
    """Return why a table of this file name is not read, empty for every other file."""
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix in _WORKBOOK_SUFFIXES:
        return "a workbook: save it as CSV"
    if suffix in _DATA_FRAME_SUFFIXES:
        return "a binary table: save it as CSV"
    if suffix in _COMPRESSED_SUFFIXES and is_table_name(path.stem):
        return "a compressed table: unpack it"
    return ""


def read_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a table from its first lines; raise TableRefused for no table."""
    data = _bytes(path, _HEAD_BYTES)
    is_whole = path.stat().st_size <= _HEAD_BYTES
    text, _ = _decoded(path, data, final=is_whole)
    delimiter, text = _delimiter_of(path, text)
    rows = _rows(path, text, delimiter)
    _, first_row = next(rows)
    header = _header(path, first_row)
    return header.names


def read_text_table(path: Path, wanted: Callable[[str], bool] | None = None) -> TextTable:
    """Read a table; raise TableRefused for another file, and for a table without a row.

    `wanted` returns whether `cells` has a column; without it `cells` has all columns.
    """
    text, encoding = _decoded(path, _bytes(path))
    delimiter, text = _delimiter_of(path, text)
    rows = _rows(path, text, delimiter)
    _, first_row = next(rows)
    header = _header(path, first_row)
    # Only wanted columns are read: a table of pixels has thousands of others.
    is_wanted = [wanted is None or wanted(name) for name in header.names]
    # A nameless column is read too: without a value it is no column.
    is_read = np.logical_or(is_wanted, header.is_nameless).tolist()
    columns, is_short = _columns(path, is_read, rows)
    names, frame = _text_frame(header, columns, is_wanted, len(is_short))
    return TextTable(path, names, frame, np.array(is_short), encoding)


@dataclass(frozen=True)
class _Header:
    """The names of a table's columns. A nameless column has the name of its place."""

    names: tuple[str, ...]
    is_nameless: tuple[bool, ...]


def _text_frame(
    header: _Header,
    columns: list[list[str]],
    is_wanted: list[bool],
    n_rows: int,
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Return the names of all columns, and the cells of the wanted ones."""
    cells = {}
    names = []
    for place, name in enumerate(header.names):
        column = columns[place]
        # A delimiter at the end of each line makes a column without a name and without a value.
        if header.is_nameless[place] and not any(column):
            continue
        names.append(name)
        if is_wanted[place]:
            cells[name] = pd.array(column, dtype="str")
    # Stated here, because a frame without columns would have no rows.
    row_numbers = pd.RangeIndex(n_rows)
    frame = pd.DataFrame(cells, index=row_numbers)
    is_missing = _is_missing(frame)
    return tuple(names), frame.mask(is_missing)


def _columns(
    path: Path,
    is_read: list[bool],
    rows: Iterator[tuple[int, list[str]]],
) -> tuple[list[list[str]], list[bool]]:
    """Return the cells of each column of the header, and which rows are shorter than it.

    A column that is not read has no cells. Raise TableRefused for a row that is longer than the
    header, and for a table without a row.
    """
    width = len(is_read)
    places = np.flatnonzero(is_read).tolist()
    columns: list[list[str]] = [[] for _ in is_read]
    is_short: list[bool] = []
    for line, row in rows:
        # Empty cells behind the last column are only delimiters at the end of the line.
        surplus = "".join(row[width:])
        if surplus.strip():
            raise TableRefused(
                path,
                f"line {line} has {len(row)} cells and the header {width}",
                "rows of {path} as long as its header",
            )
        n_missing = width - len(row)
        is_short.append(n_missing > 0)
        row += [""] * n_missing
        for place in places:
            cell = _plain_cell(row[place])
            columns[place].append(cell)
    if not is_short:
        raise TableRefused(path, "only a header came", "rows in {path}")
    return columns, is_short


def _is_missing(frame: pd.DataFrame) -> pd.DataFrame:
    is_missing = frame.isin(_MISSING)
    for name in frame.columns:
        if names_images(name):
            # "NA" may be the name of a file, so only an empty cell is missing.
            is_missing[name] = frame[name] == ""
    return is_missing


def read_csv(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    """Read a table of known columns as text, with missing cells as NaN, indexed by `image`.

    Raise TableRefused when the file is no table, or when the column `image` or all of the
    `required` columns are missing.
    """
    table = read_text_table(path)
    names = ", ".join(table.columns)[:200]
    reason = f"its columns are: {names}"
    if "image" not in table.columns:
        raise TableRefused(path, reason, "a column `image` in {path}")
    if set(required).isdisjoint(table.columns):
        expected = f"columns {', '.join(required)} in {{path}}"
        raise TableRefused(path, reason, expected)
    return table.cells.set_index("image")


def _bytes(path: Path, limit: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit)
    except OSError as error:
        reason = f"it cannot be opened: {error.strerror or type(error).__name__}"
        raise TableRefused(path, reason) from error
    if not data:
        raise TableRefused(path, "the file is empty")
    return data


def _decoded(
    path: Path,
    data: bytes,
    *,
    final: bool = True,
) -> tuple[str, str]:
    """Return a file's text and its encoding's name; `final` is False for its beginning alone."""
    if data.startswith(_WORKBOOK_SIGNATURES):
        raise TableRefused(path, "it is a workbook of a spreadsheet")
    if data.startswith(_COMPRESSED_SIGNATURES):
        raise TableRefused(path, "it is compressed: unpack it first")
    codec, name, data = _encoding_of(data)
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        text = decoder.decode(data, final)
    except UnicodeDecodeError as error:
        # A byte order mark names the encoding: there is nothing else to try.
        if name != _UTF8_OR_WINDOWS:
            reason = f"its {name} text is damaged at byte {error.start:,}"
            raise TableRefused(path, reason) from error
        text = _windows_text(path, data, error)
        name = WINDOWS
    if name == _UTF8_OR_WINDOWS:
        name = "UTF-8"
    # DOS ended a text file with this character.
    text = text.removesuffix("\x1a")
    control = _CONTROL.search(text)
    if control:
        reason = f"it is no text: character {ord(control[0])} at place {control.start():,}"
        raise TableRefused(path, reason)
    return text, name


def _encoding_of(data: bytes) -> tuple[str, str, bytes]:
    """Return a file's codec, its name, and the bytes behind a byte order mark."""
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            return codec, name, data.removeprefix(mark)
    # ASCII in UTF-16: every second byte is 0.
    first = data[0:64:2]
    second = data[1:64:2]
    if len(second) > 1:
        if all(first) and not any(second):
            return "utf-16-le", "UTF-16", data
        if all(second) and not any(first):
            return "utf-16-be", "UTF-16", data
    return "utf-8", _UTF8_OR_WINDOWS, data


def _windows_text(
    path: Path,
    data: bytes,
    error: UnicodeDecodeError,
) -> str:
    """Return the text of a file that is not UTF-8, as the `error` of its decoder says."""
    place = f"byte {error.start:,} (0x{data[error.start]:02X})"
    # Letters in UTF-8 elsewhere in the file would become other letters.
    rest = data.decode("utf-8", "ignore")
    if not rest.isascii():
        raise TableRefused(path, f"it is UTF-8 in one place and not in another, at {place}")
    # Windows-1252 has no letter for five bytes, so that it does not accept every file.
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        raise TableRefused(path, f"it is neither UTF-8 nor {WINDOWS} text, at {place}") from error


def _delimiter_of(path: Path, text: str) -> tuple[str, str]:
    """Return the delimiter of a table, and its text without a spreadsheet's line `sep=;`."""
    text = text.lstrip("\ufeff")
    sep_line = _SEP_LINE.match(text)
    if sep_line:
        delimiter = sep_line[1]
        if delimiter not in _DELIMITERS:
            raise TableRefused(
                path,
                f"its first line names the delimiter {delimiter!r}",
            )
        return delimiter, text[sep_line.end() :]
    # A long file is not copied for each delimiter.
    head = text[:_HEAD_BYTES]
    headers = _headers(path, head)
    if not headers:
        # A table of one column has no delimiter.
        return ",", text
    with_ids = _delimiters_with_ids(path, head, headers)
    if len(with_ids) > 1:
        words = [_DELIMITERS[delimiter] for delimiter in with_ids]
        several = " or ".join(words)
        raise TableRefused(path, f"its cells can be separated by {several}")
    if with_ids:
        return with_ids[0], text
    # Without a column of ids it is no table of images, and is only named in a report.
    widest = max(headers, key=lambda delimiter: len(headers[delimiter]))
    return widest, text


def _delimiters_with_ids(
    path: Path,
    head: str,
    headers: dict[str, list[str]],
) -> list[str]:
    """Return the delimiters whose header names images; of several, those with even rows."""
    with_ids = []
    for delimiter, header in headers.items():
        if any(map(names_images, header)):
            with_ids.append(delimiter)
    if len(with_ids) < 2:
        return with_ids
    even = [delimiter for delimiter in with_ids if _is_even(path, head, delimiter)]
    return even or with_ids


def _headers(path: Path, text: str) -> dict[str, list[str]]:
    """Return the header of a table for each delimiter that divides it; raise TableRefused."""
    headers: dict[str, list[str]] = {}
    refusal: TableRefused | None = None
    can_be_read = False
    for delimiter in _DELIMITERS:
        try:
            _, header = next(_rows(path, text, delimiter))
        except TableRefused as error:
            # Quoted cells cannot be read with another delimiter.
            refusal = error
            continue
        can_be_read = True
        if len(header) > 1:
            headers[delimiter] = [_plain_cell(cell) for cell in header]
    if refusal and not can_be_read:
        raise refusal
    return headers


def _is_even(path: Path, text: str, delimiter: str) -> bool:
    """Return whether the first rows are as long as the header."""
    widths = set[int]()
    try:
        for _, row in islice(_rows(path, text, delimiter), _COMPARED_ROWS):
            # Delimiters at the end of a line.
            while not row[-1].strip():
                row.pop()
            width = len(row)
            widths.add(width)
    except TableRefused:
        return False
    return len(widths) == 1


def _rows(
    path: Path,
    text: str,
    delimiter: str,
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, header first, each with its line; raise TableRefused."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    empty = True
    try:
        for row in reader:
            if "".join(row).strip():
                empty = False
                yield reader.line_num, row
    except csv.Error as error:
        raise TableRefused(path, f"line {reader.line_num} cannot be read: {error}") from error
    if empty:
        raise TableRefused(path, "the file is empty")


def _plain_cell(cell: str) -> str:
    cell = cell.strip().strip("\ufeff\u200b")
    if not cell.startswith("="):
        return cell
    formula = _FORMULA_TEXT.fullmatch(cell)
    if formula is None:
        return cell
    text = formula[1]
    return text.strip()


def _header(path: Path, row: list[str]) -> _Header:
    """Return the columns of a table whose first row this is; raise TableRefused."""
    names = []
    is_nameless = []
    for place, cell in enumerate(row, start=1):
        name = _plain_cell(cell)
        is_nameless.append(not name)
        names.append(name or f"(column {place} without a name)")
    if len(set(names)) < len(names):
        shown = ", ".join(names)[:200]
        raise TableRefused(
            path,
            f"its columns are: {shown}",
            "each column of {path} once",
        )
    return _Header(tuple(names), tuple(is_nameless))
