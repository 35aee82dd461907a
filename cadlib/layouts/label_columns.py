"""Reads the diagnosis, and benign or malignant, from a table's columns."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cadlib.findings import Findings
from cadlib.isic_csv import cells, numbers
from cadlib.layouts.columns import DIAGNOSIS_NAMES, Columns, class_word, plain, several_columns
from cadlib.layouts.table_file import TextTable
from cadlib.layouts.terms import (
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
"""Between the levels of `iddx_full` of ISIC 2024."""


def read_labels(table: TextTable, columns: Columns, found: Findings) -> pd.DataFrame:
    """Return `diagnosis` (a code or "UNK") and, where a column states it, `malignant` (boolean).

    `table.cells` is indexed by image. A row whose diagnosis and malignancy contradict each other
    has neither. The frame is empty of columns where the table has no label.
    """
    rows, where = table.cells, table.path.name
    named = [column for column in columns.diagnoses if rows[column].notna().any()]
    stating = [column for column in columns.malignancy if rows[column].notna().any()]
    diagnosing = [column for column in named if not _is_malignancy(rows[column])]
    stating += [column for column in named if column not in diagnosing]
    # `target` is 0 or 1 in ISIC's tables, and may hold diagnoses in others.
    diagnosing += [column for column in stating if _names_diagnoses(column, rows[column])]
    stating = [column for column in stating if column not in diagnosing]
    if len(diagnosing) > 1:
        raise several_columns(table.path, "diagnosis", DIAGNOSIS_NAMES, tuple(diagnosing))

    labels = pd.DataFrame(index=rows.index)
    if columns.diagnoses or diagnosing:
        labels["diagnosis"] = pd.Series(pd.NA, rows.index, dtype="str")
    statements: list[_Statement] = []
    for column in diagnosing:
        said = words(rows[column])
        labels["diagnosis"] = said.map(DIAGNOSES_BY_WORD).astype("str").array
        known = said.isin([*DIAGNOSES_BY_WORD, *MALIGNANCY_BY_WORD, *INDETERMINATE])
        strange = rows[column][said.notna() & ~known]
        found.add("AKIEC taken as AK", rows.index[said == "akiec"], where)
        found.add("diagnoses that are none of the eight", cells(strange), where)
        if said.isin(MALIGNANCY_BY_WORD).any():
            statements.append(_Statement.of_words(said))
    if columns.classes:
        one_hot = _one_hot(table, columns, found)
        if "diagnosis" in labels:
            labels["diagnosis"] = _agreed(labels["diagnosis"], one_hot, rows, found, where)
        else:
            labels["diagnosis"] = one_hot
    statements += _statements(table, stating, found)
    if not statements:
        return labels
    if "diagnosis" not in labels:
        labels["diagnosis"] = pd.Series(pd.NA, rows.index, dtype="str")
    return _with_malignancy(labels, statements, found, where)


@dataclass(frozen=True, eq=False)
class _Statement:
    """What a column says of each row: malignant (boolean, NA where it does not say), or undecided."""

    malignant: "pd.Series[bool]"
    undecided: NDArray[np.bool_]

    @classmethod
    def of_words(cls, said: "pd.Series[str]") -> "_Statement":
        malignant = said.map(MALIGNANCY_BY_WORD).astype("boolean")
        return cls(malignant, said.isin(INDETERMINATE).to_numpy(bool))


def _is_malignancy(column: "pd.Series[str]") -> bool:
    """Tell whether a column says benign or malignant alone."""
    said = words(column).dropna()
    return len(said) > 0 and bool(said.isin([*MALIGNANCY_BY_WORD, *INDETERMINATE]).all())


def _names_diagnoses(column: str, values: "pd.Series[str]") -> bool:
    said = words(values).dropna()
    named = bool(said.isin(DIAGNOSES_BY_WORD).all()) and len(said) > 0
    return plain(column) == "target" and named


def _truth(column: "pd.Series[str]") -> "pd.Series[float]":
    """Return 1 for yes and 0 for no, another number as it is, and NaN for anything else."""
    said = column.str.lower().map(TRUTH_BY_WORD).astype("float64")
    return said.fillna(numbers(column))


def _one_hot(table: TextTable, columns: Columns, found: Findings) -> "pd.Series[str]":
    """Return the one diagnosis of each row of 0 and 1; missing where it is not exactly one."""
    where = table.path.name
    text = table.cells[list(columns.classes)]
    without_value = text.columns[text.isna().all()]
    found.add("class columns without a value", without_value, where)
    text = text.drop(columns=without_value)
    if not columns.diagnoses:
        _report_missing_classes(columns, found, where)

    numbers = text.apply(_truth)
    # Blanks stand for 0 only where a whole row is written so: its one value is a 1.
    blank = text.isna()
    marked = (numbers == 1.0).sum(axis=1) == 1
    only_marked = marked & ((~blank).sum(axis=1) == 1) & ~table.short_rows
    numbers = numbers.mask(blank & only_marked.to_numpy()[:, None], 0.0)

    # A row without any value is no label; a single cell without one could be a second label.
    empty = blank.all(axis=1) & ~table.short_rows
    numbers = numbers.mask(np.repeat(empty.to_numpy()[:, None], len(text.columns), axis=1), 0.0)

    broken = numbers.isna()
    unreadable = []
    for place in _places(broken.any(axis=1)):
        for column in text.columns[broken.iloc[place]]:
            cell = text[column].iloc[place]
            shown = "empty" if pd.isna(cell) else repr(cell)
            unreadable.append(f"{text.index[place]} {_shown(column)} {shown}")
    found.add("cells that are not numbers", unreadable, where)

    numeric = ~broken.any(axis=1)
    values = numbers.to_numpy(np.float64)
    is_label = numeric.to_numpy() & np.isin(values, (0.0, 1.0)).all(axis=1)
    is_label &= values.sum(axis=1) == 1.0
    contradicting = []
    for place in _places(numeric.to_numpy() & ~is_label):
        parts = []
        for column, value in zip(text.columns, values[place], strict=True):
            if value:
                parts.append(f"{_shown(column)} {value:g}")
        nothing = "empty" if empty.iloc[place] else "all 0"
        contradicting.append(f"{text.index[place]} ({' + '.join(parts) or nothing})")
    found.add("rows without exactly one diagnosis", contradicting, where)

    chosen = np.nan_to_num(values).argmax(axis=1) if len(text.columns) else np.zeros(len(text), int)
    names = pd.Series([*text.columns, ""], dtype="str").iloc[chosen].set_axis(text.index)
    label = names.where(is_label).astype("str")
    akiec = label.index[label.map(class_word, na_action="ignore") == "akiec"]
    found.add("AKIEC taken as AK", akiec, where)
    return label.map(dict(columns.classes)).astype("str")


def _places(rows: ArrayLike) -> list[int]:
    places: list[int] = np.flatnonzero(rows).tolist()
    return places


def _report_missing_classes(columns: Columns, found: Findings, where: str) -> None:
    present = {class_word(column) for column in columns.classes}
    classes = ISIC_2018 if "akiec" in present else ISIC_2019
    codes = {*columns.classes.values(), *(word.upper() for word in present)}
    found.add("missing columns", [code for code in classes.codes if code not in codes], where)


def _shown(column: str) -> str:
    word = class_word(column)
    return word.upper() if word.upper() in (*ISIC_2019.codes, *ISIC_2018.codes, UNKNOWN) else column


def _agreed(
    first: "pd.Series[str]",
    second: "pd.Series[str]",
    rows: pd.DataFrame,
    found: Findings,
    where: str,
) -> "pd.Series[str]":
    """Return what two statements of the diagnosis agree on, or the only one there is."""
    apart = (first.notna() & second.notna() & (first != second)).to_numpy(bool)
    examples = zip(rows.index[apart], first[apart], second[apart], strict=True)
    shown = [f"{image} ({one}, {other})" for image, one, other in examples]
    found.add("diagnoses that contradict each other", shown, where)
    return first.fillna(second).mask(apart).astype("str")


def _statements(table: TextTable, columns: list[str], found: Findings) -> list[_Statement]:
    """Return what each column says that can be read."""
    where = table.path.name
    statements = []
    for column in columns:
        text = table.cells[column]
        if plain(column) == "iddx_full":
            text = text.str.split(_LEVELS, n=1).str[0].astype("str")
        said = words(text)
        truth = _truth(text)
        other_numbers = truth.notna() & ~truth.isin((0.0, 1.0))
        if other_numbers.any():
            # Numbers beyond 0 and 1 are another scale: then 0 and 1 are no yes and no either.
            strange = cells(text[other_numbers])
            found.add("benign/malignant columns of other numbers", [f"{column}: {strange[0]}"], where)
            continue
        by_truth = truth.map({0.0: False, 1.0: True}).astype("boolean")
        if class_word(column).replace(" ", "_") in _BENIGN_COLUMNS:
            by_truth = ~by_truth
        by_word = _Statement.of_words(said)
        malignant = by_word.malignant.fillna(by_truth)
        strange = cells(text[said.notna() & malignant.isna() & ~by_word.undecided])
        found.add("words that are neither benign nor malignant", strange, where)
        statements.append(_Statement(malignant, by_word.undecided))
    return statements


def _with_malignancy(labels: pd.DataFrame, statements: list[_Statement], found: Findings, where: str) -> pd.DataFrame:
    """Return the labels with `malignant`, which the diagnosis decides where there is one."""
    index = labels.index
    malignant = np.zeros(len(index), bool)
    benign = malignant.copy()
    undecided = malignant.copy()
    for statement in statements:
        malignant |= statement.malignant.to_numpy(bool, na_value=False)
        benign |= (~statement.malignant).to_numpy(bool, na_value=False)
        undecided |= statement.undecided
    diagnosis = labels["diagnosis"]
    by_diagnosis = diagnosis.map(MALIGNANT_BY_CODE).astype("boolean")
    is_malignant = by_diagnosis.to_numpy(bool, na_value=False)
    is_benign = (~by_diagnosis).to_numpy(bool, na_value=False)

    # ISIC calls actinic keratosis benign or indeterminate, this program malignant.
    keratosis = (diagnosis == "AK").to_numpy(bool, na_value=False)
    otherwise = (benign | undecided) & ~malignant
    found.add("AK counted as malignant", index[keratosis & otherwise], where)
    apart = (malignant & benign) | (is_malignant & benign & ~keratosis) | (is_benign & malignant)
    shown = []
    for place in _places(apart):
        said = [word for word, on in (("benign", benign), ("malignant", malignant)) if on[place]]
        code = diagnosis.iloc[place]
        parts = said if pd.isna(code) else [str(code), *said]
        shown.append(f"{index[place]} ({', '.join(parts)})")
    found.add("diagnoses and benign/malignant that contradict each other", shown, where)

    unnamed = by_diagnosis.isna().to_numpy(bool)
    found.add("indeterminate lesions", index[undecided & unnamed & ~apart], where)
    stated = pd.Series(malignant, index, dtype="boolean").where((malignant | benign) & ~undecided)
    labels["malignant"] = by_diagnosis.fillna(stated).mask(apart).astype("boolean")
    labels["diagnosis"] = diagnosis.mask(apart).astype("str")
    return labels
