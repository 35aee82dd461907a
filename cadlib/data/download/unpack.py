"""Unpacks an untrusted zip into one folder, completely or not at all.

Every file lands in the folder itself, under the last part of its name. A zip is refused when a name
points out of it, or when it has links, devices, encrypted members, two members of one name or a
size that images cannot have.
"""

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cadlib.errors import DownloadFailed
from cadlib.images import SUPPORTED_SUFFIXES
from cadlib.progress import Progress

MAX_EXPANSION = 10
"""Largest ratio of the content's size to the zip's.

JPEG files shrink by a few percent, a zip bomb shrinks a thousandfold.
"""

_CHUNK_BYTES = 1 << 20
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ADVICE = "Download the zip again, or use another mirror."
# Bit 0 of the general purpose flag, PKWARE APPNOTE 4.4.4.
_ENCRYPTED = 1


@dataclass(frozen=True)
class Contents:
    """The content of a checked zip: member -> name in the folder, bytes unpacked, and images."""

    names: dict[str, str]
    size_bytes: int
    images: int


def inspect(path: Path) -> Contents:
    """Check the list of a zip without unpacking it; raise DownloadFailed for a zip to refuse."""
    members = []
    size_bytes = 0
    with _opened(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            _check(info)
            members.append(info.filename)
            size_bytes += info.file_size
    names = _names(members)
    # Two members of one folder may have the same last part of their names.
    final_names = list(names.values())
    clash = _first_repeated(members) or _first_repeated(final_names)
    if clash:
        raise DownloadFailed(
            f"Expected each file once in {path.name}, but {clash!r} is in it twice. {_ADVICE}"
        )
    zip_bytes = path.stat().st_size
    if size_bytes > MAX_EXPANSION * zip_bytes:
        raise DownloadFailed(
            f"Expected images in {path.name}, which hardly shrink in a zip, "
            f"but its {zip_bytes:,} bytes would become {size_bytes:,}. {_ADVICE}"
        )
    n_images = sum(_is_image(name) for name in final_names)
    return Contents(names, size_bytes, n_images)


def _names(members: list[str]) -> dict[str, str]:
    """Return member -> the name of its file in the folder."""
    names = {}
    for member in members:
        name = PurePosixPath(member).name
        # Files of a file manager (.DS_Store, __MACOSX/._image) do not belong to the data.
        if not name.startswith("."):
            names[member] = name
    return names


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUPPORTED_SUFFIXES


def extract(
    path: Path,
    contents: Contents,
    folder: Path,
    progress: Progress,
) -> None:
    """Unpack into a temporary folder and rename it to `folder`, which must not exist.

    Every member's size and CRC-32 are checked. `progress` counts the bytes. Raise DownloadFailed
    for a damaged zip, and leave no files.
    """
    # Only the rename makes the folder: until then a data set has no images.
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        done = 0
        with _opened(path) as archive:
            for member, name in contents.names.items():
                done = _extract_member(
                    archive,
                    member,
                    aside / name,
                    done,
                    contents.size_bytes,
                    progress,
                )
        aside.rename(folder)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"Stopped. {path} was not deleted; the next start unpacks it from the beginning."
        ) from stop
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _extract_member(
    archive: zipfile.ZipFile,
    member: str,
    path: Path,
    done: int,
    total: int,
    progress: Progress,
) -> int:
    """Write a member of a zip to a new file.

    `done` of `total` bytes were unpacked before; return this number after it.
    """
    with archive.open(member) as source, path.open("xb") as target:
        # Reading ends at the declared size, and checks the CRC there.
        while chunk := source.read(_CHUNK_BYTES):
            done += target.write(chunk)
            progress("bytes", done, total)
        size_bytes = target.tell()
    if size_bytes != archive.getinfo(member).file_size:
        raise zipfile.BadZipFile(f"{path.name} is not as large as the list of files says")
    return done


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        UnicodeDecodeError,
        NotImplementedError,
    ) as error:
        raise DownloadFailed(
            f"Expected a whole zip in {path.name}, but it is damaged: {error}. {_ADVICE}"
        ) from error


def _check(info: zipfile.ZipInfo) -> None:
    """Raise DownloadFailed for a member that is not a plain file in the zip's folder."""
    # `filename` ends at a NUL, this name does not.
    name = info.orig_filename
    shown = repr(name[:80])
    parts = name.split("/")
    # A leading slash makes an empty part.
    if any(part in ("", ".", "..") for part in parts):
        raise DownloadFailed(
            f"Expected files below one folder, but {shown} in the zip points elsewhere. {_ADVICE}"
        )
    if not all(_is_plain(character) for character in name):
        raise DownloadFailed(
            "Expected file names that every system accepts, "
            f"but {shown} in the zip has other characters. {_ADVICE}"
        )
    # Unix writes the mode of a file into the upper two bytes; other systems leave them 0.
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise DownloadFailed(
            f"Expected only files in the zip, but {shown} is a link or a device. {_ADVICE}"
        )
    is_encrypted = info.flag_bits & _ENCRYPTED
    if is_encrypted or info.compress_type not in _PACKINGS:
        raise DownloadFailed(
            "Expected files in the zip that are not encrypted and packed by deflate at most, "
            f"but {shown} is not such a file. {_ADVICE}"
        )


def _is_plain(character: str) -> bool:
    """Return whether file names may have a character on every system."""
    return character.isprintable() and character not in '\\:*?"<>|'


def _first_repeated(names: list[str]) -> str | None:
    """Return a name that occurs twice, without a difference between upper and lower case."""
    # Windows and macOS would write both to one file.
    folded_names: set[str] = set()
    for name in names:
        folded = name.casefold()
        if folded in folded_names:
            return name
        folded_names.add(folded)
    return None
