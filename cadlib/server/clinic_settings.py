"""What this clinic has chosen, remembered from one day to the next: its operating point and its prevalence."""

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
LEAST, MOST = 0.001, 0.99
"""Of a prevalence."""


@dataclass(frozen=True)
class Clinic:
    """`prevalence` is the share of malignant lesions among those looked at there, from LEAST to MOST.

    None until somebody has said it: no data set's share takes its place. Raise ClinicInvalid for any other value.
    """

    operating_point: str = DEFAULT_OPERATING_POINT
    prevalence: float | None = None

    def __post_init__(self) -> None:
        share = self.prevalence
        if share is not None and (
            isinstance(share, bool) or not isinstance(share, float) or not LEAST <= share <= MOST
        ):
            raise ClinicInvalid(
                f"Expected a prevalence from {LEAST} to {MOST} but got {share!r}; enter it anew."
            )
        if not isinstance(self.operating_point, str):
            raise ClinicInvalid(
                f"Expected the name of an operating point but got {self.operating_point!r}."
            )


def clinic_path() -> Path:
    """Return the file: the one CADLIB_CLINIC names where it is set, else in the user's own configuration."""
    return Path(os.environ.get("CADLIB_CLINIC") or user_config_path("cadlib") / CLINIC_FILE)


def read_clinic() -> Clinic:
    """Return what was chosen, what is usual where nobody has; raise ClinicInvalid for a file that cannot be used."""
    path = clinic_path()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Clinic()
    except (OSError, ValueError) as error:
        raise ClinicInvalid(
            f"{path} cannot be read: {error}. Delete it and choose anew."
        ) from error
    known = {field.name for field in fields(Clinic)}
    if not isinstance(raw, dict) or raw.keys() != known:
        raise ClinicInvalid(
            f"Expected {path} to be a JSON object of {', '.join(sorted(known))}. Delete it."
        )
    return Clinic(**raw)


def save_clinic(clinic: Clinic) -> None:
    """Remember a choice, whole or not at all; raise ClinicInvalid where it cannot be written."""
    path = clinic_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files(path.parent, {path.name: json_text(asdict(clinic))})
    except OSError as error:
        raise ClinicInvalid(
            f"{path} cannot be written: {error}. It holds for this session alone."
        ) from error
