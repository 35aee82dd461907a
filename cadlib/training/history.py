"""Reads history.jsonl of a training run.

The file has one JSON line an epoch.
"""

import json
from collections.abc import Callable
from pathlib import Path

from cadlib.errors import TrainingFailed
from cadlib.files.replace import replace_files


def cut(path: Path, epochs: int, say: Callable[[str], None]) -> None:
    """Keep the lines of the first `epochs` epochs, and create the file where there is none.

    A last line that is half written, by a process that was killed or on a full disk, is dropped,
    and `say` is called with a message. Raise TrainingFailed for any other broken line, which was
    damaged later. May raise OSError.
    """
    lines: list[bytes] = []
    if path.exists():
        content = path.read_bytes()
        lines = content.splitlines(keepends=True)
    earlier = []
    for number, line in enumerate(lines, start=1):
        epoch = _epoch_of(line)
        if epoch is None and number == len(lines):
            # A process that was killed while it wrote can leave such a line.
            say(f"{path}: its last line is half written, and is dropped.")
        elif epoch is None:
            raise TrainingFailed(
                f"Expected line {number} of {path} to be the metrics of an epoch, "
                "but it cannot be read. Restore the file, "
                "or delete it to go on without the metrics of earlier epochs, and give --resume."
            )
        elif epoch <= epochs:
            # Later epochs are trained again, so their lines are left out.
            complete = line if line.endswith(b"\n") else line + b"\n"
            earlier.append(complete)
    history = b"".join(earlier)
    replace_files(path.parent, {path.name: history})


def _epoch_of(line: bytes) -> int | None:
    """Return the epoch of a line, or None where it is no JSON object with an epoch."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    # `type` instead of isinstance: True is an int, but no epoch.
    if not isinstance(row, dict) or type(row.get("epoch")) is not int:
        return None
    epoch: int = row["epoch"]
    return epoch
