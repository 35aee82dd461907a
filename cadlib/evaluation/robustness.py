"""Measures a model on damaged, rotated and mirrored images.

There are fifteen corruptions at five strengths, and seven rotations and reflections. The result is
the section `robustness` of metrics.json, a `Robustness`.

A relative error is the error (1 minus balanced accuracy) summed over the strengths, divided by as
many times the clean error: 1 if damage does no harm. Hendrycks and Dietterich (ICLR 2019) divide by
the errors of a reference network instead; no such network is common to all readers here. The mean
over the fifteen is our mean corruption error.

Intervals are paired: each draw of lesions gives a clean and a damaged metric, and the fall between
them.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice, product
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.data.splits import lesion_groups
from cadlib.errors import ImageRejected
from cadlib.evaluation.split_sample import (
    diagnosed_images,
    image_digest,
    readable_images,
    sample_of,
)
from cadlib.images import LesionImage, preprocess, read_images
from cadlib.images.corruptions import CORRUPTIONS, STRENGTHS
from cadlib.images.preprocess import InputSpec
from cadlib.images.turns import CHANGING_TURNS, Turn, turned
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.conditions_schema import (
    CleanIntervals,
    CleanMetrics,
    Corruption,
    DamageMetrics,
    FallIntervals,
    FlipIntervals,
    Flips,
    MeanCorruption,
    MeanFallIntervals,
    Robustness,
    SplitName,
)
from cadlib.metrics.partial_labels import class_numbers
from cadlib.metrics.summary import DRAWS, Metric, defined, intervals
from cadlib.metrics.summary_schema import Split
from cadlib.model.metrics_file import model_facts
from cadlib.model.model import Model
from cadlib.progress import Progress, no_progress
from cadlib.taxonomy import CODES

Pixels = NDArray[np.uint8]
Variant = Callable[[Pixels, int], Pixels]
"""An image and the seed of its random damage -> the variant of the image that the model gets."""

MERITS = (
    Metric("balanced_accuracy", classification.balanced_accuracy),
    Metric("malignant_auc", classification.malignant_auc),
    Metric("accuracy", classification.accuracy),
)
_KEYS = (*map(str, STRENGTHS), "mean")
_FALL_KEYS = (
    *(f"{corruption.name} {key}" for corruption in CORRUPTIONS for key in _KEYS),
    "mean",
)
_FLIP_KEYS = (*CHANGING_TURNS, "mean", "any")


def measure(
    model: Model,
    dataset: Dataset,
    split: Split,
    seed: int = 0,
    of: int | None = None,
    progress: Progress = no_progress,
    batch_size: int = 32,
    draws: int = DRAWS,
) -> Robustness:
    """Run a model on every labelled image, 75 damaged and seven turned variants, and compare them.

    `split` names the part of the model's own split that the images are of, and `of` is the number
    of images that they are a sample of; `seed` determines the damage. `progress` is called with the
    variants done and their number. An image is decoded once; threads damage the next images while
    the network processes the last ones. Raise DatasetInvalid if no labelled image can be read.
    """
    table = _by_network(model, diagnosed_images(dataset))
    probabilities, rejected = _predict(model, table, seed, progress, batch_size)
    table = readable_images(table, rejected, dataset)
    labels = class_numbers(table["diagnosis"])
    groups = lesion_groups(table).to_numpy()
    compared = compare(labels, probabilities, groups, draws)
    return Robustness(
        model=model_facts(model.record),
        data=SplitName(name=dataset.name, split=split),
        sample=sample_of(table, of, seed),
        rejected=rejected,
        **msgspec.structs.asdict(compared),
    )


def compare(
    labels: Labels,
    probabilities: Floats,
    groups: Labels,
    draws: int = DRAWS,
) -> DamageMetrics:
    """Return the metrics of the probabilities of N images in each of 83 variants.

    `probabilities` is (83, N, 8) float64: the unchanged image, each corruption at strengths 1 to 5,
    the seven turns. `groups` is (N,) int, the number of the lesion of each image, from 0 and
    without a gap.
    """
    unchanged = probabilities[0]
    # The turns are the last variants, see `_variants`.
    first_turn = len(probabilities) - len(CHANGING_TURNS)
    damaged = probabilities[:first_turn]
    turned_ones = probabilities[first_turn:]
    turns = np.concatenate([probabilities[:1], turned_ones])
    # The clean images are part of `damaged` and `turns`, so that each draw of lesions compares the
    # damaged or turned images with the same clean ones.
    pairs = [(merit, unchanged) for merit in MERITS]
    pairs += [(fall, damaged) for fall in _FALL_METRICS]
    pairs.append((_FLIP_METRIC, turns))
    bounds = intervals(labels, groups, pairs, draws)

    clean = _clean(labels, unchanged)
    fallen = {fall.name: _by_key(fall, labels, damaged) for fall in _FALL_METRICS}
    corruptions = {}
    for corruption in CORRUPTIONS:
        name = corruption.name
        corruptions[name] = _corruption(name, clean, fallen, bounds)
    return DamageMetrics(
        **_counts(labels, groups),
        clean=_clean_metrics(clean, bounds),
        corruptions=corruptions,
        mean=_mean_corruption(clean, fallen, bounds),
        flips=_flip_metrics(labels, turns, bounds["flips"]),
    )


def _clean(labels: Labels, unchanged: Floats) -> dict[str, float]:
    """Return the metrics of the unchanged images."""
    metrics = {}
    for merit in MERITS:
        value = merit.compute(labels, unchanged)
        metrics[merit.name] = float(value)
    return metrics


def _by_key(fall: Metric, labels: Labels, damaged: Floats) -> dict[str, float]:
    values = fall.compute(labels, damaged)
    return dict(zip(_FALL_KEYS, values.tolist(), strict=True))


def _variants() -> list[Variant]:
    """Return the functions for the 83 variants of an image, in the order of `compare`."""

    def unchanged(pixels: Pixels, seed: int) -> Pixels:
        del seed
        return pixels

    def turned_variant(pixels: Pixels, seed: int, turn: Turn) -> Pixels:
        # Only the damaged variants are drawn by chance.
        del seed
        return np.ascontiguousarray(turned(pixels, turn))

    def damaged(pixels: Pixels, seed: int, kind: int, strength: int) -> Pixels:
        return CORRUPTIONS[kind](pixels, strength, seed)

    variants: list[Variant] = [unchanged]
    for kind, strength in product(range(len(CORRUPTIONS)), STRENGTHS):
        variant = partial(damaged, kind=kind, strength=strength)
        variants.append(variant)
    for turn in CHANGING_TURNS.values():
        variant = partial(turned_variant, turn=turn)
        variants.append(variant)
    return variants


_VARIANTS = _variants()


def _by_network(model: Model, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table ordered by the network that was not trained on the image.

    For a model that was not cross-validated the order stays.
    """
    networks = table["image"].map(model.folds)
    order = np.argsort(networks.to_numpy(float), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def _networks(model: Model, table: pd.DataFrame) -> Iterator[tuple[Model, pd.DataFrame]]:
    """Yield the rows of `_by_network` with the model of the network that was not trained on them.

    For a model that was not cross-validated it is the model itself, with all rows.
    """
    networks = table["image"].map(model.folds)
    for _, images in table.groupby(networks, sort=False, dropna=False):
        yield model.held_out(images["image"].iloc[0]), images


def _predict(
    model: Model,
    table: pd.DataFrame,
    seed: int,
    progress: Progress,
    batch_size: int,
) -> tuple[Floats, dict[str, str]]:
    """Return the probabilities of each variant of each readable image, and the rejected images.

    The probabilities are (83, N, 8); a rejected image has its reason: id -> reason.
    """
    rejected: dict[str, str] = {}
    short_sides: list[int] = []
    n_variants = len(_VARIANTS)
    total = len(table) * n_variants
    done = 0
    # np.concatenate needs an array even if every image is rejected.
    logits = [np.empty((0, len(CODES)), np.float32)]
    # Damage is numpy and OpenCV code, which runs beside the network in threads.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for held_out, images in _networks(model, table):
            pixels = _submitted(pool, images, seed, model.record.input, rejected, short_sides)
            for batch in _batches(pixels, batch_size):
                logits.append(held_out.see(batch).logits)
                done += len(batch)
                # A rejected image counts as if all its variants were done.
                progress("images", done + len(rejected) * n_variants, total)
    probabilities = model.calibrated(np.concatenate(logits), short_sides)
    return _by_variant(probabilities), rejected


def _by_variant(probabilities: Floats) -> Floats:
    """Return the probabilities (83, N, 8) of images whose variants follow each other."""
    by_image = probabilities.reshape(-1, len(_VARIANTS), len(CODES))
    return by_image.transpose(1, 0, 2)


def _submitted(
    pool: ThreadPoolExecutor,
    table: pd.DataFrame,
    seed: int,
    spec: InputSpec,
    rejected: dict[str, str],
    short_sides: list[int],
) -> Iterator[Future[Pixels]]:
    """Submit the variants of each image to a pool, each when it is needed, and yield them.

    Put the images that cannot be read into `rejected`, id -> reason, and the short side of each
    variant's image file, in px, into `short_sides`.
    """
    for name, image in zip(table["image"], read_images(table["path"]), strict=True):
        if isinstance(image, ImageRejected):
            rejected[name] = str(image)
            continue
        short_side = min(image.file_px)
        # Damage does not change the size of the file, which decides the temperature.
        short_sides.extend([short_side] * len(_VARIANTS))
        image_seed = int.from_bytes(image_digest(seed, name)[:4])
        for variant in _VARIANTS:
            yield pool.submit(_prepared, image, variant, image_seed, spec)


def _batches(pixels: Iterator[Future[Pixels]], batch_size: int) -> Iterator[Pixels]:
    """Yield the results in batches, (batch, S, S, 3), and keep two batches of tasks submitted."""
    first_tasks = islice(pixels, 2 * batch_size)
    ahead = deque(first_tasks)
    while ahead:
        size = min(batch_size, len(ahead))
        images = []
        for _ in range(size):
            future = ahead.popleft()
            images.append(future.result())
        batch = np.stack(images)
        # Submitted before the network gets the batch, so that the threads are busy meanwhile.
        next_tasks = islice(pixels, batch_size)
        ahead.extend(next_tasks)
        yield batch


def _prepared(image: LesionImage, variant: Variant, seed: int, spec: InputSpec) -> Pixels:
    """Return a variant of an image as the model's input, (S, S, 3) uint8 RGB."""
    # Damaged as a whole, before the network's input is cut out of it.
    pixels = variant(image.pixels, seed)
    changed = replace(image, pixels=pixels)
    return preprocess.to_pixels(changed, spec)


def _falls(
    merit: Metric,
    labels: Labels,
    damaged: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the falls of a metric, in the order of _FALL_KEYS on the last axis.

    Each corruption has its strengths and their mean; the mean of all comes last.
    """
    values = [merit.compute(labels, probabilities, weights) for probabilities in damaged]
    clean = np.asarray(values[0])
    # The first variant is the unchanged image.
    worse = np.stack(values[1:], axis=-1)
    falls = clean[..., None] - worse
    falls = falls.reshape(*clean.shape, len(CORRUPTIONS), len(STRENGTHS))
    means = falls.mean(axis=-1, keepdims=True)
    by_key = np.concatenate([falls, means], axis=-1)
    by_key = by_key.reshape(*clean.shape, -1)
    mean_of_all = means.mean(axis=-2)
    return np.concatenate([by_key, mean_of_all], axis=-1)


def _flips(labels: Labels, turns: Floats, weights: Floats | None = None) -> Floats:
    """Return the flip rates and the malignant shift of (8, N, 8) probabilities.

    They are on the last axis: the flip rate of each turn, the mean rate, the share of images with
    any flip, and the mean change of the malignant probability.
    """
    if weights is None:
        weights = np.ones(len(labels))
    top = turns[0].argmax(axis=-1)
    turned_top = turns[1:].argmax(axis=-1)
    changed = turned_top != top
    shifts = _malignant_shifts(turns)
    columns = [
        *changed,
        changed.mean(axis=0),
        changed.any(axis=0),
        shifts.mean(axis=0),
    ]
    by_image = np.stack(columns, axis=-1)
    total = weights.sum(axis=-1, keepdims=True)
    weighted = weights @ by_image
    rates: Floats = weighted / total
    return rates


_FALL_METRICS = tuple(
    Metric(f"{merit.name}_fall", partial(_falls, merit), _FALL_KEYS) for merit in MERITS
)
_FLIP_METRIC = Metric("flips", _flips, (*_FLIP_KEYS, "malignant_shift"))


def _malignant_shifts(turns: Floats) -> Floats:
    """Return how far each turn moves the malignant probability of each image, (7, N)."""
    risk = classification.malignant_probability(turns[0])
    turned_risk = classification.malignant_probability(turns[1:])
    shifts: Floats = np.abs(turned_risk - risk)
    return shifts


def _counts(labels: Labels, groups: Labels) -> dict[str, Any]:
    n_by_class = np.bincount(labels, minlength=len(CODES))
    present = n_by_class > 0
    lesions = np.unique(groups)
    by_code = dict(zip(CODES, n_by_class.tolist(), strict=True))
    return {
        "n": len(labels),
        "n_lesions": len(lesions),
        "n_classes": int(present.sum()),
        "n_by_class": by_code,
    }


def _clean_metrics(clean: dict[str, float], bounds: dict[str, Any]) -> CleanMetrics:
    values = {merit: defined(value) for merit, value in clean.items()}
    ends = {merit: bounds[merit] for merit in clean}
    return CleanMetrics(**values, intervals=CleanIntervals(**ends))


def _corruption(
    name: str,
    clean: dict[str, float],
    fallen: dict[str, dict[str, float]],
    bounds: dict[str, Any],
) -> Corruption:
    """Return the metrics of a corruption.

    `clean` is by merit; `fallen` and the intervals `bounds` are by the name of the fall and key.
    """
    parts: dict[str, Any] = {}
    ends = {}
    for merit, clean_value in clean.items():
        fall = f"{merit}_fall"
        falls = {}
        values = {}
        fall_ends = {}
        for key in _KEYS:
            fall_key = f"{name} {key}"
            fallen_by = fallen[fall][fall_key]
            falls[key] = defined(fallen_by)
            values[key] = defined(clean_value - fallen_by)
            fall_ends[key] = bounds[fall][fall_key]
        parts[fall] = falls
        parts[merit] = values
        ends[fall] = fall_ends
    relative_error = _relative_error(clean, fallen, f"{name} mean")
    return Corruption(
        **parts,
        intervals=FallIntervals(**ends),
        relative_error=relative_error,
    )


def _mean_corruption(
    clean: dict[str, float],
    fallen: dict[str, dict[str, float]],
    bounds: dict[str, Any],
) -> MeanCorruption:
    """Return the means over the corruptions, of the same values as `_corruption`."""
    values = {}
    ends = {}
    for fall, by_key in fallen.items():
        values[fall] = defined(by_key["mean"])
        ends[fall] = bounds[fall]["mean"]
    return MeanCorruption(
        **values,
        relative_error=_relative_error(clean, fallen, "mean"),
        intervals=MeanFallIntervals(**ends),
    )


def _relative_error(
    clean: dict[str, float],
    fallen: dict[str, dict[str, float]],
    key: str,
) -> float | None:
    # The mean fall over the strengths is the mean rise of the error.
    error = 1 - clean["balanced_accuracy"]
    # Without any error, a relative one is not defined.
    if error > 0:
        return defined((error + fallen["balanced_accuracy_fall"][key]) / error)
    return None


def _flip_metrics(
    labels: Labels,
    turns: Floats,
    bounds: dict[str, Any],
) -> Flips:
    values = _FLIP_METRIC.compute(labels, turns)
    *rate_values, mean_shift = values.tolist()
    rates = dict(zip(_FLIP_KEYS, map(defined, rate_values), strict=True))
    shifts = _malignant_shifts(turns)
    # Over all images and turns, so that it is the shift of one view in twenty.
    high_shift = np.quantile(shifts, 0.95)
    ends = FlipIntervals(
        rate={key: bounds[key] for key in rates},
        malignant_shift=bounds["malignant_shift"],
    )
    return Flips(
        rate=rates,
        malignant_shift=defined(mean_shift),
        malignant_shift_95th_percentile=defined(float(high_shift)),
        intervals=ends,
    )
