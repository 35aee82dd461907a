"""Reads and writes out_of_fold.csv, predictions for images of a cross-validation.

Each network of a cross-validated committee was trained on all folds but one. So every image of the
folds has one network that never saw it. These predictions stand for those of new images:
calibration and thresholds are chosen on them.
"""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import ModelInvalid
from cadlib.model.record import OUT_OF_FOLD_FILE, read_checked
from cadlib.taxonomy import CODES

COLUMNS = ("image", "fold", *CODES)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The predictions of N images, one for each of the ids `images`.

    `folds`, (N,) int64, is the fold of each image from 0, and `logits`, (N, 8) float32, those of
    the network that was not trained on this fold.
    """

    images: tuple[str, ...]
    folds: NDArray[np.int64]
    logits: NDArray[np.float32]

    def csv(self) -> str:
        """Return out_of_fold.csv: image, fold, and a column of logits for each diagnosis."""
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image, fold, logits in zip(self.images, self.folds, self.logits, strict=True):
            # Nine digits give each float32 back.
            cells = [f"{logit:.9g}" for logit in logits.tolist()]
            writer.writerow([image, int(fold), *cells])
        return text.getvalue()


def read_folds(folder: Path) -> dict[str, int]:
    """Return the fold of each image by its id; empty for a model that was not cross-validated.

    Raise ModelInvalid as `read_out_of_fold`.
    """
    predictions = read_out_of_fold(folder)
    if predictions is None:
        return {}
    return dict(zip(predictions.images, predictions.folds.tolist(), strict=True))


def read_out_of_fold(folder: Path) -> OutOfFold | None:
    """Read out_of_fold.csv of a model folder; None for a model that has none.

    Raise ModelInvalid for a file that changed since it was written, or that is no such table.
    """
    data = read_checked(folder, OUT_OF_FOLD_FILE)
    if data is None:
        return None
    try:
        header, *rows = csv.reader(StringIO(data.decode()))
        if tuple(header) != COLUMNS:
            raise ValueError(f"its columns are {', '.join(header)}")
        images = tuple(row[0] for row in rows)
        folds = np.array([int(row[1]) for row in rows], np.int64)
        cells = [[float(cell) for cell in row[2:]] for row in rows]
        logits = np.array(cells, np.float32).reshape(len(rows), len(CODES))
    except (ValueError, IndexError, csv.Error) as error:
        raise ModelInvalid(
            f"Expected the columns {', '.join(COLUMNS)} in {folder / OUT_OF_FOLD_FILE}, "
            f"but it cannot be read: {error}. Restore the folder."
        ) from error
    return OutOfFold(images, folds, logits)
