"""Measures what a model loses on an unseen archive."""

import argparse
from pathlib import Path

from cadlib.cli.settings import add_settings, settings_of, training_packages
from cadlib.cli.usage import UsageError, check_model, make_folder
from cadlib.model.record import find_model
from cadlib.training.monitor import runs_dir


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    from cadlib.training.config import ACROSS_RECIPE

    command.set_defaults(run=run)
    command.add_argument("--data", type=Path, required=True, help="folder of a data set")
    command.add_argument(
        "--run-dir",
        type=Path,
        default=runs_dir() / "across",
        help="the runs (default: runs/across)",
    )
    command.add_argument("--resume", action="store_true", help="go on where the runs were stopped")
    command.add_argument(
        "--overwrite", action="store_true", help="delete existing runs and start again"
    )
    command.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for across.json (default: the runs')"
    )
    command.add_argument(
        "--into-model", metavar="NAME", help="model whose metrics.json and card get the result too"
    )
    add_settings(
        command, ACROSS_RECIPE, without=("leave_out", "subset", "devices", "nodes", "strategy")
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    config = settings_of(options)
    output = options.output or options.run_dir
    record = check_model(options.into_model) if options.into_model else None
    with training_packages():
        from cadlib.training.cross_archive import across_archives
        from cadlib.training.run import CHECKPOINT_FILE
    from cadlib.metrics import tables
    from cadlib.model import metrics_file

    has_runs = any(options.run_dir.glob(f"*/{CHECKPOINT_FILE}"))
    if has_runs and not (options.resume or options.overwrite):
        raise UsageError(
            f"There are runs in {options.run_dir}: continue with --resume, or start again with --overwrite."
        )
    make_folder(output)
    if record:
        make_folder(find_model(options.into_model))
    archives = across_archives(options.data, options.run_dir, config, resume=options.resume)
    result = {"across_archives": archives}
    (output / "across.json").write_text(metrics_file.metrics_json(result), encoding="utf-8")
    if record:
        folder = find_model(options.into_model)
        figures = {**metrics_file.measured(folder, record), **result}
        metrics_file.write_into(folder, record, figures)
    print(tables.across_table(archives))
    return 0
