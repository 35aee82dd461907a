"""Computes heatmaps of the evidence in an image, and draws them.

A Heatmap has the method's own values. They are never stretched to a common range: a faint map stays
faint, and its peak can be shown. A map of zeros means that nothing in the image supports that
diagnosis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cadlib.errors import CadError
from cadlib.images import LesionImage
from cadlib.images.preprocess import Box, to_array, to_pixels
from cadlib.images.turns import TURNS, turned, turned_back
from cadlib.model.engine import Engine
from cadlib.model.model import Model, Prediction
from cadlib.model.record import ModelRecord
from cadlib.saliency.closed_form import FORMULAS
from cadlib.saliency.feature_map_cells import enlargement
from cadlib.saliency.rise import RiseMaps, model_answers, rise
from cadlib.taxonomy import CODES, diagnosis


@dataclass(frozen=True)
class Method:
    """A method of computing a map.

    A method that is not class-specific has the same map for every diagnosis. The first method's map
    comes with each prediction, the others run the network again, RISE more than 300 times.
    """

    key: str
    name: str
    class_specific: bool = True


RISE = Method("rise", "RISE")
METHODS = (
    Method("grad-cam", "Grad-CAM"),
    Method("grad-cam++", "Grad-CAM++"),
    Method("hirescam", "HiResCAM"),
    Method("layercam", "LayerCAM"),
    Method("eigencam", "EigenCAM", class_specific=False),
    RISE,
)
_LEVELS = np.arange(256, dtype=np.uint8)[None]
# OpenCV has blue first.
COLOURS = np.array(cv2.applyColorMap(_LEVELS, cv2.COLORMAP_VIRIDIS)[0, :, ::-1], np.uint8)
"""(256, 3) uint8 RGB, cold to hot.

The scale is perceptually even, and its greens differ from skin and pigment."""

FRAME_COLOUR = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Heatmap:
    """The evidence for one diagnosis over the square of the image that the network read.

    `values` is (S, S) float32, read-only, in the method's own unit, never below 0. `raw_peak` is
    the largest value. `diagnosis` is None for a method that is not class-specific. `box` is the
    square's (left, top, right, bottom) in pixels of the image. `repeatability` is how similar the
    map would be with other random masks; None for a method without masks.
    """

    values: NDArray[np.float32]
    diagnosis: str | None
    method: str
    raw_peak: float
    box: Box
    repeatability: float | None = None


def activation_map(
    model: Model,
    image: LesionImage,
    prediction: Prediction,
    code: str,
) -> Heatmap:
    """Return the Grad-CAM map of one of the eight diagnoses from a prediction of `image`.

    The evidence comes with the prediction, so the network does not run.
    """
    target = CODES.index(diagnosis(code).code)
    raw = prediction.evidence[target]
    views = len(prediction.view_probabilities)
    return _heatmap(model, image, raw, code, METHODS[0], views)


def explain(
    model: Model,
    image: LesionImage,
    code: str,
    method: str = "grad-cam",
) -> Heatmap:
    """Map the evidence in `image` for one of the eight diagnoses. It is safe to call from threads.

    Negative values, evidence against, are set to 0, as in Selvaraju et al., Grad-CAM (ICCV 2017),
    eq. 2. The rest is enlarged bilinearly to the network's input. EigenCAM's sign is arbitrary: its
    map gets the sign that makes the extreme farthest from 0 positive (Chung and Ying, Appl. Sci. 15
    (2025) 7562, eq. 13). Raise ValueError for an unknown code or method, CadError when the network
    returns NaN or infinity.
    """
    # An unknown method is rejected before the image is prepared.
    method_of_key = _method(method)
    if method_of_key == RISE:
        maps = rise_maps(model, image)
        return rise_heatmap(model, image, maps, code)
    pixels = to_pixels(image, model.record.input)
    target = CODES.index(diagnosis(code).code)
    [raw] = raw_maps(model, pixels[None], target, method)
    return _heatmap(model, image, raw, code, method_of_key, model.views)


def rise_maps(model: Model, image: LesionImage) -> RiseMaps:
    """Return the maps of an image by RISE for all eight diagnoses. It takes a second or more."""
    pixels = to_pixels(image, model.record.input)
    short_side_px = min(image.file_px)
    answers = model_answers(model, short_side_px)
    n_networks = len(model.committee.members)
    return rise(answers, pixels, n_networks)


def rise_heatmap(model: Model, image: LesionImage, maps: RiseMaps, code: str) -> Heatmap:
    """Return the map of one of the eight diagnoses from the maps of an image by RISE.

    Raise CadError when the network returned NaN or infinity.
    """
    target = CODES.index(diagnosis(code).code)
    raw = maps.values[target]
    _check_finite(raw, model, code, RISE)
    values = np.maximum(raw, 0)
    values.setflags(write=False)
    return Heatmap(
        values=values,
        diagnosis=code,
        method=RISE.key,
        raw_peak=float(values.max()),
        box=model.record.input.crop_box(image.width_px, image.height_px),
        repeatability=float(maps.repeatability[target]),
    )


def raw_maps(
    model: Model,
    pixels: NDArray[np.uint8],
    target: int,
    method: str = METHODS[0].key,
) -> Sequence[NDArray[np.float32]]:
    """Return the map of each of (N, S, S, 3) uint8 RGB at the layer's own size, (h, w).

    RISE has no maps of such a size.
    It is the average over the networks of the model and the views that they read. Negative values
    are included.
    """
    if method == METHODS[0].key:
        # The network's outputs contain the Grad-CAM map of every diagnosis.
        evidence = model.see(pixels).evidence
        return list(evidence[:, target])
    maps = []
    for turn in model.committee.turns:
        view = turned(pixels, turn)
        array = to_array(view, model.record.input)
        for member in model.committee.members:
            member_maps = _member_maps(member, array, target, method)
            maps.append(turned_back(member_maps, turn))
    mean: NDArray[np.float32] = np.mean(maps, axis=0, dtype=np.float32)
    return list(mean)


def _member_maps(
    member: Engine,
    array: NDArray[np.float32],
    target: int,
    method: str,
) -> NDArray[np.float32]:
    """Return the maps of one network for its input (N, 3, S, S), (N, h, w)."""
    feature_maps = member.feature_maps(array)
    weights = member.head[target]
    formula = FORMULAS[method]
    # Damaged weights result in NaN, which is checked later.
    with np.errstate(invalid="ignore", over="ignore"):
        maps = [formula(feature_map, weights) for feature_map in feature_maps]
    return np.stack(maps)


def surface(raw: NDArray[np.float32], record: ModelRecord, views: int) -> NDArray[np.float32]:
    """Return a map at the layer's own size, (h, w), enlarged to the model's input, (S, S).

    `views` is the number of views that the map is an average of. Negative values are set to 0.
    """
    rows, columns = raw.shape
    # All networks of a model have maps of one geometry.
    backbone = record.members[0].backbone
    size_px = record.input.size_px
    all_views = views == len(TURNS)
    down = enlargement(backbone, size_px, rows, all_views=all_views)
    across = enlargement(backbone, size_px, columns, all_views=all_views)
    positive = np.maximum(raw, 0)
    enlarged = down @ positive @ across.T
    return enlarged.astype(np.float32)


def overlay(
    image: LesionImage,
    heatmap: Heatmap,
    opacity: float = 0.6,
    peak: float | None = None,
    max_side_px: int | None = None,
) -> NDArray[np.uint8]:
    """Blend a heatmap into its image, transparent where cold, and return (H, W, 3) uint8 RGB.

    `opacity` (0 to 1) is reached at `peak`, the value drawn hottest, by default the map's own. Use
    one peak for several maps to compare them. A thin frame marks the square that the network read.
    Outside it the image does not change. A map of zeros, or opacity 0, changes nothing at all. The
    size is that of the file's image, reduced to `max_side_px` first.
    """
    hottest = heatmap.raw_peak if peak is None else peak
    _check_overlay(image, heatmap, opacity, hottest, max_side_px)
    longest = max(image.file_px)
    longest_px = min(longest, max_side_px or longest)
    canvas = _at_size(image, longest_px)
    if heatmap.raw_peak > 0 and opacity > 0:
        box = _scaled_box(image, heatmap.box, longest_px)
        _paste_heatmap(canvas, heatmap, box, opacity, hottest)
        left, top, right, bottom = box
        # Pillow draws the last column and row of a rectangle, too.
        frame = (left, top, right - 1, bottom - 1)
        line_px = max(1, longest_px // 600)
        draw = ImageDraw.Draw(canvas)
        draw.rectangle(
            frame,
            outline=FRAME_COLOUR,
            width=line_px,
        )
    return np.asarray(canvas)


def _at_size(image: LesionImage, longest_px: int) -> Image.Image:
    """Return an image whose longest side is `longest_px`."""
    width, height = image.file_px
    longest = max(width, height)
    # Rounded up, so that a side of a very thin image is never 0 px.
    size = (
        _divided_up(width * longest_px, longest),
        _divided_up(height * longest_px, longest),
    )
    canvas = Image.fromarray(image.pixels)
    if canvas.size == size:
        return canvas
    return canvas.resize(
        size,
        Image.Resampling.LANCZOS,
        reducing_gap=2.0,
    )


def _scaled_box(
    image: LesionImage,
    box: Box,
    longest_px: int,
) -> Box:
    """Return a box in pixels of the image for an image whose longest side is `longest_px`."""
    # The image in memory can be smaller than the one in its file, and the box is in its pixels.
    longest = max(image.width_px, image.height_px)
    left, top, right, bottom = box
    return (
        # Rounded outwards, so that the box includes all that the network read.
        left * longest_px // longest,
        top * longest_px // longest,
        _divided_up(right * longest_px, longest),
        _divided_up(bottom * longest_px, longest),
    )


def _divided_up(dividend: int, divisor: int) -> int:
    """Return the quotient rounded up."""
    # Floor division rounds a negative number away from 0.
    return -(-dividend // divisor)


def _paste_heatmap(
    canvas: Image.Image,
    heatmap: Heatmap,
    box: Box,
    opacity: float,
    hottest: float,
) -> None:
    """Blend the colours of a heatmap into a box of an image, in place."""
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    # Enlarged before it is coloured: a mean of two colours need not be a colour of the scale.
    values = Image.fromarray(heatmap.values)
    enlarged = values.resize(size, Image.Resampling.BILINEAR)
    colours = tinted(np.asarray(enlarged), hottest)
    layer = Image.fromarray(colours)
    heat = layer.getchannel("A")
    mask = heat.point(lambda alpha: round(opacity * alpha))
    canvas.paste(layer, (left, top), mask)


def tinted(values: NDArray[np.float32], hottest: float) -> NDArray[np.uint8]:
    """Return the colours of (h, w) values as (h, w, 4) uint8 RGBA, transparent where cold.

    `hottest`, above 0, is the value of the hottest colour. The coldest colour is at 0.
    """
    limited = np.minimum(values, hottest)
    heat = limited / hottest
    level = np.rint(255 * heat).astype(np.uint8)
    colours = COLOURS[level]
    # The level is the opacity, too, so that cold places show the image.
    return np.dstack([colours, level])


def colour_scale(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Draw the colours as a legend, (H, W, 3) uint8: hot at the right or, if upright, on top."""
    if min(width_px, height_px) < 1:
        raise ValueError(f"Expected at least 1 px a side but got {width_px!r} by {height_px!r}.")
    length_px = max(width_px, height_px)
    heat = np.linspace(0, 255, length_px)
    levels = np.rint(heat).astype(np.uint8)
    line = levels[None, :]
    if height_px > width_px:
        # Row 0 is the upper one.
        line = levels[::-1, None]
    scale = np.broadcast_to(line, (height_px, width_px))
    return COLOURS[scale]


def _method(key: str) -> Method:
    for method in METHODS:
        if method.key == key:
            return method
    keys = ", ".join(method.key for method in METHODS)
    raise ValueError(f"Expected `method` to be one of {keys} but got {key!r}.")


def _heatmap(
    model: Model,
    image: LesionImage,
    raw: NDArray[np.float32],
    code: str,
    method: Method,
    views: int,
) -> Heatmap:
    """Return a Heatmap of a map at the layer's own size, (h, w), which may have negative values.

    `views` is the number of views that the map is an average of.
    """
    _check_finite(raw, model, code, method)
    values = surface(raw, model.record, views)
    values.setflags(write=False)
    return Heatmap(
        values=values,
        diagnosis=code if method.class_specific else None,
        method=method.key,
        raw_peak=float(values.max()),
        box=model.record.input.crop_box(image.width_px, image.height_px),
    )


def _check_finite(raw: NDArray[np.float32], model: Model, code: str, method: Method) -> None:
    if not np.isfinite(raw).all():
        raise CadError(
            f"Expected {method.name} for {code} to be finite but {model.record.model_id} gave "
            "NaN or infinity; its weights may be damaged: restore the model's folder, or choose "
            "another model."
        )


def _check_overlay(
    image: LesionImage,
    heatmap: Heatmap,
    opacity: float,
    hottest: float,
    max_side_px: int | None,
) -> None:
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected `opacity` to be from 0 to 1 but got {opacity!r}.")
    # The values are divided by the peak; a map of zeros is not drawn, so its peak may be 0.
    if not 0 <= hottest < np.inf or (hottest == 0 and heatmap.raw_peak > 0):
        raise ValueError(f"Expected `peak` to be a positive number but got {hottest!r}.")
    if max_side_px is not None and max_side_px < 1:
        raise ValueError(f"Expected `max_side_px` to be at least 1 but got {max_side_px!r}.")
    # A box outside the image shows that the heatmap is of another image.
    if heatmap.box[2] > image.width_px or heatmap.box[3] > image.height_px:
        raise ValueError(
            f"Expected the heatmap of this image, {image.width_px} × {image.height_px} px, but its "
            f"box is {heatmap.box}; explain this image first."
        )
