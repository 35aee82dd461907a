"""Drawn lesions by name, and as a small data set."""

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
    ("MEL", 3), ("NV", 0), ("BCC", 5), ("AK", 4), ("BKL", 2), ("DF", 5), ("VASC", 0), ("SCC", 3),
    ("MEL", 1), ("NV", 4),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SyntheticLesion:
    """A lesion that is drawn when its `pixels`, (DEMO_SIDE_PX, DEMO_SIDE_PX, 3) uint8 RGB, read-only, are asked for."""

    name: str
    code: str
    seed: int

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture."""
        return render_lesion(self.code, self.seed, DEMO_SIDE_PX)

    def png(self) -> bytes:
        """Return the picture as a PNG file, which keeps every pixel as it is."""
        return _encode(self.pixels, "PNG")


@cache
def demo_lesions() -> tuple[SyntheticLesion, ...]:
    """Return what the pages offer when no data set is at hand: every class at least once, DEMO_SIDE_PX a side."""
    seen: dict[str, int] = {}
    lesions = []
    for code, seed in _DEMO:
        seen[code] = seen.get(code, 0) + 1
        lesions.append(SyntheticLesion(f"synthetic_{code}_{seen[code]}", code, seed))
    return tuple(lesions)


def is_demo(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether (H, W, 3) uint8 RGB pixels are one of the demo lesions, whatever its file is called."""
    # For a picture of another size nothing is drawn: all of them take most of a second.
    return pixels.shape == (DEMO_SIDE_PX, DEMO_SIDE_PX, 3) and any(
        np.array_equal(pixels, lesion.pixels) for lesion in demo_lesions()
    )


def write_dataset(folder: Path, per_class: int = 3, seed: int = 0, size_px: int = 224) -> Path:
    """Write a small folder in the layout of the ISIC 2019 training set and return it.

    The first two images of a class are one lesion seen twice, the second a quarter turned; the others are
    lesions of their own, the last one without a lesion_id, and some ages, sexes and sites are missing, as in
    the official table. The images carry numbers that ISIC never gave out, from ISIC_9000000 on.
    """
    images = folder / "ISIC_2019_Training_Input"
    images.mkdir(parents=True, exist_ok=True)
    labels: list[Sequence[str]] = [("image", *taxonomy.CODES, taxonomy.UNKNOWN)]
    patients: list[Sequence[str]] = [
        ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    ]
    for index in range(per_class * len(taxonomy.CODES)):
        code, view = taxonomy.CODES[index // per_class], index % per_class
        image = f"ISIC_{9_000_000 + index}"
        second_view = view == 1
        pixels = render_lesion(code, 1000 * seed + view - second_view, size_px)
        (images / f"{image}.jpg").write_bytes(
            _encode(np.rot90(pixels) if second_view else pixels, "JPEG")
        )
        labels.append((image, *("1.0" if c == code else "0.0" for c in taxonomy.CODES), "0.0"))
        patients.append((image, *_metadata_row(index - second_view, per_class)))
    _write_csv(folder / "ISIC_2019_Training_GroundTruth.csv", labels)
    _write_csv(folder / "ISIC_2019_Training_Metadata.csv", patients)
    return folder


def _metadata_row(lesion: int, per_class: int) -> tuple[str, str, str, str]:
    """Return age, site, lesion_id and sex of the lesion whose first image has this index."""
    class_index, view = divmod(lesion, per_class)
    sites = (
        "anterior torso",
        "lower extremity",
        "head/neck",
        "upper extremity",
        "posterior torso",
        "",
    )
    archive = ("HAM_", "BCN_", "MSK4_")[(class_index + view) % 3]
    nameless = 2 <= view == per_class - 1
    return (
        "" if lesion % 11 == 10 else str(25 + 5 * (lesion % 12)),
        sites[lesion % len(sites)],
        "" if nameless else f"{archive}{9_000_000 + lesion}",
        ("female", "male", "male", "female", "")[lesion % 5],
    )


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _encode(pixels: NDArray[np.uint8], image_format: str) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 92} if image_format == "JPEG" else {"compress_level": 6}
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
