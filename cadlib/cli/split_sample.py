"""What the commands share that measure a model on a sample of its own split: `robustness` and `saliency`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cadlib.cli.usage import UsageError, check_data, check_model, make_folder
from cadlib.model.record import find_model
from cadlib.progress import ProgressBars

Measure = Callable[..., dict[str, Any]]
"""Model, images, split, seed, of how many they are a sample, progress -> a key of metrics.json."""


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
    command.add_argument(
        "--seed", type=int, default=0, help="of the sample and of what is drawn (default: 0)"
    )
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
    """Measure, print as `table`, and write `name`.json and the key `name` of metrics.json; return the exit code.

    `measure` imports what measures when the usage has been checked.
    """
    record = check_model(options.model)
    folder = find_model(options.model)
    check_data(options.data)
    if options.seed < 0 or (options.images is not None and options.images < 1):
        raise UsageError(
            f"Expected --seed from 0 and --images from 1 but got {options.seed} and {options.images}."
        )
    if options.output:
        make_folder(options.output)
    if options.into_model:
        make_folder(folder)

    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.data.stratified_sample import stratified_sample
    from cadlib.model import metrics_file
    from cadlib.model.model import Model
    from cadlib.model.split import part_of_split

    if options.into_model:  # asked before the work, not after
        metrics_file.measured(folder, record)
    dataset = part_of_split(folder, record, open_dataset(options.data, verify=False), options.split)
    check_labelled(dataset)
    of = len(dataset.table)
    if options.images is not None:
        dataset = stratified_sample(dataset, options.images, options.seed)
    print(f"{len(dataset.table):,} of {of:,} images of the {options.split} split", file=sys.stderr)
    with ProgressBars() as progress:
        found = measure()(Model.load(folder), dataset, options.split, options.seed, of, progress)
    if options.output:
        (options.output / f"{name}.json").write_text(
            metrics_file.metrics_json(found), encoding="utf-8"
        )
    if options.into_model:
        metrics_file.write_into(
            folder, record, {**metrics_file.measured(folder, record), name: found}
        )
    print(table(found))
    return 1 if found["rejected"] else 0
