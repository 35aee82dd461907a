"""Exchanges the red and the blue channel of an image."""

from dataclasses import replace

import numpy as np

from cadlib.images import LesionImage

SWAPPED_NOTE = "Red and blue were swapped after reading, at the reader's request."


def swap_red_and_blue(image: LesionImage) -> LesionImage:
    """Return the image with red and blue exchanged, and with a note of it.

    A second call restores the original. `sha256` stays that of the file; `key` differs.
    """
    pixels = np.ascontiguousarray(image.pixels[..., ::-1])
    pixels.setflags(write=False)
    notes = [note for note in image.notes if note != SWAPPED_NOTE]
    if not image.red_blue_swapped:
        notes.append(SWAPPED_NOTE)
    return replace(
        image,
        pixels=pixels,
        notes=tuple(notes),
        red_blue_swapped=not image.red_blue_swapped,
    )
