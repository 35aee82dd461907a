"""Draws the image and its saliency map in a PDF report."""

import io

from PIL import Image

from cadlib.images.thumbnails import shrunk
from cadlib.report.pdf import sentences, style
from cadlib.report.pdf.details import Subject
from cadlib.report.pdf.document import Document
from cadlib.report.pdf.sheet import Column
from cadlib.report.pdf.style import GAP, MARGIN
from cadlib.saliency import heatmap as heatmaps
from cadlib.saliency.heatmap import Heatmap
from cadlib.saliency.trust import Trust

IMAGE_SIDE_PX = 720
"""About 230 px an inch on paper. A report with two noisy images is still below 1 MB."""
JPEG_QUALITY = 85
IMAGE_HEIGHT_SHARE = 0.21
"""Most of the height of a page that an image takes, so that the ranking fits on the first page."""
_SCALE_HEIGHT = 2.0
_CAPTION_GAP = 1.5
_CAPTION_HEIGHT = 26.0
"""The most that the captions need below the images."""
_SCALE_WORDS = "Colours of the saliency map: low values at the left, high values at the right."


def images(page: Document, subject: Subject) -> None:
    """Draw the image, and beside it the saliency map with its checks."""
    width = (page.epw - GAP) / 2
    height = _height(page, subject, width)
    # The images stay together with what is written below them.
    page.ensure(height + _CAPTION_HEIGHT)
    top = page.get_y()
    left = Column(MARGIN, width)
    end = _photograph(page, subject, left, top, height)
    right = Column(MARGIN + width + GAP, width)
    map_end = _map(page, subject, right, top, height)
    # The caption of the map is usually the longer one.
    lower_end = max(end, map_end)
    page.set_y(lower_end + 3.2)


def _height(page: Document, subject: Subject, width: float) -> float:
    """Return the height of the image on the page: that of a full column, or the most allowed."""
    image = subject.assessment.image
    of_full_width = width * image.height_px / image.width_px
    most = page.h * IMAGE_HEIGHT_SHARE
    return min(of_full_width, most)


def _filled(column: Column, subject: Subject, height: float) -> Column:
    """Return the part of a column that an image of a height takes; its shape does not change."""
    image = subject.assessment.image
    width = height * image.width_px / image.height_px
    return Column(column.x, width)


def _photograph(
    page: Document,
    subject: Subject,
    column: Column,
    top: float,
    height: float,
) -> float:
    """Draw the image and its caption; return where the caption ends."""
    image = subject.assessment.image
    caption = sentences.image_text(image)
    jpeg = shrunk(image, IMAGE_SIDE_PX, JPEG_QUALITY)
    place = _filled(column, subject, height)
    words = f"Dermoscopic image. {caption}"
    page.picture(jpeg, place, top, height, words)
    caption_top = top + height + _CAPTION_GAP
    return page.write_text(caption, column, caption_top, style.SMALL)


def _map(
    page: Document,
    subject: Subject,
    column: Column,
    top: float,
    height: float,
) -> float:
    """Draw the saliency map over the image, its colours and caption; return where this ends."""
    heatmap = subject.heatmap
    # The place beside the image says why it is empty.
    if heatmap is None:
        return page.write_text(sentences.NO_MAP, column, top, style.SMALL)
    caption = sentences.map_text(heatmap)
    place = _filled(column, subject, height)
    overlay = _overlay_jpeg(subject, heatmap)
    page.picture(overlay, place, top, height, caption)
    scale_top = top + height + _CAPTION_GAP
    scale = _scale_png()
    page.picture(scale, place, scale_top, _SCALE_HEIGHT, _SCALE_WORDS)
    caption_top = scale_top + _SCALE_HEIGHT + 1
    end = page.write_text(caption, column, caption_top, style.SMALL)
    return _checks(page, subject.trust, column, end)


def _checks(
    page: Document,
    trust: Trust | None,
    column: Column,
    top: float,
) -> float:
    """Write whether the saliency map can be interpreted; return where the text ends."""
    # Nobody may trust a map only because it was not checked.
    if trust is None:
        warning = f"⚠ {sentences.MAP_NOT_CHECKED}"
        return page.write_text(warning, column, top, style.SMALL_STRONG)
    sentence = trust.sentence
    letters = style.SMALL
    if not trust.readable:
        sentence = f"⚠ {sentence}"
        letters = style.SMALL_STRONG
    end = page.write_text(sentence, column, top, letters)
    values = sentences.checks_text(trust)
    return page.write_text(values, column, end, style.SMALL)


def _overlay_jpeg(subject: Subject, heatmap: Heatmap) -> bytes:
    """Return the saliency map over the image, as JPEG."""
    image = subject.assessment.image
    pixels = heatmaps.overlay(
        image,
        heatmap,
        max_side_px=IMAGE_SIDE_PX,
    )
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _scale_png() -> bytes:
    """Return the colours of saliency maps, from low values to high ones, as PNG."""
    pixels = heatmaps.colour_scale(256, 8)
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.save(buffer, "PNG")
    return buffer.getvalue()
