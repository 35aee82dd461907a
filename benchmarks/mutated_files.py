"""Reads thousands of damaged image files and counts the outcomes.

    python benchmarks/mutated_files.py [--files N] [--seed N] [--slow-seconds S] [--keep DIR]

Every file is a drawn lesion in one of the formats that cadlib reads, with one seeded mutation:
flipped bits, overwritten, zeroed, removed, repeated or inserted bytes, a truncated end, or an
extreme number in the header. Each file is read once by `read_image`. The peer is Pillow, which
reads the same files in the same run.

An outcome is one of:

    rejected      ImageRejected, with a sentence for the reader
    same pixels   read, and equal to the pixels of the whole file
    other pixels  read without an error, although the pixels differ
    noted         as "other pixels", with a note that the whole file does not have
    crash         any other exception: always a fault
    slow          more than `--slow-seconds`: always a fault

"other pixels" cannot be zero: in BMP, uncompressed TIFF and native DICOM nothing protects a pixel,
and a bit of JPEG data can change into other valid data. The last line is one JSON object. The exit
code is 1 after a crash or a slow file. `--keep DIR` writes the files of these outcomes into a
folder.
"""

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from cadlib.errors import ImageRejected
from cadlib.images import LesionImage, read_image
from cadlib.images.synthetic import demo_lesions

OUTCOMES = ("rejected", "same pixels", "noted", "other pixels", "crash", "slow")
FAULTS = ("crash", "slow")
SIDE_PX = (300, 225)
HEADER_BYTES = 400
EXTREMES = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x01\x00\x00")


@dataclass(frozen=True)
class Sample:
    """A whole file, its format, and its image by `read_image`."""

    kind: str
    data: bytes
    image: LesionImage


# ---------------------------------------------------------------- whole files


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    """Return the picture as a file of a Pillow format."""
    file = BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def deep_tiff(picture: Image.Image) -> bytes:
    """Return the picture as a 16-bit greyscale TIFF."""
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "TIFF")


def dicom(picture: Image.Image, syntax: pydicom.uid.UID, frame: bytes | None = None) -> bytes:
    """Return the image as a DICOM file; `frame` is the encapsulated codestream, if any."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.Modality = "XC"
    dataset.PatientAge = "045Y"
    dataset.Rows = picture.height
    dataset.Columns = picture.width
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_FULL_422" if frame else "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8
    dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    pixels = frame and encapsulate([frame])
    dataset.PixelData = pixels or np.asarray(picture).tobytes()
    dataset["PixelData"].is_undefined_length = frame is not None
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def run_length_dicom(picture: Image.Image) -> bytes:
    """Return the picture as a DICOM file with RLE compression."""
    dataset = pydicom.dcmread(BytesIO(dicom(picture, pydicom.uid.ExplicitVRLittleEndian)))
    dataset.compress(pydicom.uid.RLELossless)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def whole_files() -> list[Sample]:
    """Return a drawn lesion in every format."""
    picture = Image.fromarray(demo_lesions()[0].pixels).resize(SIDE_PX)
    jpeg = encoded(picture, "JPEG", quality=92)
    plain = pydicom.uid.ExplicitVRLittleEndian
    files = {
        "JPEG": jpeg,
        "JPEG progressive": encoded(picture, "JPEG", quality=92, progressive=True),
        "JPEG with restarts": encoded(picture, "JPEG", quality=92, restart_marker_rows=1),
        "JPEG grey": encoded(picture.convert("L"), "JPEG", quality=92),
        "PNG": encoded(picture, "PNG"),
        "PNG palette": encoded(picture.quantize(64), "PNG"),
        "TIFF": encoded(picture, "TIFF"),
        "TIFF LZW": encoded(picture, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": encoded(picture, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF 16 bits": deep_tiff(picture),
        "BMP": encoded(picture, "BMP"),
        "WebP": encoded(picture, "WEBP", quality=90),
        "WebP lossless": encoded(picture, "WEBP", lossless=True),
        "DICOM": dicom(picture, plain),
        "DICOM RLE": run_length_dicom(picture),
        "DICOM JPEG": dicom(picture, pydicom.uid.JPEGBaseline8Bit, jpeg),
    }
    return [Sample(kind, data, read_image(data)) for kind, data in files.items()]


# ---------------------------------------------------------------- mutations


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for position in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[position] ^= 1 << rng.integers(0, 8)
    return bytes(changed)


def overwrite(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite up to 64 bytes with random ones."""
    start, stop = _span(data, rng, 64)
    return data[:start] + rng.bytes(stop - start) + data[stop:]


def zero(data: bytes, rng: np.random.Generator) -> bytes:
    """Set up to 4 KiB to zero, as a lost disk block is."""
    start, stop = _span(data, rng, 4096)
    return data[:start] + bytes(stop - start) + data[stop:]


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off the end."""
    return data[: rng.integers(1, len(data))]


def remove(data: bytes, rng: np.random.Generator) -> bytes:
    """Remove up to 512 bytes."""
    start, stop = _span(data, rng, 512)
    return data[:start] + data[stop:]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    """Repeat up to 512 bytes up to 2,000 times."""
    start, stop = _span(data, rng, 512)
    times = int(rng.integers(2, 2000))
    return data[:start] + data[start:stop] * times + data[stop:]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Insert up to 64 random bytes."""
    start, stop = _span(data, rng, 64)
    return data[:start] + rng.bytes(stop - start) + data[start:]


def extreme_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Put an extreme number of four bytes into the header."""
    end = min(HEADER_BYTES, len(data) - 4)
    start = int(rng.integers(0, end))
    number = EXTREMES[rng.integers(len(EXTREMES))]
    return data[:start] + number + data[start + 4 :]


def header_byte(data: bytes, rng: np.random.Generator) -> bytes:
    """Set one byte of the header to a random value."""
    end = min(HEADER_BYTES, len(data))
    position = int(rng.integers(0, end))
    return data[:position] + rng.bytes(1) + data[position + 1 :]


MUTATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flip_bits,
    overwrite,
    zero,
    truncate,
    remove,
    repeat,
    insert,
    extreme_number,
    header_byte,
)


def _span(data: bytes, rng: np.random.Generator, longest: int) -> tuple[int, int]:
    """Draw a range of at most `longest` bytes."""
    start = int(rng.integers(0, len(data)))
    length = int(rng.integers(1, longest + 1))
    return start, min(start + length, len(data))


def mutated(samples: list[Sample], n: int, seed: int) -> Iterator[tuple[Sample, str, bytes]]:
    """Yield n mutated files with the sample and the name of the mutation.

    The same seed gives the same files.
    """
    rng = np.random.default_rng(seed)
    for number in range(n):
        sample = samples[number % len(samples)]
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        yield sample, mutation.__name__, mutation(sample.data, rng)


# ---------------------------------------------------------------- outcomes


def outcome_of(sample: Sample, data: bytes, slow_seconds: float) -> str:
    """Read a file with cadlib and return its outcome."""
    started = time.monotonic()
    try:
        image = read_image(data)
    except ImageRejected:
        outcome = "rejected"
    except Exception:  # noqa: BLE001 - exactly what this benchmark looks for
        outcome = "crash"
    else:
        outcome = _compared(image, sample)
    seconds = time.monotonic() - started
    return "slow" if seconds > slow_seconds else outcome


def _compared(image: LesionImage, sample: Sample) -> str:
    """Return the outcome of a file that was read, by its pixels and notes."""
    if _equal(image.pixels, sample.image.pixels):
        return "same pixels"
    new_notes = set(image.notes) - set(sample.image.notes)
    return "noted" if new_notes else "other pixels"


def outcome_of_pillow(sample: Sample, data: bytes) -> str:
    """Read a file with Pillow, as most programs do, and return its outcome."""
    try:
        with Image.open(BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception:  # noqa: BLE001 - Pillow raises many kinds
        return "rejected"
    return "same pixels" if _equal(pixels, sample.image.pixels) else "other pixels"


def _equal(pixels: NDArray[np.uint8], others: NDArray[np.uint8]) -> bool:
    return pixels.shape == others.shape and bool((pixels == others).all())


def table(counts: dict[str, Counter[str]]) -> str:
    """Return the outcomes by format as Markdown."""
    titles = " | ".join(OUTCOMES)
    lines = [f"| format | {titles} |", "| --- |" + " --- |" * len(OUTCOMES)]
    for kind, outcomes in counts.items():
        cells = " | ".join(f"{outcomes[outcome]:,}" for outcome in OUTCOMES)
        lines.append(f"| {kind} | {cells} |")
    return "\n".join(lines)


@dataclass
class Counts:
    """The outcomes of all files: with cadlib by format, with Pillow, and the slowest read."""

    ours: dict[str, Counter[str]]
    pillow: Counter[str]
    slowest_seconds: float = 0.0

    @property
    def total(self) -> Counter[str]:
        """Return the outcomes with cadlib over all formats."""
        return sum(self.ours.values(), Counter())

    @property
    def without_dicom(self) -> Counter[str]:
        """Return the outcomes with cadlib over the formats that Pillow reads too."""
        total: Counter[str] = Counter()
        for kind, outcomes in self.ours.items():
            if not is_dicom(kind):
                total += outcomes
        return total


def is_dicom(kind: str) -> bool:
    """Return whether a format is one of DICOM, which Pillow does not read."""
    return kind.startswith("DICOM")


def read_all(options: argparse.Namespace) -> Counts:
    """Read every mutated file, and print the faults."""
    samples = whole_files()
    ours: dict[str, Counter[str]] = {sample.kind: Counter() for sample in samples}
    counts = Counts(ours, Counter())
    files = mutated(samples, options.files, options.seed)
    for number, (sample, mutation, data) in enumerate(files):
        started = time.monotonic()
        outcome = outcome_of(sample, data, options.slow_seconds)
        seconds = time.monotonic() - started
        counts.slowest_seconds = max(counts.slowest_seconds, seconds)
        counts.ours[sample.kind][outcome] += 1
        if outcome in FAULTS:
            print(f"{outcome}: file {number}, {sample.kind}, {mutation}")
            save_file(options.keep, f"{number}-{mutation}", data)
        if not is_dicom(sample.kind):
            counts.pillow[outcome_of_pillow(sample, data)] += 1
    return counts


def save_file(folder: Path | None, name: str, data: bytes) -> None:
    """Write a file that shows a fault into the folder of `--keep`, if one is given."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def main() -> int:
    """Read the files, print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow-seconds", type=float, default=6.0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    counts = read_all(options)
    print(table(counts.ours))
    print(f"\nPillow, the same files without DICOM: {dict(counts.pillow)}")
    total = counts.total
    pillow_pixels = max(counts.pillow["other pixels"], 1)
    ratio = counts.without_dicom["other pixels"] / pillow_pixels
    result = {
        "files": options.files,
        "outcomes": {outcome: total[outcome] for outcome in OUTCOMES},
        "slowest_seconds": round(counts.slowest_seconds, 2),
        "other_pixels_over_pillow": round(ratio, 3),
    }
    print(json.dumps(result))
    return int(any(total[fault] for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
