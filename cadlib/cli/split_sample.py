"""Measures a model on a sample of its own split.

The commands `robustness` and `saliency` use it.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cadlib.cli.usage import UsageError, check_data, check_model, make_folder
from cadlib.model.record import find_model
from cadlib.progress import ProgressBars

Measure = Callable[..., dict[str, Any]]
"""Model, images, split, seed, size of the split, progress -> a key of metrics.json."""


def add_flags(command: argparse.ArgumentParser, name: str) -> None:
    """Add the flags of a command that writes `name`.json."""
    command.add_argument(
        "--model", default="isic2019", help="name under models/, or a path (default: isic2019)"
    )
    command.add_argument("--data", type=Path, required=True, help="folder of a data set")
    command.add_argument(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="part of the model's own split",
    )
    command.add_argument(
        "--images",
        type=int,
        metavar="N",
        help="a random sample with every diagnosis and archive (default: all)",
    )
    command.add_argument("--seed", type=int, default=0, help="of all random draws (default: 0)")
    command.add_argument("--output", type=Path, metavar="DIR", help=f"folder for {name}.json")
    command.add_argument(
        "--into-model", action="store_true", help="put it into the model's metrics.json and card"
    )


def measure_sample(
    options: argparse.Namespace,
    name: str,
    measure: Callable[[], Measure],
    table: Callable[[dict[str, Any]], str],
) -> int:
    """Measure, print as `table`, and write `name`.json and the key `name` of metrics.json.

    Return the exit code. `measure` returns the function that measures: it imports it only after the
    usage has been checked.
    """
    record = check_model(options.model)
    folder = find_model(options.model)
    _check_usage(options, folder)

    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.data.stratified_sample import stratified_sample
    from cadlib.model import metrics_file
    from cadlib.model.model import Model
    from cadlib.model.split import part_of_split

    if options.into_model:
        # This may raise, so it comes before the work.
        metrics_file.measured(folder, record)
    dataset = open_dataset(options.data, verify=False)
    dataset = part_of_split(folder, record, dataset, options.split)
    check_labelled(dataset)
    n_split = len(dataset.table)
    if options.images is not None:
        dataset = stratified_sample(dataset, options.images, options.seed)
    n_images = len(dataset.table)
    print(f"{n_images:,} of {n_split:,} images of the {options.split} split", file=sys.stderr)
    measure_images = measure()
    with ProgressBars() as progress:
        model = Model.load(folder)
        result = measure_images(model, dataset, options.split, options.seed, n_split, progress)
    if options.output:
        file = options.output / f"{name}.json"
        file.write_text(metrics_file.metrics_json(result), encoding="utf-8")
    if options.into_model:
        figures = {**metrics_file.measured(folder, record), name: result}
        metrics_file.write_into(folder, record, figures)
    print(table(result))
    return 1 if result["rejected"] else 0


def _check_usage(options: argparse.Namespace, folder: Path) -> None:
    """Raise UsageError for flags out of range, and for folders that cannot be written."""
    check_data(options.data)
    if options.seed < 0 or (options.images is not None and options.images < 1):
        raise UsageError(
            "Expected --seed from 0 and --images from 1 "
            f"but got {options.seed} and {options.images}."
        )
    if options.output:
        make_folder(options.output)
    if options.into_model:
        make_folder(folder)
