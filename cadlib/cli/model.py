"""Verifies a model folder, or migrates it to the current format."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cadlib.cli.command import CliCommand
from cadlib.cli.options import flag, model_option
from cadlib.cli.usage import model_folder


@dataclass(frozen=True, kw_only=True)
class Verify(CliCommand):
    """Compares a model folder with its manifest and its golden results."""

    EXAMPLE: ClassVar[str] = "cadlib model verify --model mymodel"

    model: Annotated[str, model_option()] = "isic2019"

    def run(self) -> int:
        """Print every change of a model folder; return 0 without one, else 1."""
        from cadlib.model.verification import verify

        verified = verify(model_folder(self.model))
        print(verified)
        return 0 if verified.unchanged else 1


@dataclass(frozen=True, kw_only=True)
class Migrate(CliCommand):
    """Writes a model folder in the current format."""

    EXAMPLE: ClassVar[str] = "cadlib model migrate --model mymodel"

    model: Annotated[str, model_option()] = "isic2019"
    accept_changes: Annotated[
        bool, flag("accept-changes", "Make changes by hand part of the model.")
    ] = False

    def run(self) -> int:
        """Write a model folder in the current format and print its id."""
        from cadlib.model.migration import migrate

        folder = model_folder(self.model)
        record, accepted = migrate(folder, accept_changes=self.accept_changes)
        for change in accepted:
            print(f"accepted: {change}")
        print(f"{folder} is {record.model_id}")
        return 0
