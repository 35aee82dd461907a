"""What damage to a picture costs a model: fifteen corruptions at five strengths, and eight ways to hold a picture.

The result is the key `robustness` of metrics.json, plain JSON values, None where a figure is not defined:

    model, data             which weights, which images
    sample                  of how many images these are, how they were drawn, and the seed of the damage
    rejected                image id -> why it could not be read; it is not counted
    n, n_lesions, …         how many images, lesions and diagnoses stand behind every figure
    clean                   balanced_accuracy, malignant_auc, accuracy of the pictures as they are
    corruptions             by name: the three at each strength and their mean over strengths, each also as
                            `…_fall`, the clean figure minus it, and `relative_error`
    mean                    the means over the fifteen: `…_fall` and `relative_error`
    flips                   flip rates of the top diagnosis, and how far the malignant probability moves

A relative error is the error (1 minus balanced accuracy) summed over the strengths, divided by as many times the
clean error: 1 where damage does no harm. Hendrycks and Dietterich (ICLR 2019) divide by the errors of a reference
network instead; there is none here that all would know. Its mean over the fifteen is our mean corruption error.

Intervals are paired: each draw of lesions gives a clean and a damaged figure, and the fall between them.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.data.splits import lesion_groups
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.images import LesionImage, preprocess, read_images
from cadlib.images.corruptions import CORRUPTIONS, STRENGTHS
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.summary import DRAWS, Figure, intervals, json_ready
from cadlib.model.metrics_file import model_facts
from cadlib.model.model import Model
from cadlib.progress import Progress, no_progress
from cadlib.saliency.test_time_views import TURNS, turned
from cadlib.taxonomy import CODES

Pixels = NDArray[np.uint8]
Variant = Callable[[Pixels, int], Pixels]
"""A picture and the seed of what is drawn on it -> the picture as the model is shown it."""

MERITS = (
    Figure("balanced_accuracy", classification.balanced_accuracy),
    Figure("malignant_auc", classification.malignant_auc),
    Figure("accuracy", classification.accuracy),
)
_KEYS = (*map(str, STRENGTHS), "mean")
_FALL_KEYS = (*(f"{corruption.name} {key}" for corruption in CORRUPTIONS for key in _KEYS), "mean")


def measure(
    model: Model,
    dataset: Dataset,
    split: str,
    seed: int = 0,
    of: int | None = None,
    progress: Progress = no_progress,
    batch_size: int = 32,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Show a model every labelled image as it is, damaged in 75 ways and held in seven more, and compare.

    `split` names the part of the model's own split that the images are of, and `of` says of how many they are a
    sample; `seed` fixes the damage. `progress` is called with the pictures done and their number. An image is
    decoded once; threads damage the next ones while the network works on the last. Raise DatasetInvalid where
    no image has a label and can be read.
    """
    table = dataset.table[dataset.table["diagnosis"].isin(CODES)].reset_index(drop=True)
    shown, rejected = _predict(model, table, seed, progress, batch_size)
    table = table[~table["image"].isin(rejected.keys())]
    if table.empty:
        raise DatasetInvalid(
            f"Expected labelled images that can be read in {dataset.name} but got none; give others."
        )
    labels = np.array([CODES.index(code) for code in table["diagnosis"]], np.int64)
    groups = np.unique(lesion_groups(table), return_inverse=True)[1]
    return {
        "model": model_facts(model.record),
        "data": {"name": dataset.name, "split": split},
        "sample": {
            "of": len(table) if of is None else of,
            "strata": "diagnosis and archive",
            "seed": seed,
        },
        "rejected": rejected,
        **compare(labels, shown, groups, draws),
    }


def compare(
    labels: Labels, shown: Floats, groups: NDArray[np.integer[Any]], draws: int = DRAWS
) -> dict[str, Any]:
    """Return the figures of probabilities of N images in each of 83 variants.

    `shown` is (83, N, 8) float64: the picture as it is, each corruption at strengths 1 to 5, the seven turns.
    `groups` is (N,) int, the number of the lesion of each image, from 0 and without a gap.
    """
    damaged, turned = shown[: -len(TURNS)], np.concatenate([shown[:1], shown[-len(TURNS) :]])
    falls = [Figure(f"{merit.name}_fall", partial(_falls, merit), _FALL_KEYS) for merit in MERITS]
    flips = Figure("flips", _flips, (*TURNS, "mean", "any", "malignant_shift"))
    asked = [
        *((merit, shown[0]) for merit in MERITS),
        *((fall, damaged) for fall in falls),
        (flips, turned),
    ]
    bounds = intervals(labels, groups, asked, draws)
    clean = {merit.name: float(merit.compute(labels, shown[0])) for merit in MERITS}
    fallen = {
        fall.name: dict(zip(_FALL_KEYS, fall.compute(labels, damaged).tolist(), strict=True))
        for fall in falls
    }
    n_by_class = np.bincount(labels, minlength=len(CODES))
    ready: dict[str, Any] = json_ready(
        {
            "n": len(labels),
            "n_lesions": len(np.unique(groups)),
            "n_classes": int((n_by_class > 0).sum()),
            "n_by_class": dict(zip(CODES, n_by_class.tolist(), strict=True)),
            "clean": {**clean, "intervals": {name: bounds[name] for name in clean}},
            "corruptions": {
                c.name: _corruption_json(c.name, clean, fallen, bounds) for c in CORRUPTIONS
            },
            "mean": {
                **{name: by_key["mean"] for name, by_key in fallen.items()},
                "relative_error": _relative_error(clean, fallen, "mean"),
                "intervals": {name: bounds[name]["mean"] for name in fallen},
            },
            "flips": _flips_json(flips.compute(labels, turned), bounds["flips"], turned),
        }
    )
    return ready


def _variants() -> list[Variant]:
    def as_it_is(pixels: Pixels, seed: int) -> Pixels:
        del seed
        return pixels

    def held(pixels: Pixels, seed: int, quarters: int, mirrored: bool) -> Pixels:
        del seed
        return turned(pixels, quarters, mirrored)

    def damaged(pixels: Pixels, seed: int, kind: int, strength: int) -> Pixels:
        return CORRUPTIONS[kind](pixels, strength, seed)

    kinds = range(len(CORRUPTIONS))
    damages = [
        partial(damaged, kind=kind, strength=strength) for kind in kinds for strength in STRENGTHS
    ]
    turns = [
        partial(held, quarters=quarters, mirrored=mirrored) for quarters, mirrored in TURNS.values()
    ]
    return [as_it_is, *damages, *turns]


def _predict(
    model: Model, table: pd.DataFrame, seed: int, progress: Progress, batch_size: int
) -> tuple[Floats, dict[str, str]]:
    """Return the probabilities of each variant of each readable image, (variants, N, 8), and the rejected ones."""
    variants, rejected, sides = _variants(), dict[str, str](), list[int]()
    total, logits = len(table) * len(variants), [np.empty((0, len(CODES)), np.float32)]

    def prepared(image: LesionImage, drawn: int, variant: Variant) -> Pixels:
        return preprocess.to_pixels(
            replace(image, pixels=variant(image.pixels, drawn)), model.record.input
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def submitted() -> Iterator[Future[Pixels]]:
            for name, image in zip(table["image"], read_images(table["path"]), strict=True):
                if isinstance(image, ImageRejected):
                    rejected[name] = str(image)
                    continue
                sides.extend([min(image.file_px)] * len(variants))
                # by the name of the image, so that its damage is the same in every sample
                drawn = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4])
                yield from (pool.submit(prepared, image, drawn, variant) for variant in variants)

        waiting = submitted()
        ahead = deque(islice(waiting, 2 * batch_size))
        while ahead:
            pixels = np.stack(
                [ahead.popleft().result() for _ in range(min(batch_size, len(ahead)))]
            )
            ahead.extend(islice(waiting, batch_size))
            logits.append(model.see(pixels).logits)
            progress("images", sum(map(len, logits)) + len(rejected) * len(variants), total)
    probabilities = model.calibrated(np.concatenate(logits), sides)
    return probabilities.reshape(-1, len(variants), len(CODES)).transpose(1, 0, 2), rejected


def _falls(merit: Figure, labels: Labels, damaged: Floats, weights: Floats | None = None) -> Floats:
    """Return the falls of a figure: by corruption its strengths and their mean, at the end the mean of all."""
    clean, *worse = (merit.compute(labels, probabilities, weights) for probabilities in damaged)
    falls = (np.asarray(clean)[..., None] - np.stack(worse, axis=-1)).reshape(
        *np.shape(clean), len(CORRUPTIONS), len(STRENGTHS)
    )
    means = falls.mean(axis=-1, keepdims=True)
    by_key = np.concatenate([falls, means], axis=-1).reshape(*np.shape(clean), -1)
    return np.concatenate([by_key, means.mean(axis=-2)], axis=-1)


def _flips(labels: Labels, turned: Floats, weights: Floats | None = None) -> Floats:
    """Return the flip rate of each turn, their mean, the share of images with any, the mean move of p(malignant)."""
    weights = np.ones(len(labels)) if weights is None else weights
    changed = turned[1:].argmax(axis=-1) != turned[0].argmax(axis=-1)
    moves = np.abs(_malignant(turned[1:]) - _malignant(turned[0]))
    by_image = np.stack(
        [*changed, changed.mean(axis=0), changed.any(axis=0), moves.mean(axis=0)], axis=-1
    )
    rates: Floats = weights @ by_image / weights.sum(axis=-1, keepdims=True)
    return rates


def _malignant(probabilities: Floats) -> Floats:
    return classification.malignant_probability(probabilities)


def _corruption_json(
    name: str, clean: dict[str, float], fallen: dict[str, dict[str, float]], bounds: dict[str, Any]
) -> dict[str, Any]:
    part: dict[str, Any] = {"intervals": {}}
    for merit, value in clean.items():
        fall = f"{merit}_fall"
        part[fall] = {key: fallen[fall][f"{name} {key}"] for key in _KEYS}
        part[merit] = {key: value - lost for key, lost in part[fall].items()}
        part["intervals"][fall] = {key: bounds[fall][f"{name} {key}"] for key in _KEYS}
    return {**part, "relative_error": _relative_error(clean, fallen, f"{name} mean")}


def _relative_error(
    clean: dict[str, float], fallen: dict[str, dict[str, float]], key: str
) -> float:
    error = 1 - clean["balanced_accuracy"]
    return (error + fallen["balanced_accuracy_fall"][key]) / error if error > 0 else float("nan")


def _flips_json(values: Floats, bounds: dict[str, Any], turned: Floats) -> dict[str, Any]:
    rates = dict(zip((*TURNS, "mean", "any"), values[:-1].tolist(), strict=True))
    moves = np.abs(_malignant(turned[1:]) - _malignant(turned[0]))
    return {
        "rate": rates,
        "malignant_shift": float(values[-1]),
        "malignant_shift_95th_percentile": float(np.quantile(moves, 0.95)),
        "intervals": {
            "rate": {key: bounds[key] for key in rates},
            "malignant_shift": bounds["malignant_shift"],
        },
    }
