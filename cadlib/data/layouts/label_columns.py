"""Reads the diagnosis, and benign or malignant, from a table's columns."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cadlib.data.consistency import Findings
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

MALIGNANT_BY_CODE = {d.code: d.malignant for d in DIAGNOSES}
_BENIGN_COLUMNS = ("benign", "is_benign")
_LEVELS = "::"
"""Separator of the levels in `iddx_full` of ISIC 2024."""


def read_labels(
    table: TextTable,
    columns: Columns,
    findings: Findings,
) -> pd.DataFrame:
    """Return `diagnosis` (a code or "UNK") and, where a column states it, `malignant` (boolean).

    `table.cells` is indexed by image. A row whose diagnosis and malignancy contradict each other
    has neither. The frame has no columns where the table has no label.
    """
    rows = table.cells
    file_name = table.path.name
    diagnosis_columns, malignancy_columns = _by_content(rows, columns)
    if len(diagnosis_columns) > 1:
        raise several_columns(table.path, "diagnosis", DIAGNOSIS_NAMES, tuple(diagnosis_columns))

    labels = pd.DataFrame(index=rows.index)
    statements: list[_Statement] = []
    if columns.diagnoses or diagnosis_columns:
        labels["diagnosis"] = _no_text(rows.index)
    for column in diagnosis_columns:
        text = words(rows[column])
        labels["diagnosis"] = text.map(DIAGNOSES_BY_WORD).astype("str").array
        _report_diagnoses(rows[column], text, findings, file_name)
        if text.isin(MALIGNANCY_BY_WORD).any():
            statements.append(_Statement.of_words(text))
    if columns.classes:
        diagnosis = _one_hot(table, columns, findings)
        if "diagnosis" in labels:
            diagnosis = _agreed(labels["diagnosis"], diagnosis, findings, file_name)
        labels["diagnosis"] = diagnosis

    statements += _statements(table, malignancy_columns, findings)
    if not statements:
        return labels
    if "diagnosis" not in labels:
        labels["diagnosis"] = _no_text(rows.index)
    return _with_malignancy(labels, statements, findings, file_name)


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


def _report_diagnoses(
    column: "pd.Series[str]",
    text: "pd.Series[str]",
    findings: Findings,
    file_name: str,
) -> None:
    terms = [*DIAGNOSES_BY_WORD, *MALIGNANCY_BY_WORD, *INDETERMINATE]
    is_strange = text.notna() & ~text.isin(terms)
    strange = column[is_strange]
    findings.add("AKIEC taken as AK", column.index[text == "akiec"], file_name)
    findings.add("diagnoses that are none of the eight", cells(strange), file_name)


@dataclass(frozen=True, eq=False)
class _Statement:
    """What a column states for each row: malignant (boolean, NA without it), or undecided."""

    malignant: "pd.Series[bool]"
    undecided: NDArray[np.bool_]

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
    return bool(cell_words.isin(terms).all())


def _truth(column: "pd.Series[str]") -> "pd.Series[float]":
    """Return 1 for yes and 0 for no, another number as it is, and NaN for anything else."""
    by_word = column.str.lower().map(TRUTH_BY_WORD).astype("float64")
    return by_word.fillna(numbers(column))


def _one_hot(
    table: TextTable,
    columns: Columns,
    findings: Findings,
) -> "pd.Series[str]":
    """Return the one diagnosis of each row of 0 and 1; missing where it is not exactly one."""
    file_name = table.path.name
    text = _class_cells(table, columns, findings)
    is_empty_row = text.isna().all(axis=1).to_numpy(bool) & ~table.short_rows
    shares = _shares(text, table.short_rows, is_empty_row)
    is_unreadable = shares.isna()
    unreadable = _unreadable_cells(text, is_unreadable)
    findings.add("cells that are not numbers", unreadable, file_name)

    values = shares.to_numpy(np.float64)
    is_numeric = ~is_unreadable.any(axis=1).to_numpy(bool)
    is_label = is_numeric & _has_one_mark(values)
    no_label = _rows_without_label(text, values, is_numeric & ~is_label, is_empty_row)
    findings.add("rows without exactly one diagnosis", no_label, file_name)

    label = _marked_columns(text, values).where(is_label).astype("str")
    class_words = label.map(class_word, na_action="ignore")
    akiec = label.index[class_words == "akiec"]
    findings.add("AKIEC taken as AK", akiec, file_name)
    diagnosis: pd.Series[str] = label.map(dict(columns.classes)).astype("str")
    return diagnosis


def _class_cells(
    table: TextTable,
    columns: Columns,
    findings: Findings,
) -> pd.DataFrame:
    """Return the class columns that have a value; report the others and missing columns."""
    file_name = table.path.name
    text = table.cells[list(columns.classes)]
    is_empty_column = text.isna().all()
    without_value = text.columns[is_empty_column]
    findings.add("class columns without a value", without_value, file_name)
    if not columns.diagnoses:
        _report_missing_classes(columns, findings, file_name)
    return text.drop(columns=without_value)


def _has_one_mark(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the rows of (N, classes) that have a single 1 and otherwise 0, (N,)."""
    is_flag = np.isin(values, (0.0, 1.0))
    sums = values.sum(axis=1)
    has_one: NDArray[np.bool_] = is_flag.all(axis=1) & (sums == 1.0)
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
    short_rows: NDArray[np.bool_],
    is_empty_row: NDArray[np.bool_],
) -> pd.DataFrame:
    """Return the cells of class columns as numbers.

    A cell is NaN where it is no number, or blank in a row with other cells.
    """
    shares = text.apply(_truth)
    is_blank = text.isna()
    # Blanks stand for 0 only where a whole row is written so: its one value is a 1.
    has_one_mark = (shares == 1.0).sum(axis=1) == 1
    has_one_value = (~is_blank).sum(axis=1) == 1
    is_only_mark = (has_one_mark & has_one_value).to_numpy(bool) & ~short_rows
    shares = shares.mask(is_blank & is_only_mark[:, None], 0.0)
    # A row without any value has no label; a single blank cell could be a second label.
    is_empty = np.repeat(is_empty_row[:, None], len(text.columns), axis=1)
    return shares.mask(is_empty, 0.0)


def _unreadable_cells(text: pd.DataFrame, is_unreadable: pd.DataFrame) -> list[str]:
    examples = []
    for place in _places(is_unreadable.any(axis=1)):
        image = text.index[place]
        columns = text.columns[is_unreadable.iloc[place]]
        for column in columns:
            cell = text[column].iloc[place]
            shown = "empty" if pd.isna(cell) else repr(cell)
            examples.append(f"{image} {_shown(column)} {shown}")
    return examples


def _rows_without_label(
    text: pd.DataFrame,
    values: NDArray[np.float64],
    rows: NDArray[np.bool_],
    is_empty_row: NDArray[np.bool_],
) -> list[str]:
    examples = []
    for place in _places(rows):
        parts = []
        for column, value in zip(text.columns, values[place], strict=True):
            if value:
                parts.append(f"{_shown(column)} {value:g}")
        nothing = "empty" if is_empty_row[place] else "all 0"
        examples.append(f"{text.index[place]} ({' + '.join(parts) or nothing})")
    return examples


def _places(rows: ArrayLike) -> list[int]:
    places: list[int] = np.flatnonzero(rows).tolist()
    return places


def _report_missing_classes(
    columns: Columns,
    findings: Findings,
    file_name: str,
) -> None:
    """Report the classes of ISIC 2019 without a column; of ISIC 2018 where AKIEC has one."""
    present = {class_word(column) for column in columns.classes}
    classes = ISIC_2018 if "akiec" in present else ISIC_2019
    codes = set(columns.classes.values())
    for word in present:
        codes.add(word.upper())
    missing = [code for code in classes.codes if code not in codes]
    findings.add("missing columns", missing, file_name)


def _shown(column: str) -> str:
    code = class_word(column).upper()
    codes = (*ISIC_2019.codes, *ISIC_2018.codes, UNKNOWN)
    return code if code in codes else column


def _agreed(
    first: "pd.Series[str]",
    second: "pd.Series[str]",
    findings: Findings,
    file_name: str,
) -> "pd.Series[str]":
    """Return the diagnosis that two columns agree on, or that one of them has alone."""
    has_both = first.notna() & second.notna()
    differ = (has_both & (first != second)).to_numpy(bool)
    images = first.index[differ]
    examples = []
    for image, code, other_code in zip(images, first[differ], second[differ], strict=True):
        examples.append(f"{image} ({code}, {other_code})")
    findings.add("diagnoses that contradict each other", examples, file_name)
    return first.fillna(second).mask(differ).astype("str")


def _statements(
    table: TextTable,
    columns: list[str],
    findings: Findings,
) -> list[_Statement]:
    """Return the statements of the columns that can be read."""
    statements = []
    for column in columns:
        text = table.cells[column]
        if plain(column) == "iddx_full":
            text = text.str.split(_LEVELS, n=1).str[0].astype("str")
        statement = _statement(column, text, findings, table.path.name)
        if statement is not None:
            statements.append(statement)
    return statements


def _statement(
    column: str,
    text: "pd.Series[str]",
    findings: Findings,
    file_name: str,
) -> _Statement | None:
    """Return the statement of a column, None where it has numbers of another scale."""
    truth = _truth(text)
    is_other_number = truth.notna() & ~truth.isin((0.0, 1.0))
    if is_other_number.any():
        # Numbers beyond 0 and 1 are another scale: then 0 and 1 are no yes and no either.
        strange = cells(text[is_other_number])
        example = f"{column}: {strange[0]}"
        findings.add("benign/malignant columns of other numbers", [example], file_name)
        return None

    by_truth = truth.map({0.0: False, 1.0: True}).astype("boolean")
    if class_word(column).replace(" ", "_") in _BENIGN_COLUMNS:
        by_truth = ~by_truth
    cell_words = words(text)
    by_word = _Statement.of_words(cell_words)
    malignant = by_word.malignant.fillna(by_truth)
    is_strange = cell_words.notna() & malignant.isna() & ~by_word.undecided
    strange = cells(text[is_strange])
    findings.add("words that are neither benign nor malignant", strange, file_name)
    return _Statement(malignant, by_word.undecided)


def _with_malignancy(
    labels: pd.DataFrame,
    statements: list[_Statement],
    findings: Findings,
    file_name: str,
) -> pd.DataFrame:
    """Return the labels with `malignant`, which the diagnosis decides where there is one."""
    index = labels.index
    malignant, benign, undecided = _any_statement(statements, len(index))
    diagnosis = labels["diagnosis"]
    by_diagnosis = diagnosis.map(MALIGNANT_BY_CODE).astype("boolean")

    # ISIC calls actinic keratosis benign or indeterminate, this program malignant.
    is_keratosis = _flags(diagnosis == "AK")
    is_stated_otherwise = (benign | undecided) & ~malignant
    keratoses = index[is_keratosis & is_stated_otherwise]
    findings.add("AK counted as malignant", keratoses, file_name)

    # A keratosis that a table calls benign is no contradiction for that reason.
    by_other_diagnosis = by_diagnosis.mask(is_keratosis)
    is_contradicting = _contradict(by_other_diagnosis, benign, malignant)
    examples = _contradictions(diagnosis, benign, malignant, is_contradicting)
    findings.add("diagnoses and benign/malignant that contradict each other", examples, file_name)

    is_unnamed = by_diagnosis.isna().to_numpy(bool)
    indeterminate = index[undecided & is_unnamed & ~is_contradicting]
    findings.add("indeterminate lesions", indeterminate, file_name)
    is_stated = (malignant | benign) & ~undecided
    stated = pd.Series(malignant, index, dtype="boolean").where(is_stated)
    labels["malignant"] = by_diagnosis.fillna(stated).mask(is_contradicting).astype("boolean")
    labels["diagnosis"] = diagnosis.mask(is_contradicting).astype("str")
    return labels


def _contradict(
    by_diagnosis: "pd.Series[bool]",
    benign: NDArray[np.bool_],
    malignant: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return the rows that are stated benign and malignant, by a diagnosis or by words."""
    is_malignant = _flags(by_diagnosis)
    is_benign = _flags(~by_diagnosis)
    return (malignant & benign) | (is_malignant & benign) | (is_benign & malignant)


def _flags(column: "pd.Series[bool]") -> NDArray[np.bool_]:
    """Return a column as (N,) bool, False where it is missing."""
    flags: NDArray[np.bool_] = column.to_numpy(bool, na_value=False)
    return flags


def _contradictions(
    diagnosis: "pd.Series[str]",
    benign: NDArray[np.bool_],
    malignant: NDArray[np.bool_],
    rows: NDArray[np.bool_],
) -> list[str]:
    examples = []
    for place in _places(rows):
        code = diagnosis.iloc[place]
        parts = [] if pd.isna(code) else [str(code)]
        if benign[place]:
            parts.append("benign")
        if malignant[place]:
            parts.append("malignant")
        examples.append(f"{diagnosis.index[place]} ({', '.join(parts)})")
    return examples


def _any_statement(statements: list[_Statement], rows: int) -> tuple[NDArray[np.bool_], ...]:
    """Return the rows in which a statement says malignant, benign and undecided, each (rows,)."""
    malignant = np.zeros(rows, bool)
    benign = np.zeros(rows, bool)
    undecided = np.zeros(rows, bool)
    for statement in statements:
        malignant |= _flags(statement.malignant)
        benign |= _flags(~statement.malignant)
        undecided |= statement.undecided
    return malignant, benign, undecided
