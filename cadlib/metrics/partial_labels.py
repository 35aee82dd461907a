"""Labels that may tell only malignant or benign, without a diagnosis."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cadlib.taxonomy import CODES, MALIGNANT, UNKNOWN, diagnosis

if TYPE_CHECKING:  # pandas takes a third of a second, and arrays of labels need none
    import pandas as pd

NO_DIAGNOSIS = -1
"""The code of an image whose label tells only malignant or benign."""
GROUPS = {True: "malignant", False: "benign"}
"""The words for the two groups, as in `taxonomy.Diagnosis.group`."""


@dataclass(frozen=True, eq=False)
class PartialLabels:
    """Labels of N images: each has a diagnosis, or is only known to be malignant or benign.

    `codes` is (N,) int64, the place of the diagnosis in taxonomy order or NO_DIAGNOSIS. `malignant` is (N,) bool.
    Both are read-only. Raise ValueError where they contradict each other.
    """

    codes: NDArray[np.int64]
    malignant: NDArray[np.bool_]

    def __post_init__(self) -> None:
        codes = np.array(self.codes)
        malignant = np.array(self.malignant)
        if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"Expected `codes` to be (N,) int but got {codes.shape} {codes.dtype}."
            )
        if malignant.shape != codes.shape or malignant.dtype != np.bool_:
            raise ValueError(
                f"Expected `malignant` to be {codes.shape} bool but got {malignant.shape} {malignant.dtype}."
            )
        if len(codes) and not (codes.min() >= NO_DIAGNOSIS and codes.max() < len(CODES)):
            raise ValueError(
                f"Expected `codes` to be from {NO_DIAGNOSIS} to {len(CODES) - 1} "
                f"but got {codes.min()} to {codes.max()}."
            )
        diagnosed = codes != NO_DIAGNOSIS
        contradicting = malignant[diagnosed] != np.array(MALIGNANT)[codes[diagnosed]]
        if contradicting.any():
            row = int(np.flatnonzero(diagnosed)[contradicting.argmax()])
            raise ValueError(
                f"Expected `malignant` to follow from the diagnosis {CODES[codes[row]]} in row {row} "
                f"but got {malignant[row]}."
            )
        codes = codes.astype(np.int64)
        for values in (codes, malignant):
            values.setflags(write=False)
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "malignant", malignant)

    @classmethod
    def of(cls, labels: "AnyLabels") -> Self:
        """Return labels as partial labels; (N,) int labels all have a diagnosis."""
        if isinstance(labels, cls):
            return labels
        codes = np.asarray(labels)
        if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"Expected `labels` to be (N,) int but got {codes.shape} {codes.dtype}."
            )
        if len(codes) and not (codes.min() >= 0 and codes.max() < len(CODES)):
            raise ValueError(
                f"Expected `labels` to be from 0 to {len(CODES) - 1} but got {codes.min()} to {codes.max()}."
            )
        places: NDArray[np.int64] = codes.astype(np.int64)
        return cls(places, np.array(MALIGNANT)[places])

    @classmethod
    def of_table(cls, table: "pd.DataFrame") -> Self:
        """Return the labels of a data set's rows that `has_label` all accepts; raise ValueError for another row."""
        is_labelled = has_label(table)
        if not is_labelled.all():
            image = table["image"].iloc[int(np.flatnonzero(~is_labelled)[0])]
            raise ValueError(f"Expected a label for each image but {image} has none.")
        codes = table["diagnosis"].map({code: place for place, code in enumerate(CODES)})
        malignant = malignant_of(table)
        places = np.asarray(codes.fillna(NO_DIAGNOSIS), np.int64)
        return cls(places, malignant.to_numpy(np.bool_))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Self:
        """Return the labels of some rows, a mask or places."""
        return type(self)(self.codes[rows], self.malignant[rows])

    @property
    def diagnosed(self) -> NDArray[np.bool_]:
        """Return which images have a diagnosis, (N,)."""
        diagnosed: NDArray[np.bool_] = self.codes != NO_DIAGNOSIS
        return diagnosed


AnyLabels = NDArray[np.integer[Any]] | PartialLabels
"""Labels as the functions on malignancy take them: (N,) int where every image has a diagnosis, or partial ones."""


def malignant_of(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Return whether each image of a data set's table is malignant, dtype "boolean", NA where it is not known.

    One of the eight diagnoses decides. Without a diagnosis the column `malignant` does. UNK is not known.
    """
    codes = table["diagnosis"]
    malignant = codes.map(dict(zip(CODES, MALIGNANT, strict=True))).astype("boolean")
    if "malignant" not in table:  # rows of a table that never had labels of this kind
        return malignant
    by_column = table["malignant"].astype("boolean").mask(codes == UNKNOWN)
    return malignant.fillna(by_column)


def malignant_words(table: "pd.DataFrame") -> "pd.Series[str]":
    """Return "malignant" or "benign" for each image of a data set's table, missing where it is not known."""
    words = malignant_of(table).astype("object").map(GROUPS)
    return words.astype("str")


def label_words(table: "pd.DataFrame") -> "pd.Series[str]":
    """Return the label of each image of a data set's table: diagnosis, UNK, "malignant" or "benign", or missing."""
    words: pd.Series[str] = table["diagnosis"].astype("str").fillna(malignant_words(table))
    return words


def labels_contradict(labels: Iterable[str]) -> bool:
    """Say whether two of these labels, as `label_words` has them, cannot both be true of one lesion.

    "malignant" does not contradict MEL, nor UNK.
    """
    diagnoses, groups = set(), set()
    for label in labels:
        if label in GROUPS.values():
            groups.add(label)
            continue
        diagnoses.add(label)
        if label in CODES:
            groups.add(diagnosis(label).group)
    return len(diagnoses) > 1 or len(groups) > 1


def has_label(table: "pd.DataFrame") -> NDArray[np.bool_]:
    """Return which images of a data set's table are measured, (N,): those known to be malignant or benign."""
    is_labelled: NDArray[np.bool_] = malignant_of(table).notna().to_numpy(np.bool_)
    return is_labelled
