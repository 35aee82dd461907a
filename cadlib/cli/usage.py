"""Checks the arguments of a command before any work."""

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from cadlib.errors import CadError, ModelInvalid, SubsetInvalid

# `--help` does not wait for these imports, which need numpy and OpenCV.
if TYPE_CHECKING:
    from cadlib.data.subsets import Subset
    from cadlib.model.record import ModelRecord


class UsageError(CadError):
    """The arguments of a command are wrong; nothing has been done."""


def check_model(name: str) -> "ModelRecord":
    """Return the record of a model.

    Raise UsageError where there is none, and ModelInvalid where it was changed.
    """
    from cadlib.model.record import read_record

    return read_record(model_folder(name))


def model_folder(name: str) -> Path:
    """Return the folder of a model in any state; raise UsageError where there is none."""
    from cadlib.model.record import find_model

    try:
        return find_model(name)
    except ModelInvalid as error:
        raise UsageError(str(error)) from error


def check_subset(name: str) -> "Subset":
    """Return the subset of that name; raise UsageError where it is missing or damaged."""
    from cadlib.data.subsets import read_subset

    try:
        return read_subset(name)
    except SubsetInvalid as error:
        raise UsageError(str(error)) from error


def check_data(folder: Path) -> None:
    """Raise UsageError where there is no such folder."""
    if not folder.is_dir():
        raise UsageError(
            f"Expected a folder of images with their CSV files but there is no folder {folder}."
        )


def write_text(file: Path, text: str) -> None:
    """Write a file; raise CadError where the disk refuses."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CadError(f"{file} could not be written: {error}.") from error


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Raise UsageError where that fails, or no file can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permissions do not show a read-only or a full disk; an attempt does.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable("folder", folder, error) from error


def check_folder(folder: Path) -> None:
    """Raise UsageError where a folder, or its nearest existing parent, cannot be written.

    No folder is made.
    """
    try:
        existing = folder.absolute()
        while not existing.exists():
            existing = existing.parent
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise _unwritable("folder", folder, error) from error


def check_file(file: Path) -> None:
    """Make the folder of a file; raise UsageError where the file cannot be written."""
    try:
        if file.is_dir():
            raise UsageError(
                f"Expected the name of a file, but found a folder: {file}. Give a file in it."
            )
        if file.is_file():
            # Opened to append, so that the content stays if the command fails later.
            with file.open("ab"):
                return
        if file.exists():
            # A pipe or a device: its reader would take an attempt for the whole content.
            return
        make_folder(file.absolute().parent)
        file.touch()
        # A command that fails later must not leave an empty file.
        file.unlink()
    except OSError as error:
        raise _unwritable("file", file, error) from error


def _unwritable(kind: str, path: Path, error: OSError) -> UsageError:
    # Some errors, such as io.UnsupportedOperation, have no text of the system.
    kind_of_error = type(error).__name__
    reason = error.strerror or kind_of_error
    return UsageError(
        f"Expected a {kind} that can be written, {path}, but found: {reason}. Choose another one."
    )
