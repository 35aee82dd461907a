"""Defines labels that may state only malignant or benign, without a diagnosis."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cadlib.taxonomy import CODES, MALIGNANT, UNKNOWN, diagnosis

# pandas takes a third of a second to import, and arrays of labels need none.
if TYPE_CHECKING:
    import pandas as pd

NO_DIAGNOSIS = -1
"""The code of an image whose label states only malignant or benign."""
GROUPS = {True: "malignant", False: "benign"}
"""The words for the two groups, as in `taxonomy.Diagnosis.group`."""


@dataclass(frozen=True, eq=False)
class PartialLabels:
    """Labels of N images: a diagnosis, or only malignant or benign.

    `codes` is (N,) int64, the place of the diagnosis in taxonomy order or NO_DIAGNOSIS. `malignant`
    is (N,) bool. Both are read-only. Raise ValueError where they contradict each other.
    """

    codes: NDArray[np.int64]
    malignant: NDArray[np.bool_]

    def __post_init__(self) -> None:
        # Copies: the caller's arrays stay writable, and these become read-only.
        codes = np.array(self.codes)
        malignant = np.array(self.malignant)
        _check_kind("codes", codes)
        shape = codes.shape
        has_shape = malignant.shape == shape
        is_bool = malignant.dtype == np.bool_
        if not has_shape or not is_bool:
            raise ValueError(
                f"Expected `malignant` to be {shape} bool "
                f"but got {malignant.shape} {malignant.dtype}."
            )
        _check_range("codes", codes, NO_DIAGNOSIS)
        _check_agreement(malignant, codes)
        codes = codes.astype(np.int64)
        for values in (codes, malignant):
            values.setflags(write=False)
        # A frozen dataclass refuses a plain assignment, also in its own initialiser.
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "malignant", malignant)

    @classmethod
    def of(cls, labels: "AnyLabels") -> Self:
        """Return labels as partial labels; (N,) int labels all have a diagnosis."""
        if isinstance(labels, cls):
            return labels
        codes = np.asarray(labels)
        _check_kind("labels", codes)
        _check_range("labels", codes, 0)
        places = codes.astype(np.int64)
        malignant_by_place = np.array(MALIGNANT)
        malignant = malignant_by_place[places]
        return cls(places, malignant)

    @classmethod
    def of_table(cls, table: "pd.DataFrame") -> Self:
        """Return the labels of a data set's rows.

        Raise ValueError for a row that `has_label` does not accept.
        """
        is_labelled = has_label(table)
        if not is_labelled.all():
            row = int(np.flatnonzero(~is_labelled)[0])
            image = table["image"].iloc[row]
            raise ValueError(f"Expected a label for each image but {image} has none.")
        place_of_code = {code: place for place, code in enumerate(CODES)}
        # A missing diagnosis is not in the mapping: its label is only malignant or benign.
        codes = table["diagnosis"].map(place_of_code).fillna(NO_DIAGNOSIS)
        places = np.asarray(codes, np.int64)
        malignant = malignant_of(table).to_numpy(np.bool_)
        return cls(places, malignant)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Self:
        """Return the labels of the rows of a mask or of places."""
        return type(self)(self.codes[rows], self.malignant[rows])

    @property
    def diagnosed(self) -> NDArray[np.bool_]:
        """Return which images have a diagnosis, (N,)."""
        diagnosed: NDArray[np.bool_] = self.codes != NO_DIAGNOSIS
        return diagnosed


AnyLabels = NDArray[np.integer[Any]] | PartialLabels
"""Labels as the functions on malignancy take them.

They are (N,) int where every image has a diagnosis, or partial ones.
"""


def _check_kind(name: str, codes: NDArray[Any]) -> None:
    if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"Expected `{name}` to be (N,) int but got {codes.shape} {codes.dtype}.")


def _check_range(name: str, codes: NDArray[Any], least: int) -> None:
    """Raise ValueError unless codes are from `least` to the place of the last diagnosis."""
    # No code has no lowest and no highest one.
    if not len(codes):
        return
    lowest = codes.min()
    highest = codes.max()
    last = len(CODES) - 1
    is_allowed = least <= lowest and highest <= last
    if is_allowed:
        return
    raise ValueError(
        f"Expected `{name}` to be from {least} to {last} but got {lowest} to {highest}."
    )


def _check_agreement(malignant: NDArray[np.bool_], codes: NDArray[Any]) -> None:
    """Raise ValueError where `malignant` contradicts a diagnosis."""
    diagnosed = codes != NO_DIAGNOSIS
    by_diagnosis = np.array(MALIGNANT)[codes[diagnosed]]
    contradicting = malignant[diagnosed] != by_diagnosis
    if contradicting.any():
        first = contradicting.argmax()
        row = int(np.flatnonzero(diagnosed)[first])
        raise ValueError(
            f"Expected `malignant` to follow from the diagnosis {CODES[codes[row]]} in row {row} "
            f"but got {malignant[row]}."
        )


def class_numbers(diagnoses: "pd.Series[str]") -> NDArray[np.int64]:
    """Return the place of each diagnosis in taxonomy order, (N,); raise ValueError for others."""
    numbers = diagnoses.map(CODES.index)
    return numbers.to_numpy(np.int64)


def malignant_of(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Return whether each image of a data set's table is malignant.

    The dtype is "boolean", with NA where it is not known.
    One of the eight diagnoses decides. Without a diagnosis the column `malignant` does. UNK is not
    known.
    """
    codes = table["diagnosis"]
    malignant_by_code = dict(zip(CODES, MALIGNANT, strict=True))
    by_diagnosis = codes.map(malignant_by_code)
    malignant = by_diagnosis.astype("boolean")
    # A table that never had labels of this kind has no such column.
    if "malignant" not in table:
        return malignant
    # An image with the label UNK is not measured, so its column must not decide.
    is_unknown = codes == UNKNOWN
    column = table["malignant"].astype("boolean")
    by_column = column.mask(is_unknown)
    return malignant.fillna(by_column)


def malignant_words(table: "pd.DataFrame") -> "pd.Series[str]":
    """Return "malignant" or "benign" for each image of a table, missing where it is not known."""
    malignant = malignant_of(table)
    objects = malignant.astype("object")
    words = objects.map(GROUPS)
    return words.astype("str")


def label_words(table: "pd.DataFrame") -> "pd.Series[str]":
    """Return the label of each image of a data set's table.

    It is the diagnosis, UNK, "malignant" or "benign", or missing.
    """
    codes = table["diagnosis"]
    diagnoses = codes.astype("str")
    groups = malignant_words(table)
    words: pd.Series[str] = diagnoses.fillna(groups)
    return words


def labels_contradict(labels: Iterable[str]) -> bool:
    """Return whether two of these labels, as in `label_words`, cannot both be true of one lesion.

    "malignant" does not contradict MEL, nor UNK.
    """
    diagnoses = set()
    groups = set()
    for label in labels:
        if label in GROUPS.values():
            groups.add(label)
            continue
        # UNK is a label of its own, but states no group.
        diagnoses.add(label)
        if label in CODES:
            groups.add(diagnosis(label).group)
    return len(diagnoses) > 1 or len(groups) > 1


def has_label(table: "pd.DataFrame") -> NDArray[np.bool_]:
    """Return which images of a data set's table are known to be malignant or benign, (N,).

    Only these images are measured.
    """
    malignant = malignant_of(table)
    is_labelled: NDArray[np.bool_] = malignant.notna().to_numpy(np.bool_)
    return is_labelled
