"""Find data sets whose images have red and blue swapped."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cadlib.errors import ImageRejected
from cadlib.images import read_image
from cadlib.images.quality import inspect
from cadlib.thread_pool import map_ahead

SAMPLE = 48
"""Images of a data set that are looked at. Of its swapped images the check misses few, and flags few others
(docs/quality.md), so that more images would not change what most of them are."""
ENOUGH_PX = 400  # colour needs no detail: a photograph is decoded at a fraction
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
        """Return a sentence and advice where most of the images look swapped, else an empty text."""
        return warning(len(self.swapped), self.checked)


UNCHECKED = ChannelOrder(0, ())


def warning(swapped: int, checked: int) -> str:
    """Return a warning where more than half of the checked images look swapped, else an empty text."""
    if 2 * swapped <= checked:
        return ""
    return f"Red and blue look swapped in {swapped:,} of {checked:,} images checked. {ADVICE}"


def check_channel_order(table: pd.DataFrame) -> ChannelOrder:
    """Check a sample of a data set, `SAMPLE` images spread evenly over the rows of `image` and `path`."""
    rows = np.unique(np.linspace(0, len(table) - 1, min(SAMPLE, len(table))).round().astype(int))
    sample = table.iloc[rows]
    looks = list(map_ahead(_looks_swapped, sample["path"]))
    swapped = [image for image, look in zip(sample["image"], looks, strict=True) if look]
    return ChannelOrder(sum(look is not None for look in looks), tuple(swapped))


def _looks_swapped(path: str) -> bool | None:
    """Tell whether red and blue look swapped; None for a file that cannot be read."""
    try:
        return inspect(read_image(path, ENOUGH_PX)).swapped
    except ImageRejected:  # reported where the images are measured
        return None
