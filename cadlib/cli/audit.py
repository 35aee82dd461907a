"""Checks a model for leaks in its split, contradicting labels and drift."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from cadlib.cli.command import CliCommand
from cadlib.cli.options import data_option, file_option, flag, model_option
from cadlib.cli.usage import (
    UsageError,
    check_data,
    check_file,
    check_model,
    make_folder,
    model_folder,
    write_text,
)
from cadlib.errors import CadError

# `--help` and bad usage do not wait for this import.
if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Audit(CliCommand):
    """Audits a data set, a model, or the split of a model on its data set."""

    EXAMPLE: ClassVar[str] = "cadlib audit --model isic2019 --data isic2019/ --sheet audit.html"

    data: Annotated[
        Path | None,
        data_option("Folder of a data set: searched for duplicates and contradicting labels."),
    ] = None
    model: Annotated[
        str | None,
        model_option(
            "Model, a name under models/ or a path: its golden results, with --data its split."
        ),
    ] = None
    sheet: Annotated[
        Path | None, file_option("With --data: write the images to this HTML file.")
    ] = None
    into_model: Annotated[
        bool, flag("into-model", "Save the result in the model and its card.")
    ] = False

    def run(self) -> int:
        """Run the command and return its exit code."""
        self._check()
        # If the model has changed, its split is not audited: it may be that of another model.
        if self.model is not None and _print_changes(self.model):
            return 1
        if self.data is None:
            return 0
        if self.model is None:
            return self._audit_data(self.data)
        return self._audit_split(self.data, self.model)

    def _audit_data(self, data: Path) -> int:
        """Audit a data set alone, and return 0."""
        from cadlib.data.duplicates import find_duplicates
        from cadlib.data.label_check import check_labelled
        from cadlib.progress import ProgressBars
        from cadlib.report import audit_sheet

        dataset = _open(data)
        with ProgressBars() as progress:
            duplicates = find_duplicates(dataset, progress)
        print(duplicates)
        if self.sheet:
            write_text(self.sheet, audit_sheet.render(duplicates))
        # The search for duplicates needs no labels, so they are checked after it.
        check_labelled(dataset, malignant_alone=True)
        return 0

    def _audit_split(self, data: Path, name: str) -> int:
        """Audit a data set and the split of a model, and return 1 for a leak, else 0."""
        record = check_model(name)

        from cadlib.data.label_check import check_labelled
        from cadlib.evaluation import leak_audit
        from cadlib.model.model import Model
        from cadlib.progress import ProgressBars
        from cadlib.report import audit_sheet

        folder = model_folder(name)
        dataset = _open(data)
        with ProgressBars() as progress:
            model = Model.load(folder)
            audit = leak_audit.audit_split(model, folder, dataset, progress)
        print(audit)
        if self.sheet:
            write_text(self.sheet, audit_sheet.render(audit.duplicates, audit))
        # The search for duplicates needs no labels, so they are checked after it.
        check_labelled(dataset, malignant_alone=True)
        if self.into_model:
            # An image that is missing could be the one that leaks.
            if audit.missing:
                n_images = len(audit.table)
                n_split = n_images + audit.missing
                raise CadError(
                    f"Expected all {n_split:,} images of the split, but found {n_images:,}; "
                    "the model is left as it was."
                )
            leak_audit.write_into(folder, record, audit.result)
        # A script can stop at a leak by the exit code.
        return 1 if audit.result.leaks else 0

    def _check(self) -> None:
        """Raise UsageError for options that do not fit each other, and for missing files."""
        if self.data is None and self.model is None:
            raise UsageError(
                "Expected --data with the folder of a data set, --model with a model, or both."
            )
        if self.data is not None:
            check_data(self.data)
        if self.data is None and self.sheet:
            raise UsageError("Expected --sheet together with --data, which has its images.")
        if self.into_model and None in (self.data, self.model):
            raise UsageError("Expected --into-model together with --data and --model.")
        if self.sheet:
            check_file(self.sheet)
        if self.model is not None:
            folder = model_folder(self.model)
            if self.into_model:
                # The result is saved there after the work, so the folder is checked before it.
                make_folder(folder)


def _open(folder: Path) -> "Dataset":
    """Open a data set and print its report."""
    from cadlib.data.dataset import open_dataset

    dataset = open_dataset(folder, verify=False)
    print(dataset.report, file=sys.stderr)
    return dataset


def _print_changes(name: str) -> bool:
    """Print the changes of a model's folder and golden answers; return whether there are any."""
    from cadlib.model.verification import verify

    verified = verify(model_folder(name))
    print(verified)
    return not verified.unchanged
