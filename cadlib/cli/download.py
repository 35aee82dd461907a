"""Downloads ISIC 2019, or a sample of the ISIC Archive."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import flag, folder_option
from cadlib.cli.usage import UsageError, make_folder
from cadlib.errors import CadError


@dataclass(frozen=True, kw_only=True)
class Download(CliCommand):
    """Downloads a data set into a folder."""

    EXAMPLE: ClassVar[str] = (
        "cadlib download --to isic2019/\ncadlib download --to sample/ --sample 20"
    )

    to: Annotated[Path, folder_option("Folder for the data set.")]
    mirror: Annotated[
        str | None,
        typer.Option(help="Folder on a server that holds a copy of ISIC's files.", metavar="URL"),
    ] = None
    keep_zip: Annotated[
        bool, flag("keep-zip", "Keep the zip files after unpacking (9 GB and more).")
    ] = False
    sample: Annotated[
        int | None,
        typer.Option(help="Only N images of each class, from the ISIC Archive.", metavar="N"),
    ] = None

    def run(self) -> int:
        """Run the command and return its exit code."""
        from tqdm import tqdm

        from cadlib.data import download
        from cadlib.progress import ProgressBars

        self._check()
        make_folder(self.to)
        with ProgressBars(counts_bytes=True) as progress:
            # Messages go through tqdm, so that they do not break its bars.
            watch = download.Watch(tqdm.write, progress)
            if self.sample is None:
                download.download_official(
                    self.to, watch, mirror=self.mirror, keep_zip=self.keep_zip
                )
            else:
                download.download_sample(self.to, self.sample, watch)
        return 0

    def _check(self) -> None:
        """Raise UsageError for options that do not fit each other, or an unusable address."""
        from cadlib.data import download

        if self.sample is not None and (self.mirror is not None or self.keep_zip):
            raise UsageError(
                "Expected --sample alone: it takes single images from the ISIC Archive, "
                "no mirror and no zip."
            )
        if self.sample is not None and self.sample < 1:
            raise UsageError(
                f"Expected --sample of at least 1 image a class but came {self.sample}."
            )
        if self.mirror is not None:
            try:
                download.check_address(self.mirror)
            except CadError as error:
                raise UsageError(str(error)) from error
