"""Trains a model on images with labels, and writes its folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Self

from cadlib.cli.options import (
    FIRST_VERSION,
    data_option,
    flag,
    folder_option,
    new_model_option,
    version_option,
)
from cadlib.cli.settings import TrainingCommand, check_settings, training_packages, with_settings
from cadlib.cli.usage import UsageError, check_folder
from cadlib.errors import CadError
from cadlib.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Train(TrainingCommand):
    """Trains a network, and packs it as a model."""

    EXAMPLE: ClassVar[str] = (
        "cadlib train --data isic2019/ --name mymodel --epochs 16\n"
        "cadlib train --data isic2019/ --name mymodel --resume"
    )

    data: Annotated[Path, data_option()]
    name: Annotated[str, new_model_option()]
    model_version: Annotated[str, version_option()] = FIRST_VERSION
    overwrite: Annotated[bool, flag("overwrite", "Replace a model of this name, and its run.")] = (
        False
    )
    run_dir: Annotated[
        Path | None,
        folder_option("Folder for checkpoint, split, history and curves.  [default: runs/NAME]"),
    ] = None
    resume: Annotated[bool, flag("resume", "Continue from the last checkpoint.")] = False

    @classmethod
    def constructor(cls) -> Callable[..., Self]:
        """Return the constructor that takes each training setting by itself."""
        return with_settings(cls, TrainConfig())

    def run(self) -> int:
        """Run the command and return its exit code."""
        check_settings(self.data, self.settings)
        with training_packages():
            from cadlib.training import loop, packing

        run_dir = self._check()
        try:
            trained = loop.train(self.data, run_dir, self.settings, resume=self.resume)
        except BrokenPipeError:
            # It is of the output, as with `| head`, not of the run.
            raise
        except OSError as error:
            raise CadError(
                f"The run cannot go on: {error}. Make room or mend the rights, then give --resume."
            ) from error
        # Of several processes only the first has a result.
        if trained is None:
            return 0
        folder = packing.pack(trained, self.name, self.model_version, overwrite=self.overwrite)
        print((folder / "README.md").read_text(encoding="utf-8"))
        print(f"Model written to {folder}")
        return 0

    def _check(self) -> Path:
        """Return the folder of the run.

        Raise UsageError for a name or a run that exists already, and for a folder that cannot be
        written.
        """
        from cadlib.model.record import models_dir
        from cadlib.training import packing
        from cadlib.training.monitor import runs_dir
        from cadlib.training.run import CHECKPOINT_FILE

        try:
            packing.check_name(self.name, overwrite=self.overwrite)
        except CadError as error:
            raise UsageError(str(error)) from error
        run_dir = self.run_dir or runs_dir() / self.name
        has_run = (run_dir / CHECKPOINT_FILE).exists()
        if has_run and not (self.resume or self.overwrite):
            raise UsageError(
                f"There is a run in {run_dir}: "
                "continue with --resume, or start again with --overwrite."
            )
        # Both are needed after hours of training, so they are checked before it.
        check_folder(run_dir)
        check_folder(models_dir())
        return run_dir
