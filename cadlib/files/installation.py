"""Finds the app, its pages and the shipped models."""

from pathlib import Path

from platformdirs import user_data_path

_PACKAGE = Path(__file__).parents[1]
# A wheel has everything in the package.
_BUNDLE = _PACKAGE / "bundle"


def is_installed() -> bool:
    """Return whether the package was installed from a wheel, instead of being run from a clone."""
    return _BUNDLE.is_dir()


def project_dir() -> Path:
    """Return the folder that holds app.py, menu.py, pages/ and models/."""
    if is_installed():
        return _BUNDLE
    return _PACKAGE.parent


def own_models_dir() -> Path:
    """Return the folder for the user's own models.

    It is models/ of a clone, else a folder in the user's data folder.
    """
    if is_installed():
        return user_data_path("cadlib") / "models"
    return project_dir() / "models"
