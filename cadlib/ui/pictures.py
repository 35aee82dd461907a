"""Pictures as the pages show them, their assessment, and the evidence in them."""

import io
from collections.abc import Callable

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cadlib import saliency
from cadlib.assessment import Assessment, assess_batch
from cadlib.images import LesionImage, read_image
from cadlib.saliency import METHODS, Heatmap, Method
from cadlib.stability import Stability
from cadlib.stability import stability as stability_of
from cadlib.synthetic import is_demo
from cadlib.taxonomy import CODES, diagnosis
from cadlib.thumbnails import shrunk
from cadlib.ui.models import model

SHOWN_SIDE_PX = 1200
THUMBNAIL_SIDE_PX = 240
OPACITY = 0.6
ORIGINAL, DRAWN = "Original", "Drawn lesion, nobody's skin"


def assessed(image: LesionImage) -> Assessment:
    """Return what the model says of a picture, without heatmaps."""
    return assess_batch(model(), [image])[0]


def photograph(image: LesionImage, side_px: int = SHOWN_SIDE_PX) -> bytes:
    """Return a picture as JPEG, at most `side_px` a side."""
    return _jpeg(image.key, side_px, image)


def square(image: LesionImage) -> bytes:
    """Return the centred square of a picture as a small JPEG."""
    return _square(image.key, image)


def photograph_of(path: str) -> bytes:
    """Return the picture in a file as JPEG; raise ImageRejected where there is none."""
    return photograph(read_image(path))


def heatmap(found: Assessment, code: str, method: Method = METHODS[0]) -> Heatmap:
    """Return the evidence for one diagnosis in a picture, by the usual method or another, computed once."""
    if method == METHODS[0]:
        return saliency.activation_map(model(), found.image, found.prediction, code)
    code = code if method.class_specific else CODES[0]
    return _heatmap(found.image.key, model().record.model_id, code, method.key, found.image)


def stability(found: Assessment) -> Stability:
    """Return what the model says of a picture turned round, computed once."""
    return _stability(found.image.key, model().record.model_id, found.image)


def said(found: Heatmap) -> str:
    """Return what a heatmap shows in words, "Grad-CAM for Melanoma"."""
    method = next(one.name for one in METHODS if one.key == found.method)
    return f"{method} for {diagnosis(found.diagnosis).name}" if found.diagnosis else f"{method}, not class-specific"


def overlay(
    image: LesionImage,
    found: Heatmap,
    opacity: float = OPACITY,
    peak: float | None = None,
    side_px: int = SHOWN_SIDE_PX,
) -> NDArray[np.uint8]:
    """Blend a heatmap into its picture, at most `side_px` a side; (h, w, 3) uint8 RGB."""
    return saliency.overlay(image, found, opacity, peak, side_px)


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
    left.image(photograph(image), source, width="stretch", alt=f"The picture {name}")
    shows = f"{said(found)}, peak {found.raw_peak:.2g}"
    blend = overlay(image, found, opacity, peak)
    right.image(blend, shows, width="stretch", output_format="JPEG", alt=f"Heatmap, {shows}")
    scale = f"clear is 0, yellow is {hottest:.2g}" if found.raw_peak else "nothing in the picture speaks for it"
    right.image(saliency.colour_scale(400, 8), scale, width="stretch", alt=f"Colour scale: {scale}")


# Of one session each: a patient's picture is gone when the tab is closed.
@st.cache_resource(max_entries=200, show_spinner="Looking for the evidence …", scope="session")
def _heatmap(sha256: str, model_id: str, code: str, method: str, _image: LesionImage) -> Heatmap:  # noqa: ARG001
    return saliency.explain(model(), _image, code, method)


@st.cache_resource(max_entries=200, show_spinner=False, scope="session")
def _stability(sha256: str, model_id: str, _image: LesionImage) -> Stability:  # noqa: ARG001
    return stability_of(model(), _image)


@st.cache_data(max_entries=200, show_spinner=False, scope="session")
def _jpeg(sha256: str, side_px: int, _image: LesionImage) -> bytes:  # noqa: ARG001 - the hash is the picture's
    return shrunk(_image, side_px)


@st.cache_data(max_entries=200, show_spinner=False, scope="session")
def _square(sha256: str, _image: LesionImage) -> bytes:  # noqa: ARG001 - the hash is the picture's
    fitted = ImageOps.fit(Image.fromarray(_image.pixels), (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    return encoded(fitted, "JPEG")


def encoded(picture: Image.Image, form: str) -> bytes:
    """Return a picture as a file of Pillow's format of that name."""
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=90)
    return buffer.getvalue()
