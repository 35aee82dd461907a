"""Reads the diagnosis, and benign or malignant, from a table's columns."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cadlib.data.consistency import Mismatches
from cadlib.data.isic_csv import cells, numbers
from cadlib.data.layouts.columns import DIAGNOSIS_NAMES, Columns, class_word, plain, several_columns
from cadlib.data.layouts.table_file import TextTable
from cadlib.data.layouts.terms import (
    DIAGNOSES_BY_WORD,
    INDETERMINATE,
    MALIGNANCY_BY_WORD,
    TRUTH_BY_WORD,
    words,
)
from cadlib.taxonomy import DIAGNOSES, ISIC_2018, ISIC_2019, UNKNOWN

Flags = NDArray[np.bool_]
"""A truth value for each row, (N,)."""
MALIGNANT_BY_CODE = {d.code: d.malignant for d in DIAGNOSES}
_BENIGN_COLUMNS = ("benign", "is_benign")
_LEVELS = "::"
"""Separator of the levels in `iddx_full` of ISIC 2024."""


def read_labels(
    table: TextTable,
    columns: Columns,
    mismatches: Mismatches,
) -> pd.DataFrame:
    """Return `diagnosis` (a code or "UNK") and, where a column states it, `malignant` (boolean).

    `table.cells` is indexed by image. A row whose diagnosis and malignancy contradict each other
    has neither. The frame has no columns where the table has no label.
    """
    diagnosis_columns, malignancy_columns = _by_content(table.cells, columns)
    if len(diagnosis_columns) > 1:
        raise several_columns(
            table.path,
            "diagnosis",
            DIAGNOSIS_NAMES,
            tuple(diagnosis_columns),
        )

    labels = pd.DataFrame(index=table.cells.index)
    statements: list[_Statement] = []
    if diagnosis_columns:
        column = diagnosis_columns[0]
        text = words(table.cells[column])
        labels["diagnosis"] = _named_diagnoses(table, column, text, mismatches)
        # A column of diagnoses may say "benign" where a lesion has no other name.
        if text.isin(MALIGNANCY_BY_WORD).any():
            statements.append(_Statement.of_words(text))
    elif columns.diagnoses:
        labels["diagnosis"] = _no_text(labels.index)

    if columns.classes:
        labels["diagnosis"] = _with_classes(labels, table, columns, mismatches)

    statements += _statements(table, malignancy_columns, mismatches)
    if not statements:
        return labels
    if "diagnosis" not in labels:
        labels["diagnosis"] = _no_text(labels.index)
    return _with_malignancy(labels, statements, mismatches, table.path.name)


def _with_classes(
    labels: pd.DataFrame,
    table: TextTable,
    columns: Columns,
    mismatches: Mismatches,
) -> "pd.Series[str]":
    """Return the diagnoses of columns of 0 and 1; a column of words must not contradict them."""
    diagnosis = _one_hot(table, columns, mismatches)
    if "diagnosis" not in labels:
        return diagnosis
    return _agreed(labels["diagnosis"], diagnosis, mismatches, table.path.name)


def _no_text(index: "pd.Index[str]") -> "pd.Series[str]":
    """Return a text column with only missing values."""
    return pd.Series(pd.NA, index, dtype="str")


def _by_content(rows: pd.DataFrame, columns: Columns) -> tuple[list[str], list[str]]:
    """Return the columns of diagnoses, and those of benign or malignant, by their cells."""
    diagnosis_columns: list[str] = []
    malignancy_columns: list[str] = []
    with_diagnoses: list[str] = []
    for column in columns.malignancy:
        if rows[column].isna().all():
            continue
        # `target` is 0 or 1 in ISIC's tables, and may hold diagnoses in others.
        if _names_diagnoses(column, rows[column]):
            with_diagnoses.append(column)
        else:
            malignancy_columns.append(column)
    for column in columns.diagnoses:
        if rows[column].isna().all():
            continue
        if _is_malignancy(rows[column]):
            malignancy_columns.append(column)
        else:
            diagnosis_columns.append(column)
    return diagnosis_columns + with_diagnoses, malignancy_columns


def _named_diagnoses(
    table: TextTable,
    column: str,
    text: "pd.Series[str]",
    mismatches: Mismatches,
) -> "pd.Series[str]":
    """Return the diagnoses of a column, whose words are `text`; report unknown words."""
    file_name = table.path.name
    original = table.cells[column]
    akiec = original.index[text == "akiec"]
    mismatches.add("AKIEC taken as AK", akiec, file_name)
    terms = [*DIAGNOSES_BY_WORD, *MALIGNANCY_BY_WORD, *INDETERMINATE]
    is_strange = text.notna() & ~text.isin(terms)
    strange = cells(original[is_strange])
    mismatches.add("diagnoses that are none of the eight", strange, file_name)
    diagnoses = text.map(DIAGNOSES_BY_WORD)
    return diagnoses.astype("str")


@dataclass(frozen=True, eq=False)
class _Statement:
    """What a column states for each row: malignant (boolean, NA without it), or undecided."""

    malignant: "pd.Series[bool]"
    undecided: Flags

    @classmethod
    def of_words(cls, text: "pd.Series[str]") -> "_Statement":
        malignant = text.map(MALIGNANCY_BY_WORD).astype("boolean")
        is_undecided = text.isin(INDETERMINATE)
        return cls(malignant, is_undecided.to_numpy(bool))


def _is_malignancy(column: "pd.Series[str]") -> bool:
    """Return whether a column has only words for benign or malignant."""
    return _has_only(column, [*MALIGNANCY_BY_WORD, *INDETERMINATE])


def _names_diagnoses(column: str, values: "pd.Series[str]") -> bool:
    """Return whether a column `target` has only words for diagnoses."""
    return plain(column) == "target" and _has_only(values, list(DIAGNOSES_BY_WORD))


def _has_only(column: "pd.Series[str]", terms: list[str]) -> bool:
    """Return whether a column has words, and only these."""
    cell_words = words(column).dropna()
    if cell_words.empty:
        return False
    is_term = cell_words.isin(terms)
    return bool(is_term.all())


def _truth(column: "pd.Series[str]") -> "pd.Series[float]":
    """Return 1 for yes and 0 for no, another number as it is, and NaN for anything else."""
    by_word = column.str.lower().map(TRUTH_BY_WORD).astype("float64")
    return by_word.fillna(numbers(column))


def _one_hot(
    table: TextTable,
    columns: Columns,
    mismatches: Mismatches,
) -> "pd.Series[str]":
    """Return the one diagnosis of each row of 0 and 1; missing where it is not exactly one."""
    file_name = table.path.name
    text = _class_cells(table, columns, mismatches)
    is_blank = text.isna()
    is_blank_row = is_blank.all(axis=1).to_numpy(bool)
    # A row that is cut off may have had its label behind the cut.
    is_whole_row = ~table.short_rows
    is_empty_row = is_blank_row & is_whole_row
    shares = _shares(text, table.short_rows, is_empty_row)
    is_unreadable = shares.isna()
    unreadable = _unreadable_cells(text, is_unreadable)
    mismatches.add("cells that are not numbers", unreadable, file_name)

    values = shares.to_numpy(np.float64)
    is_numeric = _no_cell(is_unreadable)
    is_label = is_numeric & _has_one_mark(values)
    is_other = is_numeric & ~is_label
    no_label = _rows_without_label(text, values, is_other, is_empty_row)
    mismatches.add("rows without exactly one diagnosis", no_label, file_name)

    marked = _marked_columns(text, values)
    label = marked.where(is_label).astype("str")
    _report_akiec(label, mismatches, file_name)
    diagnosis = label.map(dict(columns.classes))
    return diagnosis.astype("str")


def _no_cell(flags: pd.DataFrame) -> Flags:
    """Return the rows in which no cell is true, (N,)."""
    has_one = flags.any(axis=1)
    has_one_array = has_one.to_numpy(bool)
    return ~has_one_array


def _report_akiec(
    label: "pd.Series[str]",
    mismatches: Mismatches,
    file_name: str,
) -> None:
    """Report the rows whose label is the column AKIEC."""
    class_words = label.map(class_word, na_action="ignore")
    akiec = label.index[class_words == "akiec"]
    mismatches.add("AKIEC taken as AK", akiec, file_name)


def _class_cells(
    table: TextTable,
    columns: Columns,
    mismatches: Mismatches,
) -> pd.DataFrame:
    """Return the class columns that have a value; report the others and missing columns."""
    file_name = table.path.name
    text = table.cells[list(columns.classes)]
    is_empty_column = text.isna().all()
    without_value = text.columns[is_empty_column]
    mismatches.add("class columns without a value", without_value, file_name)
    if not columns.diagnoses:
        _report_missing_classes(columns, mismatches, file_name)
    return text.drop(columns=without_value)


def _has_one_mark(values: NDArray[np.float64]) -> Flags:
    """Return the rows of (N, classes) that have a single 1 and otherwise 0, (N,)."""
    is_flag = np.isin(values, (0.0, 1.0))
    has_only_flags = is_flag.all(axis=1)
    sums = values.sum(axis=1)
    has_one: Flags = has_only_flags & (sums == 1.0)
    return has_one


def _marked_columns(text: pd.DataFrame, values: NDArray[np.float64]) -> "pd.Series[str]":
    """Return the name of the column with the highest value in each row."""
    if text.columns.empty:
        return _no_text(text.index)
    # NaN would be the highest value.
    numbers_only = np.nan_to_num(values)
    highest = numbers_only.argmax(axis=1)
    columns = pd.Series(text.columns, dtype="str")
    names: pd.Series[str] = columns.iloc[highest]
    return names.set_axis(text.index)


def _shares(
    text: pd.DataFrame,
    short_rows: Flags,
    is_empty_row: Flags,
) -> pd.DataFrame:
    """Return the cells of class columns as numbers.

    A cell is NaN where it is no number, or blank in a row with other cells.
    """
    shares = text.apply(_truth)
    is_blank = text.isna()
    # Blanks stand for 0 only where a whole row is written so: its one value is a 1.
    is_mark = shares == 1.0
    has_one_mark = is_mark.sum(axis=1) == 1
    has_one_value = text.count(axis=1) == 1
    is_written_so = has_one_mark & has_one_value
    # A row that is cut off may have had a second value behind the cut.
    is_only_mark = is_written_so.to_numpy(bool) & ~short_rows
    is_zero = is_blank & is_only_mark[:, None]
    shares = shares.mask(is_zero, 0.0)
    # A row without any value has no label; a single blank cell could be a second label.
    n_columns = len(text.columns)
    as_column = is_empty_row[:, None]
    is_empty = np.repeat(as_column, n_columns, axis=1)
    return shares.mask(is_empty, 0.0)


def _unreadable_cells(text: pd.DataFrame, is_unreadable: pd.DataFrame) -> list[str]:
    examples = []
    for place in _places(is_unreadable.any(axis=1)):
        image = text.index[place]
        row = text.iloc[place]
        unreadable = row[is_unreadable.iloc[place]]
        for column, cell in unreadable.items():
            shown = "empty" if pd.isna(cell) else repr(cell)
            examples.append(f"{image} {_shown(str(column))} {shown}")
    return examples


def _rows_without_label(
    text: pd.DataFrame,
    values: NDArray[np.float64],
    rows: Flags,
    is_empty_row: Flags,
) -> list[str]:
    examples = []
    for place in _places(rows):
        parts = []
        for column, value in zip(text.columns, values[place], strict=True):
            if value:
                parts.append(f"{_shown(column)} {value:g}")
        nothing = "empty" if is_empty_row[place] else "all 0"
        shown = " + ".join(parts) or nothing
        examples.append(f"{text.index[place]} ({shown})")
    return examples


def _places(rows: ArrayLike) -> list[int]:
    places: list[int] = np.flatnonzero(rows).tolist()
    return places


def _report_missing_classes(
    columns: Columns,
    mismatches: Mismatches,
    file_name: str,
) -> None:
    """Report the classes of ISIC 2019 without a column; of ISIC 2018 where AKIEC has one."""
    present = {class_word(column) for column in columns.classes}
    classes = ISIC_2018 if "akiec" in present else ISIC_2019
    # A column AKIEC has the code AK; where ISIC 2018 is expected, its own name counts.
    codes = set(columns.classes.values())
    for word in present:
        codes.add(word.upper())
    missing = [code for code in classes.codes if code not in codes]
    mismatches.add("missing columns", missing, file_name)


def _shown(column: str) -> str:
    code = class_word(column).upper()
    codes = (*ISIC_2019.codes, *ISIC_2018.codes, UNKNOWN)
    return code if code in codes else column


def _agreed(
    first: "pd.Series[str]",
    second: "pd.Series[str]",
    mismatches: Mismatches,
    file_name: str,
) -> "pd.Series[str]":
    """Return the diagnosis that two columns agree on, or that one of them has alone."""
    has_both = first.notna() & second.notna()
    is_different = has_both & (first != second)
    differ = is_different.to_numpy(bool)
    examples = []
    for place in _places(differ):
        image = first.index[place]
        code = first.iloc[place]
        other_code = second.iloc[place]
        examples.append(f"{image} ({code}, {other_code})")
    mismatches.add("diagnoses that contradict each other", examples, file_name)
    either = first.fillna(second)
    return either.mask(differ).astype("str")


def _statements(
    table: TextTable,
    columns: list[str],
    mismatches: Mismatches,
) -> list[_Statement]:
    """Return the statements of the columns that can be read."""
    statements = []
    for column in columns:
        text = table.cells[column]
        if plain(column) == "iddx_full":
            levels = text.str.split(_LEVELS, n=1)
            text = levels.str[0].astype("str")
        statement = _statement(column, text, mismatches, table.path.name)
        if statement is not None:
            statements.append(statement)
    return statements


def _statement(
    column: str,
    text: "pd.Series[str]",
    mismatches: Mismatches,
    file_name: str,
) -> _Statement | None:
    """Return the statement of a column, None where it has numbers of another scale."""
    truth = _truth(text)
    is_number = truth.notna()
    is_flag = truth.isin((0.0, 1.0))
    is_other_number = is_number & ~is_flag
    if is_other_number.any():
        # Numbers beyond 0 and 1 are another scale: then 0 and 1 are no yes and no either.
        strange = cells(text[is_other_number])
        example = f"{column}: {strange[0]}"
        mismatches.add("benign/malignant columns of other numbers", [example], file_name)
        return None

    by_truth = _malignant_by_truth(column, truth)
    cell_words = words(text)
    by_word = _Statement.of_words(cell_words)
    malignant = by_word.malignant.fillna(by_truth)
    is_strange = cell_words.notna() & malignant.isna() & ~by_word.undecided
    strange = cells(text[is_strange])
    mismatches.add("words that are neither benign nor malignant", strange, file_name)
    return _Statement(malignant, by_word.undecided)


def _malignant_by_truth(column: str, truth: "pd.Series[float]") -> "pd.Series[bool]":
    """Return whether 0 and 1 in a column mean malignant: in a column `benign` 0 does."""
    is_true = truth.map({0.0: False, 1.0: True}).astype("boolean")
    name = class_word(column).replace(" ", "_")
    return ~is_true if name in _BENIGN_COLUMNS else is_true


def _with_malignancy(
    labels: pd.DataFrame,
    statements: list[_Statement],
    mismatches: Mismatches,
    file_name: str,
) -> pd.DataFrame:
    """Return the labels with `malignant`, which the diagnosis decides where there is one."""
    stated = _any_statement(statements, len(labels))
    diagnosis = labels["diagnosis"]
    by_diagnosis = diagnosis.map(MALIGNANT_BY_CODE).astype("boolean")

    is_keratosis = _flags(diagnosis == "AK")
    _report_keratoses(
        labels,
        is_keratosis & stated.otherwise,
        mismatches,
        file_name,
    )
    # A keratosis that a table calls benign is no contradiction for that reason.
    by_other_diagnosis = by_diagnosis.mask(is_keratosis)
    is_contradicting = _contradict(by_other_diagnosis, stated)
    examples = _contradictions(diagnosis, stated, is_contradicting)
    mismatches.add(
        "diagnoses and benign/malignant that contradict each other",
        examples,
        file_name,
    )

    is_unnamed = by_diagnosis.isna().to_numpy(bool)
    is_undecided = stated.undecided & is_unnamed
    indeterminate = labels.index[is_undecided & ~is_contradicting]
    mismatches.add("indeterminate lesions", indeterminate, file_name)

    by_words = _malignant_by_words(stated, labels.index)
    # Which of two contradicting statements is right is unknown.
    malignant = by_diagnosis.fillna(by_words).mask(is_contradicting)
    labels["malignant"] = malignant.astype("boolean")
    labels["diagnosis"] = diagnosis.mask(is_contradicting).astype("str")
    return labels


def _report_keratoses(
    labels: pd.DataFrame,
    is_otherwise: Flags,
    mismatches: Mismatches,
    file_name: str,
) -> None:
    """Report keratoses that ISIC calls benign or indeterminate, and this program malignant."""
    keratoses = labels.index[is_otherwise]
    mismatches.add("AK counted as malignant", keratoses, file_name)


def _malignant_by_words(stated: "_Stated", index: "pd.Index[str]") -> "pd.Series[bool]":
    """Return what the words of each row state alone; NA where they are undecided or missing."""
    malignant = pd.Series(stated.malignant, index, dtype="boolean")
    is_stated = (stated.malignant | stated.benign) & ~stated.undecided
    return malignant.where(is_stated)


def _contradict(by_diagnosis: "pd.Series[bool]", stated: "_Stated") -> Flags:
    """Return the rows that are stated benign and malignant, by a diagnosis or by words."""
    is_malignant = _flags(by_diagnosis)
    is_benign = _flags(~by_diagnosis)
    by_words = stated.malignant & stated.benign
    by_benign_word = is_malignant & stated.benign
    by_malignant_word = is_benign & stated.malignant
    return by_words | by_benign_word | by_malignant_word


def _flags(column: "pd.Series[bool]") -> Flags:
    """Return a column as (N,) bool, False where it is missing."""
    flags: Flags = column.to_numpy(bool, na_value=False)
    return flags


def _contradictions(
    diagnosis: "pd.Series[str]",
    stated: "_Stated",
    rows: Flags,
) -> list[str]:
    examples = []
    for place in _places(rows):
        code = diagnosis.iloc[place]
        parts = []
        if not pd.isna(code):
            parts.append(str(code))
        if stated.benign[place]:
            parts.append("benign")
        if stated.malignant[place]:
            parts.append("malignant")
        image = diagnosis.index[place]
        examples.append(f"{image} ({', '.join(parts)})")
    return examples


@dataclass(frozen=True, eq=False)
class _Stated:
    """The rows in which any statement says malignant, benign or undecided, each (N,)."""

    malignant: Flags
    benign: Flags
    undecided: Flags

    @property
    def otherwise(self) -> Flags:
        """Return the rows that are stated benign or undecided, and nowhere malignant."""
        return (self.benign | self.undecided) & ~self.malignant


def _any_statement(statements: list[_Statement], n_rows: int) -> _Stated:
    malignant = np.zeros(n_rows, bool)
    benign = np.zeros(n_rows, bool)
    undecided = np.zeros(n_rows, bool)
    for statement in statements:
        malignant |= _flags(statement.malignant)
        benign |= _flags(~statement.malignant)
        undecided |= statement.undecided
    return _Stated(malignant, benign, undecided)
