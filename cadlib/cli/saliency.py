"""Measures whether a model's heatmaps are reliable, method by method."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cadlib.cli.split_sample import Measure, SampleCommand

# `--help` does not wait for these imports.
if TYPE_CHECKING:
    from cadlib.metrics.conditions_schema import SaliencyMetrics


@dataclass(frozen=True, kw_only=True)
class Saliency(SampleCommand["SaliencyMetrics"]):
    """Measures the faithfulness and stability of a model's saliency maps."""

    EXAMPLE: ClassVar[str] = "cadlib saliency --model mymodel --data isic2019/ --images 300"
    KEY: ClassVar[str] = "saliency"

    def measure(self) -> "Measure[SaliencyMetrics]":
        """Import and return the function that measures."""
        from cadlib.evaluation.saliency_benchmark import measure

        return measure

    def table(self, result: "SaliencyMetrics") -> str:
        """Return the result as text."""
        from cadlib.metrics.tables import saliency_table

        return saliency_table(result)
