"""Prepares images, saliency maps and overlays for the pages."""

import io
from collections.abc import Callable, Hashable

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cadlib.assessment import Assessment, assess, heatmap_of
from cadlib.images import LesionImage, read_image
from cadlib.images.synthetic import is_demo
from cadlib.images.thumbnails import shrunk
from cadlib.saliency import heatmap as heatmaps
from cadlib.saliency.heatmap import METHODS, RISE, Heatmap, Method
from cadlib.saliency.rise import RiseMaps
from cadlib.saliency.test_time_views import Stability
from cadlib.saliency.test_time_views import stability as stability_of
from cadlib.taxonomy import CODES, diagnosis
from cadlib.ui.held import holding
from cadlib.ui.models import model

SHOWN_SIDE_PX = 1200
THUMBNAIL_SIDE_PX = 240
OPACITY = 0.6
ORIGINAL = "Original"
DRAWN = "Synthetic lesion, not real skin"
_JPEG_QUALITY = 90


def assessed(image: LesionImage) -> Assessment:
    """Return the model's result for an image, without saliency maps."""
    return assess(model(), image, with_heatmap=False)


def photograph(image: LesionImage, side_px: int = SHOWN_SIDE_PX) -> bytes:
    """Return an image as JPEG, at most `side_px` a side."""
    key = ("photograph", image.key, side_px)
    return holding().derived(image.sha256, key, lambda: shrunk(image, side_px), len)


def square(image: LesionImage) -> bytes:
    """Return the centred square of an image as a small JPEG."""
    key = ("square", image.key)
    return holding().derived(image.sha256, key, lambda: _square(image), len)


def photograph_of(path: str) -> bytes:
    """Return the image in a file as JPEG; raise ImageRejected where there is none."""
    return photograph(read_image(path))


def heatmap(assessment: Assessment, code: str, method: Method = METHODS[0]) -> Heatmap:
    """Return the saliency map for one diagnosis, by the usual method or another, computed once."""
    image = assessment.image
    usual_method = METHODS[0]
    if method == usual_method:
        return heatmap_of(model(), assessment, code)
    if method == RISE:
        maps = _rise_maps(image)
        return heatmaps.rise_heatmap(model(), image, maps, code)
    if not method.class_specific:
        # Its map is the same for every diagnosis: one computation is enough.
        code = CODES[0]
    model_id = model().record.model_id
    key = ("heatmap", image.key, model_id, code, method.key)
    return holding().derived(
        image.sha256,
        key,
        lambda: _explained(image, code, method.key),
        lambda heat: heat.values.nbytes,
    )


def rise_is_ready(assessment: Assessment) -> bool:
    """Return whether the maps by RISE of an image are computed already."""
    image = assessment.image
    return holding().has_derived(image.sha256, _rise_key(image))


def _rise_maps(image: LesionImage) -> RiseMaps:
    """Return the maps by RISE for all diagnoses, computed once."""
    return holding().derived(
        image.sha256,
        _rise_key(image),
        lambda: _computed_rise_maps(image),
        lambda maps: maps.values.nbytes,
    )


def _computed_rise_maps(image: LesionImage) -> RiseMaps:
    with st.spinner("Computing the saliency map …"):
        return heatmaps.rise_maps(model(), image)


def _rise_key(image: LesionImage) -> Hashable:
    return ("rise", image.key, model().record.model_id)


def stability(assessment: Assessment) -> Stability:
    """Return the model's results for the rotated and mirrored views of an image, computed once."""
    image = assessment.image
    key = ("stability", image.key, model().record.model_id)
    return holding().derived(
        image.sha256,
        key,
        lambda: stability_of(model(), image, assessment.prediction),
        lambda views: views.probabilities.nbytes,
    )


def describe_heatmap(heat: Heatmap) -> str:
    """Return what a saliency map shows in words, "Grad-CAM for Melanoma"."""
    name = next(method.name for method in METHODS if method.key == heat.method)
    if not heat.diagnosis:
        return f"{name}, not class-specific"
    return f"{name} for {diagnosis(heat.diagnosis).name}"


def scale_words(heat: Heatmap, peak: float) -> str:
    """Return what the colours of a saliency map mean, up to `peak`."""
    if not heat.raw_peak:
        return "no region supports this diagnosis"
    return f"scale: transparent 0 to yellow {peak:.2g}"


def overlay(
    image: LesionImage,
    heat: Heatmap,
    opacity: float = OPACITY,
    peak: float | None = None,
    side_px: int = SHOWN_SIDE_PX,
) -> NDArray[np.uint8]:
    """Blend a saliency map into its image, at most `side_px` a side; (h, w, 3) uint8 RGB."""
    return heatmaps.overlay(image, heat, opacity, peak, side_px)


def overlay_png(image: LesionImage, heat: Heatmap, opacity: float) -> Callable[[], bytes]:
    """Return a function that makes the PNG of an overlay in the size of the file's image.

    It is called only if the reader downloads the overlay.
    """
    # The overlay is as large as the image in the file, not as the one on the page.
    side_px = max(image.file_px)

    def make() -> bytes:
        pixels = overlay(image, heat, opacity, side_px=side_px)
        return encoded(Image.fromarray(pixels), "PNG")

    return make


def side_by_side(
    image: LesionImage,
    heat: Heatmap,
    name: str,
    opacity: float = OPACITY,
    peak: float | None = None,
    drawn: bool = False,
) -> None:
    """Draw the image of that name beside its overlay, with the scale of its colours up to `peak`.

    A synthetic lesion of the demonstration is recognised by its pixels; `drawn` marks any other.
    """
    highest = heat.raw_peak if peak is None else peak
    source = DRAWN if drawn or is_demo(image.pixels) else ORIGINAL
    left, right = st.columns(2, wrap=False)
    left.image(photograph(image), source, width="stretch", alt=f"Image {name}")
    words = f"{describe_heatmap(heat)}, peak {heat.raw_peak:.2g}"
    blend = overlay(image, heat, opacity, peak)
    right.image(blend, words, width="stretch", output_format="JPEG", alt=f"Saliency map, {words}")
    scale = scale_words(heat, highest)
    colours = heatmaps.colour_scale(400, 8)
    right.image(colours, scale, width="stretch", alt=f"Colours, {scale}")


def encoded(picture: Image.Image, form: str) -> bytes:
    """Return an image as a file of Pillow's format of that name."""
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _square(image: LesionImage) -> bytes:
    size_px = (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX)
    fitted = ImageOps.fit(Image.fromarray(image.pixels), size_px)
    return encoded(fitted, "JPEG")


def _explained(image: LesionImage, code: str, method: str) -> Heatmap:
    with st.spinner("Computing the saliency map …"):
        return heatmaps.explain(model(), image, code, method)
