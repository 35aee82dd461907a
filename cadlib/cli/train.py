"""Trains a model on images with labels, and writes its folder."""

import argparse
from pathlib import Path

from cadlib.cli.settings import add_settings, settings_of, training_packages
from cadlib.cli.usage import UsageError, check_folder
from cadlib.errors import CadError
from cadlib.model.record import models_dir
from cadlib.training.monitor import runs_dir


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    from cadlib.training.config import TrainConfig

    command.set_defaults(run=run)
    command.add_argument("--data", type=Path, required=True, help="folder of a data set")
    command.add_argument("--name", required=True, help="name of the model, a folder under models/")
    command.add_argument(
        "--model-version", default="1.0.0", help="version of the model (default: 1.0.0)"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace a model of this name, and its run"
    )
    command.add_argument(
        "--run-dir", type=Path, help="checkpoint, split, history and curves (default: runs/NAME)"
    )
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    add_settings(command, TrainConfig())


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    config = settings_of(options)
    with training_packages():
        from cadlib.training import loop, packing
        from cadlib.training.run import CHECKPOINT_FILE

    try:
        packing.check_name(options.name, overwrite=options.overwrite)
    except CadError as error:
        raise UsageError(str(error)) from error
    run_dir = options.run_dir or runs_dir() / options.name
    has_run = (run_dir / CHECKPOINT_FILE).exists()
    if has_run and not (options.resume or options.overwrite):
        raise UsageError(
            f"There is a run in {run_dir}: continue with --resume, or start again with --overwrite."
        )
    check_folder(run_dir)
    check_folder(models_dir())
    try:
        trained = loop.train(options.data, run_dir, config, resume=options.resume)
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
    folder = packing.pack(trained, options.name, options.model_version, overwrite=options.overwrite)
    print((folder / "README.md").read_text(encoding="utf-8"))
    print(f"Model written to {folder}")
    return 0
