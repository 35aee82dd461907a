"""Sets the folders of a `build`, reads the plan that it prints, and checks how it refuses one."""

from pathlib import Path

import pytest

from cadlib.__main__ import main

NUMBER_COLUMNS = 4
SUMMARY_COLUMNS = 70


def set_folders(patch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    """Let commands write models and runs into a folder."""
    patch.setenv("CADLIB_MODELS", str(folder / "models"))
    patch.setenv("CADLIB_RUNS", str(folder / "runs"))
    patch.setenv("CADLIB_CACHE", str(cache))


def statuses(output: str) -> dict[str, str]:
    """Return the status of each step in a printed plan."""
    lines = output.partition("Plan for ")[2].splitlines()[1:]
    row_of = {}
    for line in lines:
        number, _, text = line.strip().partition(" ")
        # The first line without a number ends the plan.
        if not number.isdigit():
            break
        label = text.split()[0]
        row_of[label] = line
    label_columns = max(map(len, row_of), default=0) + 1
    start = NUMBER_COLUMNS + label_columns + SUMMARY_COLUMNS
    return {label: row[start:] for label, row in row_of.items()}


def check_refused(
    words: list[str],
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Check that a command line ends with 2 and a message, before it writes a run into a folder."""
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "runs").exists()
