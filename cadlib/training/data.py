"""What the training loop is fed: labelled pixels, their split, and a plan that fixes every batch."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cadlib.data import splits
from cadlib.data.dataset import Dataset as IsicDataset
from cadlib.data.dataset import open_dataset
from cadlib.data.pixel_cache import Pixels, cached_pixels
from cadlib.data.pixel_similarity import details_in, likely_pairs
from cadlib.data.subsets import Subset
from cadlib.errors import TrainingFailed
from cadlib.images.preprocess import InputSpec
from cadlib.metrics.partial_labels import has_label
from cadlib.progress import ProgressBars
from cadlib.taxonomy import CODES
from cadlib.training.augment import augment


@dataclass(frozen=True)
class FoldPlan:
    """Follow an existing split: its test images, and of the others the fold that validates.

    With `n_folds` 0 its training and validation images stay what they are.
    """

    split_csv: Path
    n_folds: int = 0
    fold: int = 0


MOST_COMPARED = 60_000
"""Images that are compared each with each: four minutes' work on two cores."""
LEFT_OUT = "left out"
"""In place of "train": an image that this run does not train on, for it is of an archive that is left out."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Images of a run: `pixels` (N, S, S, 3) uint8 on disk, `labels` (N,) int64, `parts` the split of each row.

    `split_csv` is the text of split.csv, which knows of no LEFT_OUT: it is that of all runs with the same images.
    """

    name: str
    table: pd.DataFrame
    pixels: Pixels
    labels: NDArray[np.int64]
    groups: pd.Series
    parts: pd.Series
    split_csv: str

    @property
    def split_sha256(self) -> str:
        """Return the hash of split.csv, in hexadecimal."""
        return hashlib.sha256(self.split_csv.encode()).hexdigest()

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the row numbers of "train", "validation", "test" or LEFT_OUT."""
        return np.flatnonzero((self.parts == part).to_numpy())

    @property
    def epoch_images(self) -> int:
        """Return how many images an epoch draws: as many with an archive left out as without, for equal training."""
        return len(self.rows("train")) + len(self.rows(LEFT_OUT))


def read_training_data(
    folder: Path,
    spec: InputSpec,
    seed: int,
    shares: tuple[float, float],
    log: Callable[[str], None],
    leave_out: str = "",
    subset: Subset | None = None,
    fold_plan: FoldPlan | None = None,
) -> TrainingData:
    """Open a folder of ISIC layout, split it by lesion (validation and test `shares`), and cache its pixels.

    Images that cannot be read are left out and said. The training images of the archive `leave_out` become LEFT_OUT;
    validation and test stay as they are.

    With a `fold_plan` the split is that of its file, not a new one; images that the file does not name are left out
    and said.

    Of a `subset` its images alone are split, and `name` tells of it; two of them
    that the ids of a third outside it join to one lesion stay together. Raise DatasetInvalid for a folder that holds
    nothing usable and TrainingFailed for an unknown archive, and when a class has no image to train on or to validate
    with: a class never seen has no frequency to adjust its logits by, and its fall would say nothing of cameras.
    """
    with ProgressBars() as progress:
        dataset = open_dataset(folder, verify=False, progress=progress)
    if subset:
        joined = splits.lesion_groups(dataset.table).astype("str")
        dataset = subset.of(replace(dataset, table=dataset.table.assign(lesion_group=joined)))
        dataset = replace(
            dataset, name=f"{dataset.name}, subset {subset.name} ({subset.sha256[:16]})"
        )
    log(str(dataset.report))
    labelled = dataset.table[dataset.table["diagnosis"].isin(CODES)]
    if left_out := len(dataset.table) - len(labelled):
        partial = int(has_label(dataset.table).sum()) - len(labelled)
        log(
            f"{left_out:,} images without a diagnosis are left out, {partial:,} of them labelled malignant or benign"
        )
    archives = sorted(labelled["archive"].dropna().unique())
    if leave_out and leave_out not in archives:
        raise TrainingFailed(
            f"Expected `leave_out` to be an archive of {folder} but got {leave_out!r}; its labelled images are of "
            f"{', '.join(archives) or 'no known archive'}."
        )
    table, hashes = _readable(dataset, labelled, log)
    if fold_plan:
        table, groups, whole = _planned_split(table, fold_plan, seed, log)
        pixels = _pixels(table, spec)
    else:
        pixels = _pixels(table, spec)
        groups = splits.lesion_groups(table, hashes, _alike(pixels, log))
        validation, test = shares
        try:
            whole = splits.split(table, groups, seed=seed, validation=validation, test=test)
        except ValueError as error:
            raise TrainingFailed(f"The images of {folder} cannot be split: {error}") from error
    parts = whole.mask((whole == "train") & (table["archive"] == leave_out), LEFT_OUT)
    log(f"{groups.nunique():,} lesions")
    _check_parts(table["diagnosis"], parts, log)
    return TrainingData(
        name=dataset.name,
        table=table,
        pixels=pixels,
        labels=table["diagnosis"].map(CODES.index).to_numpy(np.int64),
        groups=groups,
        parts=parts,
        split_csv=splits.split_csv(table, groups, whole),
    )


def _pixels(table: pd.DataFrame, spec: InputSpec) -> Pixels:
    with ProgressBars() as progress:
        return cached_pixels(table, spec, progress)


def _readable(
    dataset: IsicDataset, labelled: pd.DataFrame, log: Callable[[str], None]
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the images that can be decoded and their perceptual hashes; say which cannot."""
    with ProgressBars() as progress:
        hashes = splits.perceptual_hashes(labelled, progress)
    unreadable = labelled["image"].drop(hashes.index)
    if len(unreadable):
        more = " …" if len(unreadable) > 5 else ""
        log(
            f"{len(unreadable):,} images cannot be decoded and are left out: {', '.join(unreadable[:5])}{more}"
        )
    if not len(hashes):
        raise TrainingFailed(
            f"Expected labelled images in {dataset.name} but none of its {len(dataset.table):,} images can be read and "
            f"has one of the diagnoses {', '.join(CODES)}; training needs the ground-truth CSV."
        )
    return labelled.loc[hashes.index].reset_index(drop=True), hashes.reset_index(drop=True)


def _planned_split(
    table: pd.DataFrame, plan: FoldPlan, seed: int, log: Callable[[str], None]
) -> tuple[pd.DataFrame, "pd.Series[int]", "pd.Series[str]"]:
    """Return the images that the plan's file names, their lesion groups, and their splits."""
    rows = splits.read_split(plan.split_csv)
    selected = splits.select(table, rows)
    if selected.empty:
        raise TrainingFailed(
            f"Expected images that {plan.split_csv} names but none of {len(table):,} is. "
            "Name a model that was trained on this data set."
        )
    if left_out := len(table) - len(selected):
        log(f"{left_out:,} images are left out: {plan.split_csv} does not name them")
    groups = selected["lesion_group"].astype("int64")
    parts = selected["split"].astype("str")
    images = table[table["image"].isin(selected["image"])].reset_index(drop=True)
    if plan.n_folds:
        outside_test = parts != "test"
        folds = splits.cross_validation_folds(
            images[outside_test], groups[outside_test], plan.n_folds, seed
        )
        parts = parts.where(~outside_test, "train")
        validating = folds.index[folds == plan.fold]
        parts.loc[validating] = "validation"
    return images, groups, parts


def _check_parts(diagnoses: pd.Series, parts: pd.Series, log: Callable[[str], None]) -> None:
    """Say how many images of each diagnosis a part has; refuse to train where one has none."""
    columns = ["train", "validation", "test", *([LEFT_OUT] if (parts == LEFT_OUT).any() else [])]
    counts = pd.crosstab(diagnoses, parts).reindex(index=list(CODES), columns=columns, fill_value=0)
    log(counts.to_string())
    empty = [
        f"{code} ({part})"
        for part in ("train", "validation")
        for code in CODES
        if not counts.at[code, part]
    ]
    if empty:
        raise TrainingFailed(
            f"Expected images of every diagnosis in training and validation but found none of {', '.join(empty)}; "
            "add images, or choose another --validation share, --seed or archive to --leave-out."
        )


def _alike(pixels: Pixels, log: Callable[[str], None]) -> NDArray[np.int64] | None:
    """Return the pairs that show one picture though no hash finds them; None, and say so, for too many images."""
    if len(pixels) > MOST_COMPARED:
        log(
            f"{len(pixels):,} images are too many to compare each with each by their detail ({MOST_COMPARED:,} at "
            "most): the split keeps lesions and near-equal hashes together; "
            "`python -m cadlib audit --data DIR` may find more."
        )
        return None
    return likely_pairs(details_in(pixels.batches(256)))


@dataclass(frozen=True)
class Crop:
    """One training image to draw: its row, the seed of its augmentation and the side of its crop."""

    row: int
    seed: int
    side_px: int


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Augmented training images by `Crop`: ((3, side, side) uint8, label)."""

    def __init__(self, data: TrainingData, least_crop: float) -> None:
        self._pixels, self._labels, self._least_crop = data.pixels, data.labels, least_crop

    def __getitem__(self, crop: Crop) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(self._pixels[crop.row]).permute(2, 0, 1)
        return augment(image, crop.side_px, crop.seed, self._least_crop), torch.tensor(
            self._labels[crop.row]
        )


class BatchPlan(Sampler[list[Crop]]):
    """Every batch of the whole run, a function of the seed and the step: a run resumes at any `first_step`.

    `side_px` tells the side of the crops in an epoch. Each of `world_size` processes takes its share of
    every batch; the rest of an epoch that fills no batch is left to the next, which is shuffled anew. An epoch draws
    every row once, or `epoch_images` of them: once round and then round again, each time in another order.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        side_px: Callable[[int], int],
        epoch_images: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._epoch_images = epoch_images or len(rows)
        self.steps_per_epoch = self._epoch_images // batch_size
        if batch_size > len(rows) or batch_size % world_size:
            raise TrainingFailed(
                f"Expected a batch size of at most {len(rows)} (the training images) that {world_size} processes "
                f"can share evenly but got {batch_size}."
            )
        self.steps = self.steps_per_epoch * epochs
        self.first_step = 0
        self._rows, self._batch_size, self._seed, self._side_px = rows, batch_size, seed, side_px
        self._share = slice(rank, None, world_size)

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[Crop]]:
        for step in range(self.first_step, self.steps):
            epoch, batch = divmod(step, self.steps_per_epoch)
            if batch == 0 or step == self.first_step:
                order = self._order(np.random.default_rng((self._seed, epoch)))
                seeds = np.random.default_rng((self._seed, epoch, 1)).integers(0, 2**62, len(order))
            taken = range(batch * self._batch_size, (batch + 1) * self._batch_size)[self._share]
            yield [Crop(int(order[i]), int(seeds[i]), self._side_px(epoch)) for i in taken]

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        rounds = math.ceil(self._epoch_images / len(self._rows))
        return np.concatenate([rng.permutation(self._rows) for _ in range(rounds)])[
            : self._epoch_images
        ]
