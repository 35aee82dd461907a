"""Prepares labelled pixels, their split and every batch for training."""

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
from cadlib.metrics.partial_labels import class_numbers, has_label
from cadlib.progress import ProgressBars
from cadlib.taxonomy import CODES
from cadlib.training.augment import augment


@dataclass(frozen=True)
class FoldPlan:
    """Follow an existing split: its test images, and a fold of the others for validation.

    With `n_folds` 0 its training and validation images stay as they are.
    """

    split_csv: Path
    n_folds: int = 0
    fold: int = 0


@dataclass(frozen=True)
class SplitRequest:
    """The images of a run, and how they are split.

    `validation` and `test` are shares of the images, 0 to 1. The training images of the archive
    `leave_out` become LEFT_OUT; validation and test stay as they are.

    With a `subset` only its images are split, and the name of the data includes its name. Two of
    its images stay together where the ids of a third image outside it join them to one lesion.

    With a `fold_plan` the split is that of its file, not a new one.
    """

    seed: int
    validation: float
    test: float
    leave_out: str = ""
    subset: Subset | None = None
    fold_plan: FoldPlan | None = None


MOST_COMPARED = 60_000
"""Images whose pairs are all compared: this takes four minutes on two cores."""
LEFT_OUT = "left out"
"""Replaces "train" for an image of a left-out archive, which this run does not train on."""
_NAMED_UNREADABLE = 5
"""Unreadable images that a message names."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Images of a run.

    `pixels` is (N, S, S, 3) uint8 on disk, `labels` (N,) int64, `parts` the split of each row.
    `split_csv` is the text of split.csv. It has no LEFT_OUT, so all runs with the same images share
    it.
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
        """Return how many images an epoch draws.

        The number is the same with and without a left-out archive, so that both train equally long.
        """
        return len(self.rows("train")) + len(self.rows(LEFT_OUT))


def read_training_data(
    folder: Path,
    spec: InputSpec,
    request: SplitRequest,
    log: Callable[[str], None],
) -> TrainingData:
    """Open a folder of ISIC layout, split it by lesion, and cache its pixels.

    Images that cannot be read are left out and logged, and so are those that the file of a
    `fold_plan` does not name.

    Raise DatasetInvalid for a folder without usable images. Raise TrainingFailed for an unknown
    archive, and when a class has no image in training or in validation: without a frequency its
    logits cannot be adjusted, and a drop of its metrics would not show the effect of a camera.
    """
    dataset = _open(folder, request.subset)
    labelled = _labelled(dataset, log)
    _check_archive(labelled, request.leave_out, folder)
    table, hashes = _readable(dataset, labelled, log)
    if request.fold_plan:
        # First the split: it leaves out images whose pixels are then not needed.
        table, groups, whole = _planned_split(table, request.fold_plan, request.seed, log)
        pixels = _pixels(table, spec)
    else:
        # First the pixels: images that look the same are kept together.
        pixels = _pixels(table, spec)
        groups = splits.lesion_groups(table, hashes, _alike(pixels, log))
        whole = _new_split(table, groups, request, folder)
    parts = _without_archive(table, whole, request.leave_out)
    log(f"{groups.nunique():,} lesions")
    _check_parts(table["diagnosis"], parts, log)
    return TrainingData(
        name=dataset.name,
        table=table,
        pixels=pixels,
        labels=class_numbers(table["diagnosis"]),
        groups=groups,
        parts=parts,
        split_csv=splits.split_csv(table, groups, whole),
    )


def _open(folder: Path, subset: Subset | None) -> IsicDataset:
    """Open the data set, or the subset of it."""
    with ProgressBars() as progress:
        dataset = open_dataset(folder, verify=False, progress=progress)
    if subset is None:
        return dataset
    # Lesions are joined before images are dropped: one outside the subset may join two inside it.
    joined = splits.lesion_groups(dataset.table).astype("str")
    grouped_table = dataset.table.assign(lesion_group=joined)
    grouped = replace(dataset, table=grouped_table)
    selected = subset.of(grouped)
    # The hash tells two subsets of one name apart.
    name = f"{selected.name}, subset {subset.name} ({subset.sha256[:16]})"
    return replace(selected, name=name)


def _labelled(dataset: IsicDataset, log: Callable[[str], None]) -> pd.DataFrame:
    """Return the images with one of the diagnoses; log the report, and how many have none."""
    log(str(dataset.report))
    has_diagnosis = dataset.table["diagnosis"].isin(CODES)
    labelled = dataset.table[has_diagnosis]
    left_out = len(dataset.table) - len(labelled)
    if left_out:
        is_labelled = has_label(dataset.table)
        n_labelled = int(is_labelled.sum())
        partial = n_labelled - len(labelled)
        log(
            f"{left_out:,} images without a diagnosis are left out, "
            f"{partial:,} of them labelled malignant or benign"
        )
    return labelled


def _check_archive(labelled: pd.DataFrame, leave_out: str, folder: Path) -> None:
    """Raise TrainingFailed where no labelled image is of the archive to leave out."""
    # Images without a known archive cannot be left out.
    archive_column = labelled["archive"].dropna()
    archives = sorted(archive_column.unique())
    if leave_out and leave_out not in archives:
        names = ", ".join(archives) or "no known archive"
        raise TrainingFailed(
            f"Expected `leave_out` to be an archive of {folder} but got {leave_out!r}; "
            f"its labelled images are of {names}."
        )


def _pixels(table: pd.DataFrame, spec: InputSpec) -> Pixels:
    """Return the decoded pixels of each row, from the cache where they are in it."""
    with ProgressBars() as progress:
        return cached_pixels(table, spec, progress)


def _readable(
    dataset: IsicDataset,
    labelled: pd.DataFrame,
    log: Callable[[str], None],
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the images that can be decoded and their perceptual hashes; log the others."""
    with ProgressBars() as progress:
        hashes = splits.perceptual_hashes(labelled, progress)
    _log_unreadable(labelled["image"].drop(hashes.index), log)
    if not len(hashes):
        n_images = len(dataset.table)
        codes = ", ".join(CODES)
        raise TrainingFailed(
            f"Expected labelled images in {dataset.name} but none of its {n_images:,} "
            f"images can be read and has one of the diagnoses {codes}; "
            "training needs the ground-truth CSV."
        )
    readable = labelled.loc[hashes.index]
    # Rows are numbered as in the pixel cache from here on.
    readable = readable.reset_index(drop=True)
    hashes = hashes.reset_index(drop=True)
    return readable, hashes


def _log_unreadable(images: pd.Series, log: Callable[[str], None]) -> None:
    """Log how many images cannot be decoded, and the names of some."""
    if not len(images):
        return
    named = images[:_NAMED_UNREADABLE]
    names = ", ".join(named)
    more = " …" if len(images) > _NAMED_UNREADABLE else ""
    log(f"{len(images):,} images cannot be decoded and are left out: {names}{more}")


def _new_split(
    table: pd.DataFrame,
    groups: "pd.Series[int]",
    request: SplitRequest,
    folder: Path,
) -> "pd.Series[str]":
    """Return the split of each image, drawn with the seed of the run."""
    try:
        return splits.split(
            table,
            groups,
            seed=request.seed,
            validation=request.validation,
            test=request.test,
        )
    except ValueError as error:
        raise TrainingFailed(f"The images of {folder} cannot be split: {error}") from error


def _without_archive(
    table: pd.DataFrame,
    whole: "pd.Series[str]",
    leave_out: str,
) -> "pd.Series[str]":
    """Return the splits with LEFT_OUT for the training images of the archive `leave_out`."""
    in_archive = table["archive"] == leave_out
    in_training = whole == "train"
    return whole.mask(in_training & in_archive, LEFT_OUT)


def _planned_split(
    table: pd.DataFrame,
    plan: FoldPlan,
    seed: int,
    log: Callable[[str], None],
) -> tuple[pd.DataFrame, "pd.Series[int]", "pd.Series[str]"]:
    """Return the images that the plan's file names, their lesion groups, and their splits."""
    rows = splits.read_split(plan.split_csv)
    selected = splits.select(table, rows)
    # No image in common: the file is of another data set.
    if selected.empty:
        raise TrainingFailed(
            f"Expected images that {plan.split_csv} names but none of {len(table):,} is. "
            "Name a model that was trained on this data set."
        )
    left_out = len(table) - len(selected)
    if left_out:
        log(f"{left_out:,} images are left out: {plan.split_csv} does not name them")
    groups = selected["lesion_group"].astype("int64")
    parts = selected["split"].astype("str")
    is_selected = table["image"].isin(selected["image"])
    images = table[is_selected].reset_index(drop=True)
    if plan.n_folds:
        parts = _with_fold(parts, images, groups, plan, seed)
    return images, groups, parts


def _with_fold(
    parts: "pd.Series[str]",
    images: pd.DataFrame,
    groups: "pd.Series[int]",
    plan: FoldPlan,
    seed: int,
) -> "pd.Series[str]":
    """Return the splits with the plan's fold as validation, and all else but test as training."""
    outside_test = parts != "test"
    folds = splits.cross_validation_folds(
        images[outside_test],
        groups[outside_test],
        plan.n_folds,
        seed,
    )
    with_fold = parts.where(~outside_test, "train")
    validating = folds.index[folds == plan.fold]
    with_fold.loc[validating] = "validation"
    return with_fold


def _check_parts(diagnoses: pd.Series, parts: pd.Series, log: Callable[[str], None]) -> None:
    """Log the images of each diagnosis in each part; raise TrainingFailed where there are none."""
    columns = ["train", "validation", "test"]
    if (parts == LEFT_OUT).any():
        columns.append(LEFT_OUT)
    counts = pd.crosstab(diagnoses, parts)
    # A table of counts has no row or column for what does not occur.
    counts = counts.reindex(
        index=list(CODES),
        columns=columns,
        fill_value=0,
    )
    log(counts.to_string())
    empty = []
    for part in ("train", "validation"):
        codes = [code for code in CODES if not counts.at[code, part]]
        empty += [f"{code} ({part})" for code in codes]
    if empty:
        missing = ", ".join(empty)
        raise TrainingFailed(
            "Expected images of every diagnosis in training and validation "
            f"but found none of {missing}; "
            "add images, or choose another --validation share, --seed or archive to --leave-out."
        )


def _alike(pixels: Pixels, log: Callable[[str], None]) -> NDArray[np.int64] | None:
    """Return the pairs that show the same image though their hashes differ.

    Return None for too many images, and log it.
    """
    if len(pixels) > MOST_COMPARED:
        log(
            f"{len(pixels):,} images are too many to compare each with each by their detail "
            f"({MOST_COMPARED:,} at most): the split keeps lesions and near-equal hashes together; "
            "`python -m cadlib audit --data DIR` may find more."
        )
        return None
    return likely_pairs(details_in(pixels.batches(256)))


@dataclass(frozen=True)
class Crop:
    """One training image to draw: its row, the seed of its augmentation and the crop's side."""

    row: int
    seed: int
    side_px: int


class Crops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Augmented training images by `Crop`: ((3, side, side) uint8, label, row)."""

    def __init__(self, data: TrainingData, least_crop: float) -> None:
        self._pixels = data.pixels
        self._labels = data.labels
        self._least_crop = least_crop

    def __getitem__(self, crop: Crop) -> tuple[Tensor, Tensor, Tensor]:
        stored = self._pixels[crop.row]
        pixels = torch.from_numpy(stored)
        # (side, side, 3) to (3, side, side)
        image = pixels.permute(2, 0, 1)
        augmented = augment(image, crop.side_px, crop.seed, self._least_crop)
        label = torch.tensor(self._labels[crop.row])
        row = torch.tensor(crop.row)
        return augmented, label, row


class BatchPlan(Sampler[list[Crop]]):
    """Every batch of the whole run, as a function of the seed and the step.

    A run can therefore resume at any `first_step`. `side_px` maps an epoch to the side of its
    crops. Each of `world_size` processes takes its share of every batch. Images at the end of an
    epoch that fill no batch are dropped, and the next epoch is shuffled again.

    An epoch draws every row once, or `epoch_images` of them: all rows once, and then all rows again
    in another order, until there are enough.
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
        # The images left at the end of an epoch would make a small batch, with a noisy gradient.
        self.steps_per_epoch = self._epoch_images // batch_size
        if batch_size > len(rows) or batch_size % world_size:
            raise TrainingFailed(
                f"Expected a batch size of at most {len(rows)} (the training images) "
                f"that {world_size} processes can share evenly but got {batch_size}."
            )
        self.steps = self.steps_per_epoch * epochs
        self.first_step = 0
        self._rows = rows
        self._batch_size = batch_size
        self._seed = seed
        self._side_px = side_px
        self._share = slice(rank, None, world_size)

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[Crop]]:
        for step in range(self.first_step, self.steps):
            epoch, batch = divmod(step, self.steps_per_epoch)
            if batch == 0 or step == self.first_step:
                order, seeds = self._draw_epoch(epoch)
            side_px = self._side_px(epoch)
            start = batch * self._batch_size
            batch_positions = range(start, start + self._batch_size)
            crops = []
            # Every process draws the same epoch, and takes its own share of each batch.
            for position in batch_positions[self._share]:
                crop = Crop(int(order[position]), int(seeds[position]), side_px)
                crops.append(crop)
            yield crops

    def _draw_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of an epoch in its order, and the seed of each crop.

        They depend on the seed and the epoch alone, so a resumed run draws the same images.
        """
        order_rng = np.random.default_rng((self._seed, epoch))
        order = self._order(order_rng)
        # A generator of its own: the seeds do not depend on how the order is drawn.
        seed_rng = np.random.default_rng((self._seed, epoch, 1))
        seeds = seed_rng.integers(0, 2**62, len(order))
        return order, seeds

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the rows of an epoch, in its order."""
        n_rounds = math.ceil(self._epoch_images / len(self._rows))
        shuffled = [rng.permutation(self._rows) for _ in range(n_rounds)]
        order = np.concatenate(shuffled)
        return order[: self._epoch_images]
