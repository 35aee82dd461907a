"""Measures a model on damaged and turned images."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cadlib.cli.split_sample import Measure, SampleCommand


@dataclass(frozen=True, kw_only=True)
class Robustness(SampleCommand):
    """Measures what damage and rotation of images cost a model."""

    EXAMPLE: ClassVar[str] = "cadlib robustness --model mymodel --data isic2019/ --images 300"
    KEY: ClassVar[str] = "robustness"

    def measure(self) -> Measure:
        """Import and return the function that measures."""
        from cadlib.evaluation.robustness import measure

        return measure

    def table(self, result: dict[str, Any]) -> str:
        """Return the result as text."""
        from cadlib.metrics.tables import robustness_table

        return robustness_table(result)
