"""Where in the image the network found evidence: the class activation map and its kin.

A Heatmap keeps what the method gave. It is never stretched to the same range: a faint map stays faint, and
its peak is there to be shown. A map of zeros means that nothing in the picture spoke for that diagnosis.
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
from cadlib.model.model import Model, Prediction
from cadlib.model.record import ModelRecord
from cadlib.saliency.closed_form import FORMULAS
from cadlib.saliency.feature_map_cells import enlargement
from cadlib.taxonomy import CODES, diagnosis


@dataclass(frozen=True)
class Method:
    """One way to make a map; one that is not class-specific gives the same map for every diagnosis.

    The first one comes with each prediction; the others run the network again.
    """

    key: str
    name: str
    class_specific: bool = True


METHODS = (
    Method("grad-cam", "Grad-CAM"),
    Method("grad-cam++", "Grad-CAM++"),
    Method("hirescam", "HiResCAM"),
    Method("layercam", "LayerCAM"),
    Method("eigencam", "EigenCAM", class_specific=False),
)
_LEVELS = np.arange(256, dtype=np.uint8)[None]
COLOURS = np.array(cv2.applyColorMap(_LEVELS, cv2.COLORMAP_VIRIDIS)[0, :, ::-1], np.uint8)
"""(256, 3) uint8 RGB, cold to hot. Perceptually even, and its greens stand apart from skin and pigment."""

FRAME_COLOUR = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Heatmap:
    """The evidence for one diagnosis over the square of the image that the network saw.

    `values` is (S, S) float32, read-only, in the method's own unit, never below 0; `raw_peak` is the largest
    of them. `diagnosis` is None for a method that is not class-specific. `box` is the square's (left, top,
    right, bottom) in pixels of the image.
    """

    values: NDArray[np.float32]
    diagnosis: str | None
    method: str
    raw_peak: float
    box: Box


def activation_map(model: Model, image: LesionImage, prediction: Prediction, code: str) -> Heatmap:
    """Map the evidence for one of the eight diagnoses that a prediction of `image` came with: Grad-CAM, at no cost."""
    return _heatmap(
        model, image, prediction.evidence[CODES.index(diagnosis(code).code)], code, METHODS[0]
    )


def explain(model: Model, image: LesionImage, code: str, method: str = "grad-cam") -> Heatmap:
    """Map the evidence in `image` for one of the eight diagnoses; any number of threads may ask at once.

    Negative values, evidence against, are set to 0, as in Selvaraju et al., Grad-CAM (ICCV 2017), eq. 2; the
    rest is enlarged bilinearly to the network's input. EigenCAM's sign is arbitrary: its map is turned so
    that the extreme farthest from 0 is positive (Chung and Ying, Appl. Sci. 15 (2025) 7562, eq. 13).
    Raise ValueError for an unknown code or method, CadError when the network gives NaN or infinity.
    """
    chosen = _method(method)
    pixels = to_pixels(image, model.record.input)
    [raw] = raw_maps(model, pixels[None], CODES.index(diagnosis(code).code), method)
    return _heatmap(model, image, raw, code, chosen)


def raw_maps(
    model: Model, pixels: NDArray[np.uint8], target: int, method: str = METHODS[0].key
) -> Sequence[NDArray[np.float32]]:
    """Return the map of each of (N, S, S, 3) uint8 RGB at the layer's own size, (h, w), with its negative values."""
    if method == METHODS[0].key:
        return list(model.see(pixels).evidence[:, target])
    maps = model.engine.feature_maps(to_array(pixels, model.record.input))
    weights = model.engine.head[target]
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # damaged weights give NaN, which is noticed later
        return [FORMULAS[method](one, weights) for one in maps]


def surface(raw: NDArray[np.float32], record: ModelRecord) -> NDArray[np.float32]:
    """Return a map at the layer's own size, (h, w), over the pixels of the model's input, (S, S), negatives as 0."""
    down, across = (
        enlargement(record.backbone, record.input.size_px, cells) for cells in raw.shape
    )
    return (down @ np.maximum(raw, 0) @ across.T).astype(np.float32)


def overlay(
    image: LesionImage,
    heatmap: Heatmap,
    opacity: float = 0.6,
    peak: float | None = None,
    max_side_px: int | None = None,
) -> NDArray[np.uint8]:
    """Blend a heatmap into its image, transparent where cold; return (H, W, 3) uint8 RGB.

    `opacity` (0 to 1) is reached at `peak`, the value drawn hottest, by default the map's own; give several
    maps one peak to compare them. A thin frame marks what the network saw; outside it the picture stays as
    it is. A map of zeros, or opacity 0, leaves the whole picture as it is. The size is that of the file's picture;
    `max_side_px` shrinks first.
    """
    hottest = heatmap.raw_peak if peak is None else peak
    _check_overlay(image, heatmap, opacity, hottest, max_side_px)
    longest = max(image.file_px)
    shown = min(longest, max_side_px or longest)
    width, height = (-(-side * shown // longest) for side in image.file_px)
    picture = Image.fromarray(image.pixels)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if heatmap.raw_peak > 0 and opacity > 0:
        read = max(image.width_px, image.height_px)
        left, top = (edge * shown // read for edge in heatmap.box[:2])
        right, bottom = (-(-edge * shown // read) for edge in heatmap.box[2:])
        square = (right - left, bottom - top)
        values = Image.fromarray(heatmap.values).resize(square, Image.Resampling.BILINEAR)
        layer = Image.fromarray(tinted(np.asarray(values), hottest))
        picture.paste(
            layer, (left, top), layer.getchannel("A").point(lambda alpha: round(opacity * alpha))
        )
        frame = (left, top, right - 1, bottom - 1)
        ImageDraw.Draw(picture).rectangle(frame, outline=FRAME_COLOUR, width=max(1, shown // 600))
    return np.asarray(picture)


def tinted(values: NDArray[np.float32], hottest: float) -> NDArray[np.uint8]:
    """Return the colours of (h, w) values, from 0 up to `hottest`, above 0; (h, w, 4) uint8 RGBA, clear where cold."""
    heat = np.minimum(values, hottest) / hottest
    level = np.rint(255 * heat).astype(np.uint8)
    return np.dstack([COLOURS[level], level])


def colour_scale(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Draw the colours as a legend, hot at the right or, if upright, on top; return (H, W, 3) uint8."""
    if min(width_px, height_px) < 1:
        raise ValueError(f"Expected at least 1 px a side but got {width_px!r} by {height_px!r}.")
    levels = np.rint(np.linspace(0, 255, max(width_px, height_px))).astype(np.uint8)
    line = levels[None, :] if width_px >= height_px else levels[::-1, None]
    return COLOURS[np.broadcast_to(line, (height_px, width_px))]


def _method(key: str) -> Method:
    for method in METHODS:
        if method.key == key:
            return method
    raise ValueError(
        f"Expected `method` to be one of {', '.join(m.key for m in METHODS)} but got {key!r}."
    )


def _heatmap(
    model: Model, image: LesionImage, raw: NDArray[np.float32], code: str, method: Method
) -> Heatmap:
    """Return a Heatmap of a map at the layer's own size, (h, w), with its negative values."""
    if not np.isfinite(raw).all():
        raise CadError(
            f"Expected {method.name} for {code} to be finite but {model.record.model_id} gave NaN or infinity; its "
            "weights may be damaged: restore the model's folder, or choose another model."
        )
    values = surface(raw, model.record)
    values.setflags(write=False)
    return Heatmap(
        values=values,
        diagnosis=code if method.class_specific else None,
        method=method.key,
        raw_peak=float(values.max()),
        box=model.record.input.crop_box(image.width_px, image.height_px),
    )


def _check_overlay(
    image: LesionImage, heatmap: Heatmap, opacity: float, hottest: float, max_side_px: int | None
) -> None:
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected `opacity` to be from 0 to 1 but got {opacity!r}.")
    if not 0 <= hottest < np.inf or (hottest == 0 and heatmap.raw_peak > 0):
        raise ValueError(f"Expected `peak` to be a positive number but got {hottest!r}.")
    if max_side_px is not None and max_side_px < 1:
        raise ValueError(f"Expected `max_side_px` to be at least 1 but got {max_side_px!r}.")
    if heatmap.box[2] > image.width_px or heatmap.box[3] > image.height_px:
        raise ValueError(
            f"Expected the heatmap of this image, {image.width_px} × {image.height_px} px, but its box is "
            f"{heatmap.box}; explain this image first."
        )
