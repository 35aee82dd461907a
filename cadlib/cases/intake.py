"""Adds dropped files to the work list, one patient for each file.

A file's name becomes the pseudonym, so that a reader finds it again. The reader can later move the
image to another patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import PurePath

from sqlalchemy import Connection

from cadlib.cases import queries
from cadlib.cases.records import (
    MOST_CHARACTERS,
    LesionDetails,
    PatientDetails,
    StoredImage,
    VisitDetails,
)
from cadlib.cases.store import CaseStore
from cadlib.errors import CadError
from cadlib.images import read_image
from cadlib.progress import Progress, no_progress

READING = "reading files"
"""What `progress` is called with."""
FIRST_LABEL = "L1"
UNNAMED = "file"
"""The pseudonym for a file whose name has no character that one may have."""


@dataclass(frozen=True)
class Intake:
    """The images that were added, and the names of the files that could not be read."""

    images: tuple[StoredImage, ...]
    failed: tuple[str, ...]


def take_in(
    store: CaseStore,
    files: Sequence[tuple[str, bytes]],
    day: date,
    actor: str,
    progress: Progress = no_progress,
) -> Intake:
    """Store files, name -> bytes, as images of the visits of a day.

    Each file is saved on its own, so that an interruption keeps those before it. A file that cannot
    be read is listed with its reason (`queries.failed_files`). Raise CaseStoreFailed where the
    store fails.
    """
    images = []
    failed = []
    for number, (name, data) in enumerate(files, start=1):
        try:
            image = read_image(data)
        except CadError as error:
            with store.write(actor) as cases:
                cases.add_failed_file(name, str(error))
            failed.append(name)
        else:
            # Encoded before the transaction, in which others wait.
            file = store.store_file(image)
            with store.write(actor) as cases:
                pseudonym = _free_pseudonym(cases.connection, name)
                patient = cases.add_patient(PatientDetails(pseudonym))
                lesion = cases.add_lesion(patient, LesionDetails(FIRST_LABEL))
                visit = cases.add_visit(patient, VisitDetails(day))
                images.append(cases.add_image(lesion, visit, file))
        progress(READING, number, len(files))
    return Intake(tuple(images), tuple(failed))


def _free_pseudonym(connection: Connection, file_name: str) -> str:
    """Return a pseudonym after the name of a file, with a number if it is taken."""
    stem = PurePath(file_name).stem
    printable = "".join(filter(str.isprintable, stem))
    base = printable.strip() or UNNAMED
    for number in count(1):
        ending = f" ({number})" if number > 1 else ""
        # A long name is cut off before its number.
        pseudonym = base[: MOST_CHARACTERS - len(ending)].strip() + ending
        if queries.patient_by_pseudonym(connection, pseudonym) is None:
            return pseudonym
    raise AssertionError("Numbers do not end.")
