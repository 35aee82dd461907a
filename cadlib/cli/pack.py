"""Packs the networks of a cross-validation as one model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import (
    FIRST_VERSION,
    data_option,
    flag,
    new_model_option,
    version_option,
)
from cadlib.cli.settings import training_packages
from cadlib.cli.usage import UsageError, check_data, check_model, model_folder


@dataclass(frozen=True, kw_only=True)
class Pack(CliCommand):
    """Packs one network for each fold as a model that averages them."""

    EXAMPLE: ClassVar[str] = (
        "cadlib pack fold0 fold1 fold2 fold3 fold4 --data isic2019/ --name mymodel"
    )

    members: Annotated[
        list[str], typer.Argument(help="Models, one for each fold.", metavar="MODEL")
    ]
    data: Annotated[Path, data_option()]
    name: Annotated[str, new_model_option()]
    model_version: Annotated[str, version_option()] = FIRST_VERSION
    views: Annotated[
        Literal["1", "8"],
        typer.Option(help="Views that the model reads of an image: as it is, or all turns of it."),
    ] = "8"
    overwrite: Annotated[bool, flag("overwrite", "Replace a model of this name.")] = False

    def run(self) -> int:
        """Run the command and return its exit code."""
        for name in self.members:
            check_model(name)
        check_data(self.data)
        with training_packages():
            from cadlib.training import packing
            from cadlib.training.committee_packing import pack_committee

        from cadlib.data.dataset import open_dataset
        from cadlib.errors import TrainingFailed
        from cadlib.progress import ProgressBars

        try:
            packing.check_name(self.name, overwrite=self.overwrite)
        except TrainingFailed as error:
            # Reported before the minutes of work.
            raise UsageError(str(error)) from error
        folders = [model_folder(name) for name in self.members]
        dataset = open_dataset(self.data, verify=False)
        with ProgressBars() as progress:
            folder = pack_committee(
                folders,
                dataset,
                self.name,
                self.model_version,
                progress,
                views=1 if self.views == "1" else 8,
                overwrite=self.overwrite,
            )
        print((folder / "README.md").read_text(encoding="utf-8"))
        print(f"Model written to {folder}")
        return 0
