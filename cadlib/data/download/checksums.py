"""Reads and writes SHA256SUMS, and hashes files.

`sha256sum` writes and checks the same format.
"""

import hashlib
import re
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
    """Return the hashes of a file, read once; `progress` counts the bytes."""
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False)
    total = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            # Both at once: reading 9 GB twice would take longer.
            sha256.update(chunk)
            md5.update(chunk)
            done += len(chunk)
            progress("bytes", done, total)
    return Hashes(
        sha256=sha256.hexdigest(),
        md5=md5.hexdigest(),
    )


def read_sums(text: str, where: str) -> dict[str, str]:
    """Return name -> SHA-256; raise DownloadFailed for a line that `sha256sum` does not write."""
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _LINE.fullmatch(line)
        if not entry:
            raise DownloadFailed(
                f"Expected `SHA-256  NAME` in line {number} of {where}, but got {line[:80]!r}. "
                "Write the file again with `sha256sum`, or remove it."
            )
        sha256, name = entry.groups()
        sums[name] = sha256.lower()
    return sums


def recorded_sums(folder: Path) -> dict[str, str]:
    """Return the hashes in SHA256SUMS of a folder, by name; empty without that file."""
    path = folder / SUMS_FILE
    if not path.exists():
        return {}
    # Other bytes make a line that is refused with its number.
    text = path.read_text(encoding="utf-8", errors="replace")
    where = str(path)
    return read_sums(text, where)


def record_sum(folder: Path, name: str, sha256: str) -> None:
    """Put one hash into SHA256SUMS of a folder, beside the hashes of other files."""
    sums = recorded_sums(folder)
    sums[name] = sha256
    lines = [f"{digest}  {file_name}\n" for file_name, digest in sorted(sums.items())]
    # Ctrl-C must not leave half of the hashes.
    aside = folder / f"{SUMS_FILE}.part"
    aside.write_text("".join(lines), encoding="utf-8")
    aside.replace(folder / SUMS_FILE)
