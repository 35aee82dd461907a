"""Measures whether a model's heatmaps are reliable, method by method."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cadlib.cli.split_sample import Measure, SampleCommand


@dataclass(frozen=True, kw_only=True)
class Saliency(SampleCommand):
    """Measures the faithfulness and stability of a model's saliency maps."""

    EXAMPLE: ClassVar[str] = "cadlib saliency --model mymodel --data isic2019/ --images 300"
    KEY: ClassVar[str] = "saliency"

    def measure(self) -> Measure:
        """Import and return the function that measures."""
        from cadlib.evaluation.saliency_benchmark import measure

        return measure

    def table(self, result: dict[str, Any]) -> str:
        """Return the result as text."""
        from cadlib.metrics.tables import saliency_table

        return saliency_table(result)
