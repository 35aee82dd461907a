"""SHA256SUMS, as `sha256sum` writes and checks it, and the hashes of a file."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cadlib.errors import DownloadFailed
from cadlib.progress import Progress

SUMS_FILE = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]([^/\\]+)")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Hashes:
    """The hashes of one file, in lower-case hex digits."""

    sha256: str
    md5: str


def hash_file(path: Path, progress: Progress) -> Hashes:
    """Read a file once; `progress` counts the bytes."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    done, total = 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
            done += len(chunk)
            progress("bytes", done, total)
    return Hashes(sha256.hexdigest(), md5.hexdigest())


def read_sums(text: str, where: str) -> dict[str, str]:
    """Return name -> SHA-256; raise DownloadFailed for a line that `sha256sum` does not write."""
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found:
            raise DownloadFailed(
                f"Expected `SHA-256  NAME` in line {number} of {where} but came: {line[:80]!r}. "
                "Write the file anew with `sha256sum`, or remove it."
            )
        sums[found[2]] = found[1].lower()
    return sums


def recorded_sums(folder: Path) -> dict[str, str]:
    """Return what SHA256SUMS of a folder holds; nothing where there is none."""
    path = folder / SUMS_FILE
    return (
        read_sums(path.read_text(encoding="utf-8", errors="replace"), str(path))
        if path.exists()
        else {}
    )


def record_sum(folder: Path, name: str, sha256: str) -> None:
    """Put one hash into SHA256SUMS of a folder, beside those of other files."""
    sums: Mapping[str, str] = {**recorded_sums(folder), name: sha256}
    aside = folder / f"{SUMS_FILE}.part"
    aside.write_text(
        "".join(f"{sums[known]}  {known}\n" for known in sorted(sums)), encoding="utf-8"
    )
    aside.replace(folder / SUMS_FILE)
