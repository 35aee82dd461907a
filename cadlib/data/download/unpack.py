"""A zip that is not trusted, unpacked into one folder, or not at all.

Every file of it lands in that folder itself, under the last part of its name; a name that points elsewhere refuses
the whole zip. So do links, devices, encrypted members, two members of one name and a size that no picture would have.
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
"""How much larger than the zip its content may be: JPEG files shrink by a few percent, a bomb a thousandfold."""

_CHUNK_BYTES = 1 << 20
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1  # bit 0 of the general purpose flag, PKWARE APPNOTE 4.4.4


@dataclass(frozen=True)
class Contents:
    """What a zip that was looked through holds: member -> name in the folder, bytes unpacked, and pictures."""

    names: dict[str, str]
    size_bytes: int
    pictures: int


def inspect(path: Path) -> Contents:
    """Look through the list of a zip without unpacking it; raise DownloadFailed when it is not to be unpacked."""
    with _opened(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        for info in files:
            _check(info)
    names = {info.filename: PurePosixPath(info.filename).name for info in files}
    # What a file manager adds (.DS_Store, __MACOSX/._picture) is no part of the data.
    names = {member: name for member, name in names.items() if not name.startswith(".")}
    clash = _first_repeated([info.filename for info in files]) or _first_repeated(
        list(names.values())
    )
    if clash:
        raise DownloadFailed(
            f"Expected each file once in {path.name} but {clash!r} is in it twice."
        )
    size_bytes = sum(info.file_size for info in files)
    if size_bytes > MAX_EXPANSION * path.stat().st_size:
        raise DownloadFailed(
            f"Expected pictures in {path.name}, which hardly shrink in a zip, "
            f"but its {path.stat().st_size:,} bytes would become {size_bytes:,}."
        )
    pictures = sum(
        PurePosixPath(name).suffix.lower() in SUPPORTED_SUFFIXES for name in names.values()
    )
    return Contents(names, size_bytes, pictures)


def extract(path: Path, contents: Contents, folder: Path, progress: Progress) -> None:
    """Unpack aside and rename to `folder`, which must not exist; every member's size and CRC-32 are checked.

    `progress` counts the bytes. Raises DownloadFailed for a damaged zip, and leaves nothing.
    """
    aside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        done = 0
        with _opened(path) as archive:
            for member, name in contents.names.items():
                with archive.open(member) as source, (aside / name).open("xb") as target:
                    while chunk := source.read(
                        _CHUNK_BYTES
                    ):  # ends at the size declared, and checks the CRC there
                        done += target.write(chunk)
                        progress("bytes", done, contents.size_bytes)
                    if target.tell() != archive.getinfo(member).file_size:
                        raise zipfile.BadZipFile(
                            f"{name} is not as large as the list of files says"
                        )
        aside.rename(folder)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"Stopped; {path} is kept. The next start unpacks it from the beginning."
        ) from stop
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
            f"Expected a whole zip in {path.name} but it is damaged: {error}."
        ) from error


def _check(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename  # `filename` ends at a NUL
    kind = stat.S_IFMT(info.external_attr >> 16)
    if any(part in ("", ".", "..") for part in name.split("/")):  # "" also before a leading slash
        raise DownloadFailed(
            f"Expected files below one folder but {name[:80]!r} in the zip points elsewhere."
        )
    if any(char in '\\:*?"<>|' or not char.isprintable() for char in name):
        raise DownloadFailed(
            f"Expected plain file names but {name[:80]!r} in the zip is none on every system."
        )
    if kind not in (0, stat.S_IFREG):
        raise DownloadFailed(f"Expected files in the zip but {name[:80]!r} is a link or a device.")
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _PACKINGS:
        raise DownloadFailed(
            f"Expected files in the zip that unpack without more but {name[:80]!r} does not."
        )


def _first_repeated(names: list[str]) -> str | None:
    """Return a name that is taken twice where upper and lower case are not told apart."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return None
