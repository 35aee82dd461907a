"""Stores the clinic's operating point and prevalence between sessions."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from platformdirs import user_config_path

from cadlib.errors import ClinicInvalid
from cadlib.files.replace import replace_files
from cadlib.files.typed_json import json_text
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT

CLINIC_FILE = "clinic.json"
LEAST = 0.001
MOST = 0.99
"""Range of a prevalence, from LEAST to MOST."""


@dataclass(frozen=True)
class Clinic:
    """The settings of a clinic.

    `prevalence` is the share of malignant lesions among the clinic's lesions, from LEAST to MOST.
    It is None until a user has set it; the share of a data set does not replace it. Raise
    ClinicInvalid for any other value.
    """

    operating_point: str = DEFAULT_OPERATING_POINT
    prevalence: float | None = None

    def __post_init__(self) -> None:
        share = self.prevalence
        if share is not None and not _is_prevalence(share):
            raise ClinicInvalid(
                f"Expected a prevalence from {LEAST} to {MOST}, but got {share!r}. Enter it again."
            )
        if not isinstance(self.operating_point, str):
            raise ClinicInvalid(
                "Expected the name of an operating point, "
                f"but got {self.operating_point!r}. Select it again."
            )


def _is_prevalence(value: object) -> bool:
    return isinstance(value, float) and LEAST <= value <= MOST


def clinic_path() -> Path:
    """Return the path of the file.

    It is CADLIB_CLINIC where that is set, else a file in the user's own configuration.
    """
    path = os.environ.get("CADLIB_CLINIC")
    if path:
        return Path(path)
    return user_config_path("cadlib") / CLINIC_FILE


def read_clinic() -> Clinic:
    """Return the stored settings, or the defaults where there are none.

    Raise ClinicInvalid for a file that cannot be used.
    """
    path = clinic_path()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Clinic()
    except (OSError, ValueError) as error:
        raise ClinicInvalid(
            f"{path} cannot be read: {error}. Delete the file, then enter the settings again."
        ) from error
    # A file of a later version may have other settings, which must not be ignored.
    names = {field.name for field in fields(Clinic)}
    if not isinstance(raw, dict) or raw.keys() != names:
        raise ClinicInvalid(
            f"Expected {path} to be a JSON object of {', '.join(sorted(names))}, "
            "but it has other keys. Delete the file, then enter the settings again."
        )
    return Clinic(**raw)


def save_clinic(clinic: Clinic) -> None:
    """Store the settings, all or none; raise ClinicInvalid where they cannot be written."""
    path = clinic_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files(path.parent, {path.name: json_text(asdict(clinic))})
    except OSError as error:
        raise ClinicInvalid(
            f"{path} cannot be written: {error}. The settings are used in this session only."
        ) from error
