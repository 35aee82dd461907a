"""Counts the problems of a data set, with examples and advice."""

from collections.abc import Iterable
from dataclasses import dataclass

from cadlib.images import SUPPORTED_SUFFIXES

# A report stays readable where a fault is in every row of a table.
MAX_EXAMPLES = 5

_SUFFIXES = ", ".join(SUPPORTED_SUFFIXES)
_NO_METADATA = (
    "The images are kept without age, sex, site and lesion; add their rows to the metadata."
)
_NO_LABEL = "An image without a diagnosis is left out; add its row to the ground truth."
ADVICE = {
    "rows without an image": (
        "Add the missing images to the folder, or continue without these rows."
    ),
    "images without ground truth": _NO_LABEL,
    "images without metadata": _NO_METADATA,
    "images without a source": (
        "Their archive and lesion group are unknown; add their rows to sources.csv."
    ),
    "ground-truth rows without metadata": _NO_METADATA,
    "metadata rows without ground truth": _NO_LABEL,
    "unlabelled images": (
        "There is no ground truth: they can be viewed, but not used for training or evaluation."
    ),
    "unreadable images": "They are left out; download or copy these files again.",
    "images with red and blue swapped": (
        "Their colours are wrong: convert them from BGR to RGB and save them again."
    ),
    "broken links": "Their targets are missing; restore the targets or remove the links.",
    "folders that cannot be read": (
        "They are left out; check their rights, the disk and the network."
    ),
    "several files for one id": f"The first of {_SUFFIXES} is used; remove the others.",
    "file names that are not UTF-8": "They are not read; rename them.",
    "files that are no image": f"They are not read; the supported suffixes are {_SUFFIXES}.",
    "images of the subset that are not there": (
        "They are left out; open the data set in which they were selected."
    ),
    "images without a diagnosis": (
        "They can be viewed, but not used for training; "
        "only those labelled malignant or benign are evaluated, as such."
    ),
    "diagnoses that contradict malignant or benign": (
        "The diagnosis decides; correct the one that is wrong. "
        "MEL, BCC, AK and SCC count as malignant here."
    ),
    "diagnoses that are none of the eight": (
        "They are taken as missing; write a code or a name of the eight."
    ),
    "AKIEC taken as AK": (
        "It holds SCC in situ as well, 197 of HAM10000's 327; measure with `--classes 7`."
    ),
    "sexes that are neither female nor male": "They are taken as missing; write female or male.",
    "sites that are none of ISIC 2019": (
        "They are taken as missing; write a site of ISIC 2019, or torso."
    ),
    "tables that are not used": (
        "Correct them, or move them to another folder; one table has the labels."
    ),
    "tables read as Windows-1252": (
        "They are no UTF-8; compare the letters beyond A to Z, or save them as UTF-8."
    ),
    "columns that another table has": (
        "They are not used; move them to that table, or remove them there."
    ),
    "class columns without a value": "They are taken as 0; fill them in, or remove them.",
    "rows shorter than the header": (
        "Their last cells are taken as missing; the file may be cut off."
    ),
    "ids changed by a spreadsheet": (
        "They are left as they are; make the column text and export the table again."
    ),
    "diagnoses that contradict each other": "Neither is used; correct the row.",
    "diagnoses and benign/malignant that contradict each other": (
        "Neither is used; correct the row."
    ),
    "benign/malignant columns of other numbers": (
        "They are not used; write 0 and 1, or benign and malignant."
    ),
    "words that are neither benign nor malignant": (
        "They are taken as missing; write benign or malignant."
    ),
    "AK counted as malignant": (
        "The diagnosis is used: AK is referred and treated as a precursor of SCC."
    ),
    "indeterminate lesions": "They are taken as neither benign nor malignant.",
    "images with only benign or malignant": (
        "They are evaluated as benign or malignant, not by diagnosis."
    ),
    "one file name in several folders": (
        "Their ids are their paths below the folder; a table has to name them so."
    ),
    "missing columns": (
        "They are taken as empty; compare the header with the official ISIC 2019 file."
    ),
    "unknown columns": "They are not used; look for a misspelt name.",
    "rows without an id": "They are left out; fill in the column that names the image.",
    "repeated ids": "Their rows are equal, and the first is used; remove the others.",
    "contradicting rows for one id": (
        "Only values on which they agree are used; keep the right row and remove the others."
    ),
    "cells that are not numbers": (
        "Their rows are left out; write 0 or 1, true or false, yes or no."
    ),
    "rows without exactly one diagnosis": (
        "They are left out; one cell of a row is 1.0, the others are 0.0."
    ),
    "ages outside 0 to 120 years": "The age is taken as unknown; correct it.",
}
"""Kind of mismatch -> how the reader treats it, and what the user can do."""


@dataclass(frozen=True)
class Mismatch:
    """One kind of problem: how often it occurs, up to five examples, and advice."""

    kind: str
    count: int
    examples: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        examples = "; ".join(self.examples)
        # The ellipsis shows that the examples are not all.
        if self.count > len(self.examples):
            examples += "; …"
        problem = f"{self.count:>8,}  {self.kind}: {examples}"
        # Indented to the text behind the number.
        advice = f"{'':>8}  {self.advice}"
        return f"{problem}\n{advice}"


class Mismatches:
    """Collects mismatches while a data set is read."""

    def __init__(self) -> None:
        self._mismatches: list[Mismatch] = []

    def add(
        self,
        kind: str,
        examples: Iterable[object],
        where: str = "",
    ) -> None:
        """Add a mismatch for the file `where`; add nothing without an example.

        `kind` is a key of ADVICE.
        """
        # `examples` may be an index of pandas, whose truth value is undefined.
        texts = [str(example) for example in examples]
        if not texts:
            return
        mismatch = Mismatch(
            # `DatasetReport.count` relies on this form.
            kind=f"{kind} in {where}" if where else kind,
            count=len(texts),
            examples=tuple(texts[:MAX_EXAMPLES]),
            advice=ADVICE[kind],
        )
        self._mismatches.append(mismatch)

    def freeze(self) -> tuple[Mismatch, ...]:
        """Return the mismatches so far, in the order in which they were added."""
        return tuple(self._mismatches)
