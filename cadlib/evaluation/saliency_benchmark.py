"""Compares a model's heatmaps with maps that contain no information.

Each method is measured over many images. The result is the section `saliency` of metrics.json, a
`SaliencyMetrics`.

Each image is explained for its most probable diagnosis. The reference maps: `random` is the image's
own Grad-CAM with its cells shuffled, so that values and smoothness are the same; `centre` is one
spot in the middle, because lesions lie there. An untrained network of the same kind shows whether a
map depends on the training, or shows edges that any network shows (Adebayo et al., Sanity Checks
for Saliency Maps, NeurIPS 2018: all weights randomised).

RISE covers regions with the colour of the skin, as the test of faithfulness does. So faithfulness
is measured with blurred regions as well, which no method uses.

Intervals are over lesions, those of `gain` paired.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

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
from cadlib.images.lesion_mask import lesion_mask, share_inside
from cadlib.images.turns import turned
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.conditions_schema import (
    DiagnosisMapIntervals,
    DiagnosisMaps,
    MapIntervals,
    MapLimits,
    MapMetrics,
    SaliencyMetrics,
    SplitName,
    Values,
)
from cadlib.metrics.summary import DRAWS, Metric, defined, measured
from cadlib.metrics.summary_schema import Split
from cadlib.model.metrics_file import model_facts
from cadlib.model.model import Model
from cadlib.network.backbones import untrained_network
from cadlib.progress import Progress, no_progress
from cadlib.saliency import heatmap
from cadlib.saliency.agreement import agreement
from cadlib.saliency.faithfulness import Map, blurred, faithfulness, skin_colour
from cadlib.saliency.gradients import logits_of, raw_maps
from cadlib.saliency.heatmap import METHODS, RISE, rise_maps, surface
from cadlib.saliency.rise import rise
from cadlib.saliency.trust import VIEWS, Trust, stability_of
from cadlib.taxonomy import CODES

if TYPE_CHECKING:
    from torch import nn

KEYS = tuple(method.key for method in METHODS)
RANDOM = "random"
CENTRE = "centre"
RANDOM_QUANTILE = 0.95
_CAM_KEYS = tuple(method.key for method in METHODS if method != RISE)
"""Methods that read the feature map of a network."""
_BY_DIAGNOSIS = {
    "faithfulness by diagnosis": "faithfulness",
    "inside lesion by diagnosis": "inside_lesion",
    "unreadable by diagnosis": "unreadable",
}
"""Name of a metric by diagnosis -> the metric by method that it is made from."""
_METRIC_KEYS = {
    "faithfulness": (*KEYS, RANDOM, CENTRE),
    "faithfulness_blurred": (*KEYS, RANDOM, CENTRE),
    "stability": (*KEYS, RANDOM),
    "inside_lesion": (*KEYS, RANDOM, CENTRE),
    **dict.fromkeys(_BY_DIAGNOSIS, CODES),
}
"""The keys of the metrics that are not by method alone."""


def measure(
    model: Model,
    dataset: Dataset,
    split: Split,
    seed: int = 0,
    of: int | None = None,
    progress: Progress = no_progress,
    draws: int = DRAWS,
) -> SaliencyMetrics:
    """Explain every labelled image by every method and compare the maps with reference maps.

    `split` names the part of the model's own split that the images are of, and `of` is the number
    of images that they are a sample of; `seed` determines the random maps and the untrained
    network. `progress` counts the images. Raise DatasetInvalid if no labelled image can be read.
    """
    table = diagnosed_images(dataset)
    rejected: dict[str, str] = {}
    judged = list(_judge_all(model, table, seed, rejected, progress))
    table = readable_images(table, rejected, dataset)
    groups = lesion_groups(table).to_numpy()
    compared = compare(_columns(judged), groups, draws)
    return SaliencyMetrics(
        model=model_facts(model.record),
        data=SplitName(name=dataset.name, split=split),
        sample=sample_of(table, of, seed),
        rejected=rejected,
        **msgspec.structs.asdict(compared),
    )


def _columns(judged: list[dict[str, Floats]]) -> dict[str, Floats]:
    """Return the results of `judge` for N images as arrays, (N, …) each."""
    columns = {}
    for name in judged[0]:
        rows = [of_image[name] for of_image in judged]
        columns[name] = np.array(rows)
    return columns


def compare(judged: dict[str, Floats], groups: Labels, draws: int = DRAWS) -> MapMetrics:
    """Return the metrics of N images from the results of `judge`, (N, …) each.

    `groups` is (N,) int, the number of the lesion of each image, from 0 and without a gap.
    """
    best = _best_method(judged["faithfulness"])
    metrics = []
    for name, values in _values(judged, best).items():
        metric = Metric(name, partial(_means, values), _METRIC_KEYS.get(name, KEYS))
        metrics.append(metric)
    # `_means` ignores labels and probabilities, but `measured` passes them on.
    labels = np.zeros(len(groups), np.int64)
    probabilities = judged["faithfulness"][:, : len(KEYS)]
    means, bounds = measured(metrics, labels, probabilities, groups, draws)
    return MapMetrics(
        n=len(groups),
        n_lesions=len(np.unique(groups)),
        **_by_method(means),
        by_diagnosis=_diagnosis_maps(judged["explained"], means, bounds),
        limits=_limits(judged),
        best=best,
        intervals=MapIntervals(**_by_method(bounds)),
    )


def _values(judged: dict[str, Floats], best: str) -> dict[str, Floats]:
    """Return the values of each metric, (N, K), NaN where an image does not count.

    Those by diagnosis are of the method `best`.
    """
    faithful = judged["faithfulness"][:, : len(KEYS)]
    stable = judged["stability"][:, : len(KEYS)]
    is_readable = np.vectorize(_is_readable)
    readable = is_readable(faithful, stable)
    values = dict(judged)
    explained = values.pop("explained")
    # A share of images, so that its mean and interval come from the same code.
    values["unreadable"] = 1 - readable.astype(np.float64)
    # The first method is the one that comes with each prediction.
    usual_faithful = faithful[:, :1]
    values["gain"] = faithful - usual_faithful
    column = KEYS.index(best)
    for name, source in _BY_DIAGNOSIS.items():
        best_method = values[source][:, [column]]
        values[name] = np.where(explained == 1, best_method, np.nan)
    return values


def _is_readable(faithful: float, stable: float) -> bool:
    return Trust(faithful, stable).readable


def _limits(judged: dict[str, Floats]) -> MapLimits:
    """Return the value that 95 % of the random maps stay below."""
    limits = {}
    for name in ("faithfulness", "stability"):
        column = _METRIC_KEYS[name].index(RANDOM)
        of_random_maps = judged[name][:, column]
        limit = np.nanquantile(of_random_maps, RANDOM_QUANTILE)
        limits[name] = defined(float(limit))
    return MapLimits(**limits)


def _by_method(by_metric: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all metrics but those by diagnosis."""
    values = dict(by_metric)
    # These have a place of their own, `by_diagnosis`.
    for name in _BY_DIAGNOSIS:
        values.pop(name)
    return values


def _diagnosis_maps(
    explained: Floats,
    means: dict[str, Values],
    bounds: dict[str, Any],
) -> DiagnosisMaps:
    counts = explained.sum(axis=0).astype(int)
    n_by_class = dict(zip(CODES, counts.tolist(), strict=True))
    values = {}
    ends = {}
    for name, source in _BY_DIAGNOSIS.items():
        values[source] = means[name]
        ends[source] = bounds[name]
    return DiagnosisMaps(
        n=n_by_class,
        **values,
        intervals=DiagnosisMapIntervals(**ends),
    )


def _best_method(faithful: Floats) -> str:
    """Return the method with the highest mean of faithfulness, (N, methods and others).

    It is the first of equals to three digits.
    """

    def rounded(key: str) -> float:
        values = faithful[:, KEYS.index(key)]
        defined = values[~np.isnan(values)]
        # A method without a defined value must not win.
        if not len(defined):
            return -math.inf
        return round(float(defined.mean()), 3)

    return max(KEYS, key=rounded)


def judge(
    model: Model,
    untrained: "nn.Module",
    image: LesionImage,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Return the values of an image's maps: name -> one value for each map.

    `explained`, (8,), is 1 at the diagnosis that the maps explain.
    """
    explained = _explained(model, image)
    maps, stable = _of_methods(model, image, explained)
    of_untrained = _untrained_maps(untrained, model, explained)
    shuffled = surface(_shuffled(explained.evidence, rng), model.record, model.views)
    trained = [*maps, shuffled, centre(len(explained.pixels))]
    faithful = _faithfulness(model, explained, [*trained, *of_untrained])
    # How alike the map and its own shuffled cells are is the level of chance.
    stable.append(agreement(maps[0], shuffled))
    filling = blurred(explained.pixels)
    return {
        "faithfulness": faithful[: len(trained)],
        "faithfulness_blurred": _faithfulness(model, explained, trained, filling),
        "stability": np.array(stable),
        "inside_lesion": _inside_lesion(explained.pixels, trained),
        "untrained_likeness": np.array(list(map(agreement, maps, of_untrained))),
        "untrained_faithfulness": faithful[len(trained) :],
        "explained": np.eye(len(CODES))[explained.target],
    }


def _inside_lesion(pixels: NDArray[np.uint8], maps: list[Map]) -> Floats:
    """Return the share of each map inside the lesion, NaN if none is found."""
    mask = lesion_mask(pixels, skin_colour(pixels))
    return np.array([share_inside(values, mask) for values in maps])


def _of_methods(
    model: Model,
    image: LesionImage,
    explained: "_Explained",
) -> tuple[list[Map], list[float]]:
    """Return the map of each method, in the order of KEYS, and its stability."""
    upright, *of_turned = explained.maps
    stable = _stabilities(upright, of_turned)
    of_masks = rise_maps(model, image)
    rise_map = np.maximum(of_masks.values[explained.target], 0)
    repeatability = float(of_masks.repeatability[explained.target])
    return [*upright, rise_map], [*stable, repeatability]


def _faithfulness(
    model: Model,
    explained: "_Explained",
    maps: list[Map],
    filling: NDArray[np.uint8] | None = None,
) -> Floats:
    return faithfulness(
        model,
        explained.pixels,
        explained.short_side_px,
        maps,
        explained.target,
        filling,
    )


@dataclass(frozen=True, eq=False)
class _Explained:
    """An image with the maps of its most probable diagnosis, `target`.

    `pixels` is (S, S, 3) uint8 RGB, the model's input. `maps` has the map of each method of
    _CAM_KEYS for the image and its VIEWS. `evidence` is the map that comes with the prediction,
    (h, w).
    """

    pixels: NDArray[np.uint8]
    short_side_px: int
    target: int
    evidence: NDArray[np.float32]
    maps: list[list[Map]]


def _explained(model: Model, image: LesionImage) -> _Explained:
    pixels = preprocess.to_pixels(image, model.record.input)
    turned_pixels = [turned(pixels, turn) for turn in VIEWS]
    views = np.stack([pixels, *turned_pixels])
    outputs = model.see(views)
    short_side_px = min(image.file_px)
    probabilities = model.calibrated(outputs.logits[:1], short_side_px)
    target = int(probabilities.argmax())
    evidence = outputs.evidence[:, target]
    maps = _maps(model, views, evidence, target)
    return _Explained(
        pixels=pixels,
        short_side_px=short_side_px,
        target=target,
        evidence=evidence[0],
        maps=maps,
    )


def _untrained_maps(untrained: "nn.Module", model: Model, explained: _Explained) -> list[Map]:
    """Return the map of each method by the untrained network, in the order of KEYS."""
    record = model.record
    pixels = explained.pixels
    raw_of_methods = raw_maps(untrained, record, pixels, explained.target, _CAM_KEYS)
    maps = [surface(raw, record, views=1) for raw in raw_of_methods]

    def answers(masked: NDArray[np.uint8]) -> NDArray[np.float64]:
        logits = logits_of(untrained, record, masked)
        return model.calibrated(logits, explained.short_side_px)

    of_masks = rise(answers, pixels)
    maps.append(np.maximum(of_masks.values[explained.target], 0))
    return maps


def _shuffled(cells: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    shuffled: NDArray[np.float32] = rng.permutation(cells.ravel())
    return shuffled.reshape(cells.shape)


def _stabilities(upright: list[Map], of_turned: list[list[Map]]) -> list[float]:
    """Return the stability of each method's map, from its maps of the turned image."""
    stabilities = []
    for place, values in enumerate(upright):
        others = [maps[place] for maps in of_turned]
        stability = stability_of(values, others)
        stabilities.append(stability)
    return stabilities


def _maps(
    model: Model,
    views: NDArray[np.uint8],
    evidence: NDArray[np.float32],
    target: int,
) -> list[list[Map]]:
    """Return the map of each method, in the order of _CAM_KEYS, for each view of an image.

    `evidence`, (views, h, w), is the map of the first method, which comes with each prediction.
    """
    # The first method is the evidence, which the model's outputs have already.
    others = [heatmap.raw_maps(model, views, target, method) for method in _CAM_KEYS[1:]]
    by_view = zip(evidence, *others, strict=True)
    return [[surface(raw, model.record, model.views) for raw in of_view] for of_view in by_view]


def centre(size_px: int) -> Map:
    """Return a map with a round spot in the middle; its standard deviation is 1/4 of the side."""
    distances = np.linspace(-2, 2, size_px)
    along = np.exp(-0.5 * distances**2)
    spot = np.outer(along, along)
    return spot.astype(np.float32)


def _judge_all(
    model: Model,
    table: pd.DataFrame,
    seed: int,
    rejected: dict[str, str],
    progress: Progress,
) -> Iterator[dict[str, Floats]]:
    """Yield the result of `judge` for each image; put those that cannot be read into `rejected`."""
    # One network for all images: it stands for no training, not for one draw of weights.
    untrained = untrained_network(model, seed)
    decoded = read_images(table["path"])
    images = zip(table["image"], decoded, strict=True)
    for done, (name, image) in enumerate(images, start=1):
        if isinstance(image, ImageRejected):
            rejected[name] = str(image)
        else:
            # Seeded by the name of the image, so that its random map is the same in every sample.
            digest = image_digest(seed, name)
            rng = np.random.default_rng(list(digest))
            yield judge(model.held_out(name), untrained, image, rng)
        progress("images", done, len(table))


def _means(
    values: Floats,
    _labels: object,
    _probabilities: object,
    weights: Floats | None = None,
) -> Floats:
    """Return the means of (N, K) values under (…, N) weights over the defined ones, else NaN."""
    counts = weights
    if counts is None:
        counts = np.ones(len(values))
    defined = ~np.isnan(values)
    total = np.asarray(counts @ defined.astype(np.float64))
    sums = counts @ np.nan_to_num(values)
    undefined = np.full_like(total, np.nan)
    means: Floats = np.divide(sums, total, out=undefined, where=total > 0)
    return means
