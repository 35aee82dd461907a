"""Measures what a model loses on an unseen archive."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self

from cadlib.cli.options import data_option, flag, folder_option, model_option
from cadlib.cli.settings import (
    OF_SEVERAL_PROCESSES,
    TrainingCommand,
    check_settings,
    training_packages,
    with_settings,
)
from cadlib.cli.usage import UsageError, check_model, make_folder, model_folder
from cadlib.training.config import ACROSS_RECIPE, TrainConfig

WITHOUT = (
    "leave_out",
    "subset",
    "teacher",
    "teacher_weight",
    "teacher_temperature",
    *OF_SEVERAL_PROCESSES,
)
"""Settings that have no option here."""


@dataclass(frozen=True, kw_only=True)
class Across(TrainingCommand):
    """Trains with all archives and without each of them, and compares the runs."""

    EXAMPLE: ClassVar[str] = "cadlib across --data isic2019/ --into-model mymodel"

    data: Annotated[Path, data_option()]
    run_dir: Annotated[
        Path | None, folder_option("Folder of the runs.  [default: runs/across]")
    ] = None
    resume: Annotated[bool, flag("resume", "Continue runs that were stopped.")] = False
    overwrite: Annotated[bool, flag("overwrite", "Delete existing runs and start again.")] = False
    output: Annotated[
        Path | None, folder_option("Folder for across.json.  [default: that of the runs]")
    ] = None
    into_model: Annotated[
        str | None, model_option("Save the result in this model's metrics.json and card, too.")
    ] = None
    settings: TrainConfig = ACROSS_RECIPE

    @classmethod
    def constructor(cls) -> Callable[..., Self]:
        """Return the constructor that takes each training setting by itself."""
        return with_settings(cls, ACROSS_RECIPE, WITHOUT)

    def run(self) -> int:
        """Run the command and return its exit code."""
        check_settings(self.data, self.settings)
        # A wrong name is reported before hours of training.
        record = check_model(self.into_model) if self.into_model else None
        with training_packages():
            from cadlib.training.cross_archive import across_archives
        from msgspec import structs

        from cadlib.metrics import tables
        from cadlib.model import metrics_file
        from cadlib.training.monitor import runs_dir

        run_dir = self.run_dir or runs_dir() / "across"
        output = self.output or run_dir
        self._check_runs(run_dir)
        # The result is written after all runs, so its folder is checked before them.
        make_folder(output)
        if self.into_model:
            make_folder(model_folder(self.into_model))
        archives = across_archives(self.data, run_dir, self.settings, resume=self.resume)
        result = {"across_archives": archives}
        (output / "across.json").write_text(metrics_file.metrics_json(result), encoding="utf-8")
        if self.into_model and record:
            folder = model_folder(self.into_model)
            # The other sections of metrics.json stay as they are.
            metrics = metrics_file.measured(folder, record)
            metrics_file.write_into(folder, record, structs.replace(metrics, **result))
        print(tables.across_table(archives))
        return 0

    def _check_runs(self, run_dir: Path) -> None:
        """Raise UsageError for existing runs, unless the options tell what to do with them."""
        from cadlib.training.run import CHECKPOINT_FILE

        # A run that has begun has a checkpoint, and its folder may exist without one.
        has_runs = any(run_dir.glob(f"*/{CHECKPOINT_FILE}"))
        if has_runs and not (self.resume or self.overwrite):
            raise UsageError(
                f"There are runs in {run_dir}: "
                "continue with --resume, or start again with --overwrite."
            )
