"""Provides synthetic lesions by name, and as a small data set."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cadlib import taxonomy
from cadlib.images.synthetic.lesions import render_lesion

DEMO_SIDE_PX: Final = 450
_DEMO: Final = (
    ("MEL", 3),
    ("NV", 0),
    ("BCC", 5),
    ("AK", 4),
    ("BKL", 2),
    ("DF", 5),
    ("VASC", 0),
    ("SCC", 3),
    ("MEL", 1),
    ("NV", 4),
)
"""Code and seed of each demo lesion."""
_SITES: Final = (
    "anterior torso",
    "lower extremity",
    "head/neck",
    "upper extremity",
    "posterior torso",
    "",
)
_ARCHIVES: Final = ("HAM_", "BCN_", "MSK4_")
_SEXES: Final = ("female", "male", "male", "female", "")
_LABEL_COLUMNS: Final = ("image", *taxonomy.CODES, taxonomy.UNKNOWN)
_PATIENT_COLUMNS: Final = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
# ISIC never assigned numbers from here on.
_FIRST_NUMBER: Final = 9_000_000


@dataclass(frozen=True, eq=False)
class SyntheticLesion:
    """A synthetic lesion, drawn at the first access to its `pixels`.

    These are (DEMO_SIDE_PX, DEMO_SIDE_PX, 3) uint8 RGB, read-only.
    """

    name: str
    code: str
    seed: int

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """Return the image."""
        return render_lesion(self.code, self.seed, DEMO_SIDE_PX)

    def png(self) -> bytes:
        """Return the image as a PNG file, which is lossless."""
        return _encode(self.pixels, "PNG")


@cache
def demo_lesions() -> tuple[SyntheticLesion, ...]:
    """Return the lesions that the pages offer without a data set.

    Each class occurs at least once. The images have sides of DEMO_SIDE_PX.
    """
    count_of: dict[str, int] = {}
    lesions = []
    for code, seed in _DEMO:
        count = count_of.get(code, 0) + 1
        count_of[code] = count
        lesions.append(SyntheticLesion(f"synthetic_{code}_{count}", code, seed))
    return tuple(lesions)


def is_demo(pixels: NDArray[np.uint8]) -> bool:
    """Return whether (H, W, 3) uint8 RGB pixels are one of the demo lesions.

    The name of the file does not matter.
    """
    # For an image of another size nothing is drawn: all lesions take most of a second.
    if pixels.shape != (DEMO_SIDE_PX, DEMO_SIDE_PX, 3):
        return False
    return any(np.array_equal(pixels, lesion.pixels) for lesion in demo_lesions())


def write_dataset(
    folder: Path,
    per_class: int = 3,
    seed: int = 0,
    size_px: int = 224,
) -> Path:
    """Write a small folder in the layout of the ISIC 2019 training set and return it.

    The first two images of a class show one lesion, the second rotated by a quarter turn. Each of
    the others shows a lesion of its own, the last one without a lesion_id. Some ages, sexes and
    sites are missing, as in the official table. The images have numbers that ISIC never assigned,
    from ISIC_9000000 on.
    """
    images = folder / "ISIC_2019_Training_Input"
    images.mkdir(parents=True, exist_ok=True)
    labels: list[Sequence[str]] = [_LABEL_COLUMNS]
    patients: list[Sequence[str]] = [_PATIENT_COLUMNS]
    # Data sets of different seeds have no lesion in common.
    first_seed = 1000 * seed
    for index in range(per_class * len(taxonomy.CODES)):
        class_index, view = divmod(index, per_class)
        code = taxonomy.CODES[class_index]
        image = f"ISIC_{_FIRST_NUMBER + index}"
        pixels = _view(code, view, first_seed, size_px)
        _write_jpeg(images / f"{image}.jpg", pixels)
        labels.append(_label_row(image, code))
        # The second image shows the lesion of the first.
        lesion = index - 1 if view == 1 else index
        facts = _metadata_row(lesion, per_class)
        patients.append((image, *facts))
    _write_csv(folder / "ISIC_2019_Training_GroundTruth.csv", labels)
    _write_csv(folder / "ISIC_2019_Training_Metadata.csv", patients)
    return folder


def _view(code: str, view: int, first_seed: int, size_px: int) -> NDArray[np.uint8]:
    """Return the pixels of an image of a class; view 1 is view 0 rotated by a quarter turn."""
    if view == 1:
        return np.rot90(render_lesion(code, first_seed, size_px))
    return render_lesion(code, first_seed + view, size_px)


def _write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    data = _encode(pixels, "JPEG")
    path.write_bytes(data)


def _label_row(image: str, code: str) -> list[str]:
    """Return the row of an image in the table of labels: 1.0 for its class, 0.0 for the others."""
    labels = ["1.0" if column == code else "0.0" for column in taxonomy.CODES]
    unknown = "0.0"
    return [image, *labels, unknown]


def _metadata_row(lesion: int, per_class: int) -> tuple[str, str, str, str]:
    """Return age, site, lesion_id and sex of the lesion whose first image has this index."""
    class_index, view = divmod(lesion, per_class)
    age_years = 25 + 5 * (lesion % 12)
    age = str(age_years)
    if lesion % 11 == 10:
        age = ""
    site = _SITES[lesion % len(_SITES)]
    sex = _SEXES[lesion % len(_SEXES)]
    # Each class has lesions of several archives, as in ISIC 2019.
    archive = _ARCHIVES[(class_index + view) % len(_ARCHIVES)]
    number = _FIRST_NUMBER + lesion
    lesion_id = f"{archive}{number}"
    is_last = view == per_class - 1
    if is_last and view >= 2:
        lesion_id = ""
    return age, site, lesion_id, sex


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(rows)


def _encode(pixels: NDArray[np.uint8], image_format: str) -> bytes:
    """Return the bytes of a JPEG or PNG file."""
    options = {"compress_level": 6}
    if image_format == "JPEG":
        options = {"quality": 92}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
