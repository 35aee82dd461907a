"""Fits a model's similar-case index and novelty detector, and measures them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cadlib.cli.command import CliCommand
from cadlib.cli.options import data_option, model_option
from cadlib.cli.usage import check_data, check_model, make_folder, model_folder


@dataclass(frozen=True, kw_only=True)
class Index(CliCommand):
    """Fits what rests on the features of a model's training images."""

    EXAMPLE: ClassVar[str] = "cadlib index --model mymodel --data isic2019/"

    model: Annotated[str, model_option()]
    data: Annotated[Path, data_option()]

    def run(self) -> int:
        """Run the command and return its exit code."""
        check_model(self.model)
        check_data(self.data)

        # Imported after the checks, so that bad usage is reported at once.
        from cadlib.data.dataset import open_dataset
        from cadlib.data.label_check import check_labelled
        from cadlib.metrics import tables
        from cadlib.progress import ProgressBars
        from cadlib.training import index

        folder = model_folder(self.model)
        make_folder(folder)
        dataset = open_dataset(self.data, verify=False)
        check_labelled(dataset)
        with ProgressBars() as progress:
            metrics = index.fit(folder, dataset, progress)
        similar_cases = metrics.neighbours
        novelty = metrics.novelty
        # Both were just measured.
        assert similar_cases is not None
        assert novelty is not None
        print(tables.neighbours_table(similar_cases))
        counts = novelty.unknown["all"]
        unknown = f"{counts.unknown:,} of {counts.n:,} images"
        print(f"{unknown} of the {novelty.split} split are called unknown")
        return 0
