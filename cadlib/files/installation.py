"""Finds what belongs to the project beside the package: the app, its pages, the shipped models."""

from pathlib import Path

from platformdirs import user_data_path

_PACKAGE = Path(__file__).parents[1]
_BUNDLE = _PACKAGE / "bundle"  # a wheel has everything in the package


def is_installed() -> bool:
    """Return whether the package was installed from a wheel, instead of being run from a clone."""
    return _BUNDLE.is_dir()


def project_dir() -> Path:
    """Return the folder that holds app.py, menu.py, pages/ and models/."""
    return _BUNDLE if is_installed() else _PACKAGE.parent


def own_models_dir() -> Path:
    """Return the folder for models of the user's own: models/ of a clone, else in the user's data folder."""
    return user_data_path("cadlib") / "models" if is_installed() else project_dir() / "models"
