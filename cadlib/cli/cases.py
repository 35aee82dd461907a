"""Verifies, backs up, restores and erases stored cases."""

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import file_option, flag, folder_option
from cadlib.cli.usage import UsageError

if TYPE_CHECKING:
    from cadlib.cases.store import CaseStore


def database_option() -> Any:
    """Return an option that takes the URL of a database."""
    return typer.Option(
        help="URL of the database; by default CADLIB_DATABASE, or a file in your data folder.",
        metavar="URL",
    )


def images_option() -> Any:
    """Return an option that takes the address of the images."""
    return folder_option(
        "Folder or fsspec address of the images; by default CADLIB_CASE_IMAGES, or a folder in "
        "your data folder."
    )


def _open(database: str | None, images: str | None) -> "CaseStore":
    from cadlib.cases.store import CaseStore

    return CaseStore.open(database, images)


def _actor() -> str:
    """Return who runs the command, for the audit log."""
    try:
        return f"command line: {getpass.getuser()}"
    except (KeyError, OSError):
        # A container may run as a number without a name.
        return "command line"


@dataclass(frozen=True, kw_only=True)
class VerifyCases(CliCommand):
    """Compares the audit log with itself, with the rows and with the images."""

    EXAMPLE: ClassVar[str] = "cadlib cases verify"

    database: Annotated[str | None, database_option()] = None
    images: Annotated[str | None, images_option()] = None
    expected: Annotated[
        str | None,
        typer.Option(help="A hash that `verify` has printed as the last one.", metavar="SHA256"),
    ] = None
    skip_images: Annotated[bool, flag("skip-images", "Do not read the files of images.")] = False

    def run(self) -> int:
        """Print what was changed; return 0 if nothing was, else 1."""
        from cadlib.cases.verification import verify

        with _open(self.database, self.images) as store, store.read() as connection:
            verification = verify(
                connection,
                store.images,
                self.expected,
                with_images=not self.skip_images,
            )
        print(verification)
        return 0 if verification.unchanged else 1


@dataclass(frozen=True, kw_only=True)
class BackUp(CliCommand):
    """Writes all cases and images into one file."""

    EXAMPLE: ClassVar[str] = "cadlib cases backup --output cases.zip"

    output: Annotated[Path, file_option("New file for the backup.")]
    database: Annotated[str | None, database_option()] = None
    images: Annotated[str | None, images_option()] = None

    def run(self) -> int:
        """Write the backup and print its size."""
        from cadlib.cases.backup import back_up

        with _open(self.database, self.images) as store:
            backed_up = back_up(store, self.output, _actor())
        print(f"{backed_up.n_rows:,} rows and {backed_up.n_images:,} images in {self.output}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Restore(CliCommand):
    """Restores a backup into an empty store."""

    EXAMPLE: ClassVar[str] = "cadlib cases restore --backup cases.zip"

    backup: Annotated[Path, file_option("File that `cadlib cases backup` wrote.")]
    database: Annotated[str | None, database_option()] = None
    images: Annotated[str | None, images_option()] = None

    def run(self) -> int:
        """Restore the backup and print its size."""
        from cadlib.cases import place
        from cadlib.cases.backup import restore

        restored = restore(
            self.backup,
            self.database or place.default_url(),
            self.images or place.default_images(),
            _actor(),
        )
        print(f"{restored.n_rows:,} rows and {restored.n_images:,} images restored")
        return 0


@dataclass(frozen=True, kw_only=True)
class Readers(CliCommand):
    """Compares readers alone, the model alone, and readers with the model."""

    EXAMPLE: ClassVar[str] = "cadlib cases readers --imrmc study.imrmc"

    imrmc: Annotated[
        Path | None, file_option("Also write the readings in iMRMC's format into a new file.")
    ] = None
    database: Annotated[str | None, database_option()] = None
    images: Annotated[str | None, images_option()] = None

    def run(self) -> int:
        """Print sensitivity, specificity and balanced accuracy, and write the file."""
        from cadlib.cases.reader_study import paired_readings, study_readings
        from cadlib.metrics.imrmc_format import imrmc_text
        from cadlib.metrics.reader_results import compare_readers
        from cadlib.metrics.reader_tables import reader_tables

        if self.imrmc and self.imrmc.exists():
            raise UsageError(f"Expected a new file, but {self.imrmc} is there. Give another name.")
        with _open(self.database, self.images) as store, store.read() as connection:
            readings = paired_readings(connection)
            study = study_readings(connection)
        print(reader_tables(compare_readers(readings)))
        if self.imrmc:
            self.imrmc.write_text(imrmc_text(study), encoding="utf-8")
        return 0


@dataclass(frozen=True, kw_only=True)
class Erase(CliCommand):
    """Deletes a patient with all rows and images; the audit log records that it was done."""

    EXAMPLE: ClassVar[str] = "cadlib cases erase --pseudonym P-0001 --yes"

    pseudonym: Annotated[str, typer.Option(help="Pseudonym of the patient.", metavar="TEXT")]
    yes: Annotated[bool, flag("yes", "Delete. Without it, only the patient is looked up.")] = False
    database: Annotated[str | None, database_option()] = None
    images: Annotated[str | None, images_option()] = None

    def run(self) -> int:
        """Delete the patient, and print what was deleted."""
        from cadlib.cases import queries
        from cadlib.errors import CaseMissing

        with _open(self.database, self.images) as store:
            with store.read() as connection:
                patient = queries.patient_by_pseudonym(connection, self.pseudonym)
            if patient is None:
                raise CaseMissing(
                    f"Expected a patient with the pseudonym {self.pseudonym!r}, but there is none. "
                    "Check the spelling."
                )
            if not self.yes:
                raise UsageError(
                    f"Expected --yes to delete {self.pseudonym!r} for good. "
                    "Backups keep the patient."
                )
            erased = store.erase_patient(patient.id, _actor())
        n_rows = sum(erased.rows.values())
        print(f"{n_rows:,} rows and {erased.n_images:,} images deleted")
        return 0


@dataclass(frozen=True, kw_only=True)
class PruneLog(CliCommand):
    """Removes old entries of the audit log; the cases stay."""

    EXAMPLE: ClassVar[str] = "cadlib cases prune-log --keep-days 3650"

    keep_days: Annotated[
        int,
        typer.Option(help="Days for which entries are kept, at least 183.", metavar="DAYS"),
    ]
    database: Annotated[str | None, database_option()] = None
    images: Annotated[str | None, images_option()] = None

    def run(self) -> int:
        """Remove the entries and print their number."""
        from cadlib.cases import database
        from cadlib.cases.retention import prune

        with (
            _open(self.database, self.images) as store,
            database.writing(store.engine) as connection,
        ):
            n_removed = prune(connection, self.keep_days, _actor())
        print(f"{n_removed:,} entries removed")
        return 0
