"""Measures a model on damaged and turned images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cadlib.cli.split_sample import Measure, SampleCommand

# `--help` does not wait for these imports.
if TYPE_CHECKING:
    from cadlib.metrics.conditions_schema import Robustness as RobustnessMetrics


@dataclass(frozen=True, kw_only=True)
class Robustness(SampleCommand["RobustnessMetrics"]):
    """Measures what damage and rotation of images cost a model."""

    EXAMPLE: ClassVar[str] = "cadlib robustness --model mymodel --data isic2019/ --images 300"
    KEY: ClassVar[str] = "robustness"

    def measure(self) -> "Measure[RobustnessMetrics]":
        """Import and return the function that measures."""
        from cadlib.evaluation.robustness import measure

        return measure

    def table(self, result: "RobustnessMetrics") -> str:
        """Return the result as text."""
        from cadlib.metrics.tables import robustness_table

        return robustness_table(result)
