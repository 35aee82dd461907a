"""Refits calibration, thresholds and prediction sets of a model.

They are fitted on the validation images of the model's own split. A cross-validated model is fitted
on all images of its folds, each predicted by the network that was not trained on it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cadlib.cli.command import CliCommand
from cadlib.cli.options import data_option, model_option
from cadlib.cli.usage import check_data, check_model, make_folder, model_folder


@dataclass(frozen=True, kw_only=True)
class Calibrate(CliCommand):
    """Refits what depends on the validation images of a model's split."""

    EXAMPLE: ClassVar[str] = "cadlib calibrate --model mymodel --data isic2019/"

    model: Annotated[str, model_option()]
    data: Annotated[Path, data_option()]

    def run(self) -> int:
        """Run the command and return its exit code."""
        record = check_model(self.model)
        check_data(self.data)

        # Imported after the checks, so that bad usage is reported at once.
        from cadlib.data.dataset import open_dataset
        from cadlib.data.label_check import check_labelled
        from cadlib.metrics import tables
        from cadlib.model.record import read_record
        from cadlib.model.split import calibration_images
        from cadlib.progress import ProgressBars
        from cadlib.training import calibrate

        folder = model_folder(self.model)
        make_folder(folder)
        dataset = open_dataset(self.data, verify=False)
        dataset = calibration_images(folder, record, dataset)
        check_labelled(dataset)
        with ProgressBars() as progress:
            metrics = calibrate.calibrate(folder, dataset, progress)
        print(tables.metrics_table(metrics))
        trial = read_record(folder).metadata
        if trial and trial.result:
            print(f"\nage, sex and site: {trial.result}")
        return 0
