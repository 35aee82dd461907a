"""Finds data sets whose images have red and blue swapped."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cadlib.errors import ImageRejected
from cadlib.images import read_image
from cadlib.images.quality import inspect
from cadlib.thread_pool import map_ahead

SAMPLE = 48
"""Images of a data set that are checked.

The check misses few swapped images and flags few others (docs/quality.md), so a larger sample would
not change the majority.
"""
ENOUGH_PX = 400
"""Side at which an image is decoded: colour needs no detail."""
ADVICE = (
    "Check how the images were saved: OpenCV keeps them as blue, green, red. "
    "Convert them to red, green, blue and save them again."
)


@dataclass(frozen=True)
class ChannelOrder:
    """How many images were checked, and the ids of those in which red and blue look swapped."""

    checked: int
    swapped: tuple[str, ...]

    @property
    def warning(self) -> str:
        """Return a warning with advice where most images look swapped, else an empty text."""
        return warning(len(self.swapped), self.checked)


UNCHECKED = ChannelOrder(0, ())


def warning(swapped: int, checked: int) -> str:
    """Return a warning where over half of the checked images look swapped, else ""."""
    if 2 * swapped <= checked:
        return ""
    count = f"{swapped:,} of {checked:,} images checked"
    return f"Red and blue look swapped in {count}. {ADVICE}"


def check_channel_order(table: pd.DataFrame) -> ChannelOrder:
    """Check a sample of a data set's `image` and `path`: `SAMPLE` rows, spread evenly."""
    size = min(SAMPLE, len(table))
    last = len(table) - 1
    # Not the first ones: a folder may begin with the images of one camera.
    places = np.linspace(0, last, size)
    nearest_rows = places.round().astype(int)
    rows = np.unique(nearest_rows)
    sample = table.iloc[rows]
    checked = 0
    swapped = []
    results = map_ahead(_looks_swapped, sample["path"])
    images_and_results = zip(sample["image"], results, strict=True)
    for image, is_swapped in images_and_results:
        if is_swapped is not None:
            checked += 1
        if is_swapped:
            swapped.append(image)
    return ChannelOrder(checked, tuple(swapped))


def _looks_swapped(path: str) -> bool | None:
    """Return whether red and blue look swapped; None for a file that cannot be read."""
    try:
        return inspect(read_image(path, ENOUGH_PX)).swapped
    except ImageRejected:
        # Unreadable images are reported where their sizes are read.
        return None
