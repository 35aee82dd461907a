"""Defines the options that several commands share, and completes their values."""

import os
from pathlib import Path
from typing import Any, Literal

import typer

SplitName = Literal["train", "validation", "test"]

MODEL_HELP = "Model: a name under models/, or a path."
DATA_HELP = "Folder of a data set."
FIRST_VERSION = "1.0.0"
"""Version of a new model, unless another is given."""


def model_option(text: str = MODEL_HELP) -> Any:
    """Return an option that takes a model and completes the names of those on this machine."""
    return typer.Option(help=text, metavar="MODEL", autocompletion=model_names)


def data_option(text: str = DATA_HELP) -> Any:
    """Return an option that takes a data set and completes folders."""
    return folder_option(text)


def folder_option(text: str) -> Any:
    """Return an option that takes a folder and completes folders."""
    return typer.Option(help=text, metavar="DIR", autocompletion=folders)


def file_option(text: str) -> Any:
    """Return an option that takes a file; the shell completes its name."""
    return typer.Option(help=text, metavar="FILE")


def new_model_option() -> Any:
    """Return an option that takes the name of a model to write."""
    return typer.Option(help="Name of the model, a folder under models/.", metavar="NAME")


def version_option() -> Any:
    """Return an option that takes the version of a model to write."""
    return typer.Option(help="Version of the model.", metavar="VERSION")


def subset_option() -> Any:
    """Return an option that takes the name of a saved subset."""
    return typer.Option(
        help="Only the images of this saved subset, within --split where both are given.",
        metavar="NAME",
    )


def flag(name: str, text: str) -> Any:
    """Return an option without a value, which is false unless it is given."""
    return typer.Option(f"--{name}", help=text)


def model_names() -> list[str]:
    """Return the names of all models on this machine."""
    from cadlib.model.record import list_models

    return list_models()


def folders(incomplete: str) -> list[str]:
    """Return the folders whose path starts with the typed text, and that of CADLIB_DATA."""
    parent, _, start = incomplete.rpartition("/")
    # Without a slash, the text is the start of a name in the current folder.
    base = Path()
    if "/" in incomplete:
        base = Path(f"{parent}/")
    # As in a shell, hidden completions are offered only after a dot.
    wants_hidden = start.startswith(".")
    completions = []
    try:
        for path in sorted(base.iterdir()):
            is_hidden = path.name.startswith(".")
            if path.is_dir() and (wants_hidden or not is_hidden):
                completions.append(f"{path}/")
    except OSError:
        # Nothing can be completed in a folder that is missing or closed to this user.
        completions = []
    data = os.environ.get("CADLIB_DATA")
    if data:
        completions.append(data)
    return completions
