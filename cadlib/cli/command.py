"""Defines what every command has: its options, an example, and its work."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self


class CliCommand(ABC):
    """A command with its options: a frozen dataclass whose fields become options in Typer.

    Example:
        >>> Index(model="isic2019", data=Path("isic2019")).run()
        0

    """

    EXAMPLE: ClassVar[str]
    """Lines for a shell, at the end of the command's help."""

    @classmethod
    def constructor(cls) -> Callable[..., Self]:
        """Return the callable whose parameters are the options, and which makes the command."""
        return cls

    @abstractmethod
    def run(self) -> int:
        """Do the work and return the exit code."""
