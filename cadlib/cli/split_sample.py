"""Measures a model on a sample of its own split.

The commands `robustness` and `saliency` use it.
"""

import sys
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, Literal, TypeVar

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import data_option, flag, folder_option, model_option
from cadlib.cli.usage import UsageError, check_data, check_model, make_folder, model_folder

# `--help` and bad usage do not wait for these imports.
if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset
    from cadlib.metrics.conditions_schema import Robustness, SaliencyMetrics
    from cadlib.model.record import ModelRecord

Result = TypeVar("Result", "Robustness", "SaliencyMetrics")
Measure = Callable[..., Result]
"""Model, images, split, seed, size of the split, progress -> a section of metrics.json."""


@dataclass(frozen=True, kw_only=True)
class SampleCommand(CliCommand, Generic[Result]):
    """Measures a model on images of its split; the result is a section of metrics.json."""

    KEY: ClassVar[str]
    """Key of metrics.json, and name of the file in --output."""

    model: Annotated[str, model_option()] = "isic2019"
    data: Annotated[Path, data_option()]
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="Part of the model's own split.")
    ] = "validation"
    images: Annotated[
        int | None,
        typer.Option(
            help="Only N random images, of every diagnosis and archive.  [default: all]",
            metavar="N",
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of all random draws.", metavar="N")] = 0
    output: Annotated[Path | None, folder_option("Folder for a JSON file with the result.")] = None
    into_model: Annotated[
        bool, flag("into-model", "Save the result in the model's metrics.json and card.")
    ] = False

    @abstractmethod
    def measure(self) -> Measure[Result]:
        """Import and return the function that measures."""

    @abstractmethod
    def table(self, result: Result) -> str:
        """Return the result as text."""

    def run(self) -> int:
        """Measure, print a table, write the result, and return the exit code."""
        record = check_model(self.model)

        from msgspec import structs

        from cadlib.model import metrics_file

        folder = model_folder(self.model)
        self._check(folder)
        if self.into_model:
            # This may raise, so it comes before the work.
            metrics_file.measured(folder, record)
        result = self._measured(folder, record)
        if self.output:
            file = self.output / f"{self.KEY}.json"
            content = metrics_file.metrics_json(result)
            file.write_text(content, encoding="utf-8")
        if self.into_model:
            metrics = metrics_file.measured(folder, record)
            updated = structs.replace(metrics, **{self.KEY: result})
            metrics_file.write_into(folder, record, updated)
        print(self.table(result))
        return 1 if result.rejected else 0

    def _measured(self, folder: Path, record: "ModelRecord") -> Result:
        """Measure the model on the sample and return the result."""
        from cadlib.data.dataset import open_dataset
        from cadlib.data.label_check import check_labelled
        from cadlib.model.model import Model
        from cadlib.model.split import part_of_split
        from cadlib.progress import ProgressBars

        dataset = open_dataset(self.data, verify=False)
        of_split = part_of_split(folder, record, dataset, self.split)
        check_labelled(of_split)
        # Counted before the sample is drawn: the result states how many images it is drawn from.
        n_split = len(of_split.table)
        sample = self._sample(of_split)
        n_images = len(sample.table)
        print(f"{n_images:,} of {n_split:,} images of the {self.split} split", file=sys.stderr)
        measure_images = self.measure()
        with ProgressBars() as progress:
            model = Model.load(folder)
            return measure_images(
                model,
                sample,
                self.split,
                self.seed,
                n_split,
                progress,
            )

    def _sample(self, dataset: "Dataset") -> "Dataset":
        """Return the images to measure."""
        from cadlib.data.stratified_sample import stratified_sample

        if self.images is None:
            return dataset
        return stratified_sample(dataset, self.images, self.seed)

    def _check(self, folder: Path) -> None:
        """Raise UsageError for options out of range, and for folders that cannot be written."""
        check_data(self.data)
        if self.seed < 0 or (self.images is not None and self.images < 1):
            raise UsageError(
                f"Expected --seed from 0 and --images from 1 but got {self.seed} and {self.images}."
            )
        if self.output:
            make_folder(self.output)
        if self.into_model:
            make_folder(folder)
