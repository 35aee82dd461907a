"""Reads and writes out_of_fold.csv, predictions for images of a cross-validation.

Each network of a cross-validated committee was trained on all folds but one. So every image of the
folds has one network that never saw it. These predictions stand for those of new images:
calibration and thresholds are chosen on them.
"""

from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.errors import ModelInvalid
from cadlib.model.record import OUT_OF_FOLD_FILE, read_checked
from cadlib.taxonomy import CODES

COLUMNS = ("image", "fold", *CODES)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The predictions of N images, a row each.

    `images`, (N,) str, are their ids, `folds`, (N,) int64, the fold of each from 0, and `logits`,
    (N, 8) float32, those of the network that was not trained on this fold.
    """

    images: "pd.Series[str]"
    folds: NDArray[np.int64]
    logits: NDArray[np.float32]

    def csv(self) -> str:
        """Return out_of_fold.csv: image, fold, and a column of logits for each diagnosis."""
        logits = pd.DataFrame(self.logits, columns=list(CODES), index=self.images.index)
        table = logits.assign(image=self.images, fold=self.folds)[list(COLUMNS)]
        text = StringIO()
        # Nine digits give each float32 back.
        table.to_csv(text, index=False, float_format="%.9g", lineterminator="\n")
        return text.getvalue()

    def of(self, table: pd.DataFrame) -> NDArray[np.float32]:
        """Return the logits of a table's images in its order, (n, 8).

        Raise ModelInvalid for an image without.
        """
        by_image = pd.Series(np.arange(len(self.images)), index=self.images.array)
        rows = by_image.reindex(table["image"])
        missing = rows.index[rows.isna()]
        if len(missing):
            raise ModelInvalid(
                f"Expected {OUT_OF_FOLD_FILE} to have all images, but {missing[0]} is missing. "
                "Pack the model again."
            )
        logits: NDArray[np.float32] = self.logits[rows.to_numpy(np.int64)]
        return logits


def read_folds(folder: Path) -> dict[str, int]:
    """Return the fold of each image by its id; empty for a model that was not cross-validated.

    Raise ModelInvalid as `read_out_of_fold`.
    """
    predictions = read_out_of_fold(folder)
    if predictions is None:
        return {}
    return dict(zip(predictions.images.tolist(), predictions.folds.tolist(), strict=True))


def read_out_of_fold(folder: Path) -> OutOfFold | None:
    """Read out_of_fold.csv of a model folder; None for a model that has none.

    Raise ModelInvalid for a file that changed since it was written or has other columns.
    """
    data = read_checked(folder, OUT_OF_FOLD_FILE)
    if data is None:
        return None
    path = folder / OUT_OF_FOLD_FILE
    try:
        table = pd.read_csv(BytesIO(data), dtype={"image": "str", "fold": "int64"})
    except ValueError as error:
        raise ModelInvalid(f"{path} cannot be read: {error}. Restore the folder.") from error
    if tuple(table.columns) != COLUMNS:
        raise ModelInvalid(
            f"Expected the columns {', '.join(COLUMNS)} in {path}, "
            f"but found {', '.join(table.columns)}. Restore the folder."
        )
    logits = table[list(CODES)].to_numpy(np.float32)
    return OutOfFold(table["image"], table["fold"].to_numpy(np.int64), logits)
