"""Are a model's heatmaps worth looking at? Each method over many images, against maps that know nothing.

The result is the key `saliency` of metrics.json, plain JSON values, None where a figure is not defined:

    model, data             which weights, which images
    sample                  of how many images these are, how they were drawn, and the seed of what is drawn here
    rejected                image id -> why it could not be read; it is not counted
    n, n_lesions            how many images and lesions stand behind every figure
    faithfulness            by method, and of the three maps that know nothing, their mean `faithfulness`
    stability               by method, the mean correlation with the maps of the turned picture; so `random`
    unreadable              by method, the share of maps that `Trust` calls so
    gain                    by method, its faithfulness minus that of the method that comes with each prediction
    untrained_likeness      by method, the correlation with the map of a network of random weights
    untrained_faithfulness  by method, how faithful the map of that network is to the answer of this one
    by_diagnosis            faithfulness and unreadable of the usual method, and n, by the diagnosis explained
    limits                  what 95 % of the random maps stay below; Trust has its limits from here
    best                    the method with the highest faithfulness

Each image is explained for its most probable diagnosis. The maps that know nothing: `random` has the cells of the
image's own Grad-CAM shuffled, so that values and smoothness are the same; `centre` is one spot in the middle, for a
lesion lies there. An untrained network of the same kind tells whether a map shows what was learnt, or edges that any
network shows (Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018: all weights drawn anew).

Intervals are over lesions, those of `gain` paired.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.data.splits import lesion_groups
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.images import LesionImage, preprocess, read_images
from cadlib.metrics.classification import Floats
from cadlib.metrics.summary import DRAWS, Figure, intervals, json_ready
from cadlib.model.metrics_file import model_facts
from cadlib.model.model import Model
from cadlib.network.backbones import network_of, untrained_network
from cadlib.progress import Progress, no_progress
from cadlib.saliency.faithfulness import Map, faithfulness
from cadlib.saliency.gradients import raw_maps
from cadlib.saliency.heatmap import METHODS, surface
from cadlib.saliency.test_time_views import TURNS, turned
from cadlib.saliency.trust import VIEWS, Trust, agreement, stability_of
from cadlib.taxonomy import CODES

if TYPE_CHECKING:
    from torch import nn

KEYS = tuple(method.key for method in METHODS)
RANDOM, CENTRE = "random", "centre"
RANDOM_QUANTILE = 0.95
_BY_DIAGNOSIS = {
    "faithfulness by diagnosis": "faithfulness",
    "unreadable by diagnosis": "unreadable",
}


def measure(
    model: Model,
    dataset: Dataset,
    split: str,
    seed: int = 0,
    of: int | None = None,
    progress: Progress = no_progress,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Explain every labelled image by every method, judge the maps, and compare them with those that know nothing.

    `split` names the part of the model's own split that the images are of, and `of` says of how many they are a
    sample; `seed` fixes the random maps and the untrained network. `progress` counts the images.
    number. Raise DatasetInvalid where no image has a label and can be read.
    """
    table = dataset.table[dataset.table["diagnosis"].isin(CODES)].reset_index(drop=True)
    rejected: dict[str, str] = {}
    judged = list(_judge_all(model, table, seed, rejected, progress))
    table = table[~table["image"].isin(rejected.keys())]
    if table.empty:
        raise DatasetInvalid(
            f"Expected labelled images that can be read in {dataset.name} but got none; give others."
        )
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
        **compare(
            {name: np.array([one[name] for one in judged]) for name in judged[0]}, groups, draws
        ),
    }


def compare(
    judged: dict[str, Floats], groups: NDArray[np.integer[Any]], draws: int = DRAWS
) -> dict[str, Any]:
    """Return the figures of N images from what `judge` said of each.

    `groups` is (N,) int, the number of the lesion of each image, from 0 and without a gap.
    """
    faithful, stable = judged["faithfulness"][:, : len(KEYS)], judged["stability"][:, : len(KEYS)]
    readable = np.vectorize(lambda *figures: Trust(*figures).readable)(faithful, stable)
    values = {
        **judged,
        "unreadable": 1 - readable.astype(np.float64),
        "gain": faithful - faithful[:, :1],
    }
    keys = {"faithfulness": (*KEYS, RANDOM, CENTRE), "stability": (*KEYS, RANDOM)} | dict.fromkeys(
        _BY_DIAGNOSIS, CODES
    )
    explained = values.pop("explained")
    for name, of in _BY_DIAGNOSIS.items():
        values[name] = np.where(explained == 1, values[of][:, :1], np.nan)
    asked = [
        Figure(name, partial(_means, found), keys.get(name, KEYS)) for name, found in values.items()
    ]
    labels = np.zeros(len(groups), np.int64)
    means = {
        figure.name: dict(zip(figure.keys, figure.compute(labels, faithful).tolist(), strict=True))
        for figure in asked
    }
    limits = {
        name: float(np.nanquantile(judged[name][:, keys[name].index(RANDOM)], RANDOM_QUANTILE))
        for name in ("faithfulness", "stability")
    }
    bounds = intervals(labels, groups, [(figure, faithful) for figure in asked], draws)
    ready: dict[str, Any] = json_ready(
        {
            "n": len(groups),
            "n_lesions": len(np.unique(groups)),
            **{name: found for name, found in means.items() if name not in _BY_DIAGNOSIS},
            "by_diagnosis": {
                "n": dict(zip(CODES, explained.sum(axis=0).astype(int).tolist(), strict=True)),
                **{of: means[name] for name, of in _BY_DIAGNOSIS.items()},
                "intervals": {of: bounds[name] for name, of in _BY_DIAGNOSIS.items()},
            },
            "limits": limits,
            "best": max(
                KEYS,
                key=lambda key: np.nan_to_num(means["faithfulness"][key], nan=-np.inf).round(3),
            ),
            "intervals": {
                name: found for name, found in bounds.items() if name not in _BY_DIAGNOSIS
            },
        }
    )
    return ready


def judge(
    model: Model, untrained: "nn.Module", image: LesionImage, rng: np.random.Generator
) -> dict[str, Floats]:
    """Return what is said of one image's maps, a row by name; `explained` is 1 at the diagnosis that they explain."""
    record, pixels = model.record, preprocess.to_pixels(image, model.record.input)
    views = np.stack([pixels, *(turned(pixels, *TURNS[view]) for view in VIEWS)])
    seen = model.see(views)
    side = min(image.file_px)
    target = int(model.calibrated(seen.logits[:1], side).argmax())
    usual = seen.evidence[:, target]
    maps = [
        [
            surface(raw, record)
            for raw in (first, *raw_maps(network_of(model), record, view, target, KEYS[1:]))
        ]
        for first, view in zip(usual, views, strict=True)
    ]
    blind = [surface(raw, record) for raw in raw_maps(untrained, record, pixels, target, KEYS)]
    shuffled = surface(rng.permutation(usual[0].ravel()).reshape(usual[0].shape), record)
    upright = maps[0]
    faithful = faithfulness(
        model, pixels, side, [*upright, shuffled, centre(len(pixels)), *blind], target
    )
    again = [list(of_method) for of_method in zip(*maps[1:], strict=True)]
    stable = [stability_of(values, others) for values, others in zip(upright, again, strict=True)]
    return {
        "faithfulness": faithful[: -len(KEYS)],
        "stability": np.array([*stable, agreement(upright[0], shuffled)]),
        "untrained_likeness": np.array(list(map(agreement, upright, blind))),
        "untrained_faithfulness": faithful[-len(KEYS) :],
        "explained": np.eye(len(CODES))[target],
    }


def centre(size_px: int) -> Map:
    """Return a map with one round spot in the middle, whose standard deviation is a quarter of the side."""
    along = np.exp(-0.5 * (np.linspace(-2, 2, size_px)) ** 2)
    return np.outer(along, along).astype(np.float32)


def _judge_all(
    model: Model, table: pd.DataFrame, seed: int, rejected: dict[str, str], progress: Progress
) -> Iterator[dict[str, Floats]]:
    untrained = untrained_network(model, seed)
    for done, (name, image) in enumerate(
        zip(table["image"], read_images(table["path"]), strict=True), start=1
    ):
        if isinstance(image, ImageRejected):
            rejected[name] = str(image)
        else:
            # by the name of the image, so that its random map is the same in every sample
            drawn = hashlib.sha256(f"{seed} {name}".encode()).digest()
            yield judge(model, untrained, image, np.random.default_rng(list(drawn)))
        progress("images", done, len(table))


def _means(
    values: Floats, _labels: object, _shown: object, weights: Floats | None = None
) -> Floats:
    """Return the means of (N, K) values under (…, N) weights, over what is defined; NaN where nothing is."""
    counts = np.ones(len(values)) if weights is None else weights
    defined = ~np.isnan(values)
    total = np.asarray(counts @ defined.astype(np.float64))
    means: Floats = np.divide(
        counts @ np.nan_to_num(values), total, out=np.full_like(total, np.nan), where=total > 0
    )
    return means
