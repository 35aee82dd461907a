"""Makes thumbnails of image files and keeps them in the cache folder."""

import hashlib
import io
from pathlib import Path
from tempfile import NamedTemporaryFile

from PIL import Image

from cadlib.files.cache import READING, cache_dir, keep_by, standing
from cadlib.images import LesionImage, read_image

SIDE_PX = 240
QUALITY = 85


def thumbnail(path: Path) -> bytes:
    """Return the image in a file as a JPEG of at most SIDE_PX a side.

    Raise ImageRejected for a file without a readable image. A changed file gets a new thumbnail.
    The cache folder may be deleted at any time; half a million thumbnails take about 4 GB. If it is
    not writable, each call makes the thumbnail again.
    """
    cached = _cache_path(path)
    try:
        return standing(cached).read_bytes()
    except OSError:
        image = read_image(path, enough_px=SIDE_PX)
        data = shrunk(image, SIDE_PX, QUALITY)
    keep_by(cached, lambda place: _write(place, data))
    return data


def _write(place: Path, data: bytes) -> None:
    """Write a file that only this user can read, whole or not at all."""
    folder = place.parent
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(data)
    temporary = Path(file.name)
    # The file appears under its name only once it is complete.
    temporary.replace(place)


def shrunk(image: LesionImage, side_px: int, quality: int = 90) -> bytes:
    """Return an image as JPEG, at most `side_px` a side."""
    small = Image.fromarray(image.pixels)
    small.thumbnail(
        (side_px, side_px),
        Image.Resampling.LANCZOS,
        reducing_gap=2.0,
    )
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _cache_path(path: Path) -> Path:
    """Return the path of a file's thumbnail, by the file's path, time and size."""
    status = path.stat()
    identity = f"{READING}\0{path.resolve()}\0{status.st_mtime_ns}\0{status.st_size}\0{SIDE_PX}"
    key = hashlib.sha256(identity.encode()).hexdigest()
    return cache_dir() / "thumbnails" / key[:2] / f"{key}.jpg"
