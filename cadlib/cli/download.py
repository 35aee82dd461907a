"""Downloads ISIC 2019, or a sample of the ISIC Archive."""

import argparse
from pathlib import Path

from tqdm import tqdm

from cadlib.cli.usage import UsageError, make_folder
from cadlib.errors import CadError
from cadlib.progress import ProgressBars


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="folder that is to hold the data set"
    )
    command.add_argument(
        "--mirror", metavar="URL", help="folder on a server that holds a copy of ISIC's files"
    )
    command.add_argument(
        "--keep-zip", action="store_true", help="keep the zip files after unpacking (9 GB and more)"
    )
    command.add_argument(
        "--sample", type=int, metavar="N", help="only N images a class, from the ISIC Archive"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from cadlib.data import download

    _check_download(options)
    make_folder(options.to)
    with ProgressBars(counts_bytes=True) as progress:
        watch = download.Watch(tqdm.write, progress)
        if options.sample is None:
            download.download_official(
                options.to, watch, mirror=options.mirror, keep_zip=options.keep_zip
            )
        else:
            download.download_sample(options.to, options.sample, watch)
    return 0


def _check_download(options: argparse.Namespace) -> None:
    """Raise UsageError for flags that do not fit each other, or an address that cannot be used."""
    from cadlib.data import download

    if options.sample is not None and (options.mirror is not None or options.keep_zip):
        raise UsageError(
            "Expected --sample alone: it takes single images from the ISIC Archive, "
            "no mirror and no zip."
        )
    if options.sample is not None and options.sample < 1:
        raise UsageError(
            f"Expected --sample of at least 1 image a class but came {options.sample}."
        )
    if options.mirror is not None:
        try:
            download.check_address(options.mirror)
        except CadError as error:
            raise UsageError(str(error)) from error
