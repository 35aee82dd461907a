"""Pictures as the pages show them, their assessment, and the evidence in them."""

import io
from collections.abc import Callable

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cadlib.assessment import Assessment, assess_batch
from cadlib.images import LesionImage, read_image
from cadlib.images.synthetic import is_demo
from cadlib.images.thumbnails import shrunk
from cadlib.saliency import heatmap as heatmaps
from cadlib.saliency.heatmap import METHODS, Heatmap, Method
from cadlib.saliency.test_time_views import Stability
from cadlib.saliency.test_time_views import stability as stability_of
from cadlib.taxonomy import CODES, diagnosis
from cadlib.ui.held import holding
from cadlib.ui.models import model

SHOWN_SIDE_PX = 1200
THUMBNAIL_SIDE_PX = 240
OPACITY = 0.6
ORIGINAL, DRAWN = "Original", "Synthetic lesion, not real skin"


def assessed(image: LesionImage) -> Assessment:
    """Return what the model says of a picture, without heatmaps."""
    return assess_batch(model(), [image])[0]


def photograph(image: LesionImage, side_px: int = SHOWN_SIDE_PX) -> bytes:
    """Return a picture as JPEG, at most `side_px` a side."""
    return holding().derived(
        image.sha256, ("photograph", image.key, side_px), lambda: shrunk(image, side_px), len
    )


def square(image: LesionImage) -> bytes:
    """Return the centred square of a picture as a small JPEG."""
    return holding().derived(image.sha256, ("square", image.key), lambda: _square(image), len)


def photograph_of(path: str) -> bytes:
    """Return the picture in a file as JPEG; raise ImageRejected where there is none."""
    return photograph(read_image(path))


def heatmap(found: Assessment, code: str, method: Method = METHODS[0]) -> Heatmap:
    """Return the evidence for one diagnosis in a picture, by the usual method or another, computed once."""
    if method == METHODS[0]:
        return heatmaps.activation_map(model(), found.image, found.prediction, code)
    code = code if method.class_specific else CODES[0]
    key = ("heatmap", found.image.key, model().record.model_id, code, method.key)
    return holding().derived(
        found.image.sha256,
        key,
        lambda: _explained(found.image, code, method.key),
        lambda heat: heat.values.nbytes,
    )


def stability(found: Assessment) -> Stability:
    """Return what the model says of a picture turned round, computed once."""
    key = ("stability", found.image.key, model().record.model_id)
    return holding().derived(
        found.image.sha256,
        key,
        lambda: stability_of(model(), found.image),
        lambda views: views.probabilities.nbytes,
    )


def said(found: Heatmap) -> str:
    """Return what a heatmap shows in words, "Grad-CAM for Melanoma"."""
    method = next(one.name for one in METHODS if one.key == found.method)
    return (
        f"{method} for {diagnosis(found.diagnosis).name}"
        if found.diagnosis
        else f"{method}, not class-specific"
    )


def overlay(
    image: LesionImage,
    found: Heatmap,
    opacity: float = OPACITY,
    peak: float | None = None,
    side_px: int = SHOWN_SIDE_PX,
) -> NDArray[np.uint8]:
    """Blend a heatmap into its picture, at most `side_px` a side; (h, w, 3) uint8 RGB."""
    return heatmaps.overlay(image, found, opacity, peak, side_px)


def overlay_png(image: LesionImage, found: Heatmap, opacity: float) -> Callable[[], bytes]:
    """Return what makes the PNG of an overlay in the size of the file's picture, to be called when it is wanted."""
    side_px = max(image.file_px)
    return lambda: encoded(Image.fromarray(overlay(image, found, opacity, side_px=side_px)), "PNG")


def side_by_side(
    image: LesionImage,
    found: Heatmap,
    name: str,
    opacity: float = OPACITY,
    peak: float | None = None,
    drawn: bool = False,
) -> None:
    """Draw the picture of that name, its overlay beside it, and under that the scale of its colours up to `peak`.

    A picture of the demonstration is told by its content; `drawn` says it of others.
    """
    hottest = found.raw_peak if peak is None else peak
    left, right = st.columns(2, wrap=False)
    source = DRAWN if drawn or is_demo(image.pixels) else ORIGINAL
    left.image(photograph(image), source, width="stretch", alt=f"Image {name}")
    shows = f"{said(found)}, peak {found.raw_peak:.2g}"
    blend = overlay(image, found, opacity, peak)
    right.image(blend, shows, width="stretch", output_format="JPEG", alt=f"Saliency map, {shows}")
    scale = (
        f"scale: transparent 0 to yellow {hottest:.2g}"
        if found.raw_peak
        else "no region supports this diagnosis"
    )
    right.image(heatmaps.colour_scale(400, 8), scale, width="stretch", alt=f"Colours, {scale}")


def _square(image: LesionImage) -> bytes:
    fitted = ImageOps.fit(Image.fromarray(image.pixels), (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    return encoded(fitted, "JPEG")


def _explained(image: LesionImage, code: str, method: str) -> Heatmap:
    with st.spinner("Computing the saliency map …"):
        return heatmaps.explain(model(), image, code, method)


def encoded(picture: Image.Image, form: str) -> bytes:
    """Return a picture as a file of Pillow's format of that name."""
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=90)
    return buffer.getvalue()
