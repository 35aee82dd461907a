"""Small pictures of files, made when they are first asked for and kept in the cache folder from then on."""

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
    """Return the picture in a file as a JPEG of at most SIDE_PX a side; raise ImageRejected where there is none.

    A file that was written anew gets a new one. The cache folder may be deleted at any time; half a million thumbnails
    are about 4 GB. Where it cannot be written to, each is made again.
    """
    kept = _place(path)
    try:
        return standing(kept).read_bytes()
    except OSError:
        data = shrunk(read_image(path, enough_px=SIDE_PX), SIDE_PX, QUALITY)
    keep_by(kept, lambda place: _write(place, data))
    return data


def _write(place: Path, data: bytes) -> None:
    """Write a file that only this user can read, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=place.parent, delete=False) as file:
        file.write(data)
    Path(file.name).replace(place)


def shrunk(image: LesionImage, side_px: int, quality: int = 90) -> bytes:
    """Return a picture as JPEG, at most `side_px` a side."""
    picture, buffer = Image.fromarray(image.pixels), io.BytesIO()
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _place(path: Path) -> Path:
    told = path.stat()
    key = hashlib.sha256(
        f"{READING}\0{path.resolve()}\0{told.st_mtime_ns}\0{told.st_size}\0{SIDE_PX}".encode()
    ).hexdigest()
    return cache_dir() / "thumbnails" / key[:2] / f"{key}.jpg"
