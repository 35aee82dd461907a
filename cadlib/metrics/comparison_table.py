"""Two models on the same images as tables: each figure with the difference, and the tests of paired decisions."""

from dataclasses import dataclass

from cadlib.metrics.model_comparison import FIGURE_NAMES, OF_DIAGNOSES, Comparison, Difference
from cadlib.metrics.tables import figure_text

TEST_NAMES = {
    "right": "First diagnosis right",
    "malignant referred": "Malignant, referred",
    "benign not referred": "Benign, not referred",
}


@dataclass(frozen=True)
class Compared:
    """How the models called `first` and `second` compare on some images.

    `role` says what part these images had in the training of the second, `flattered` whether it looks better for it.
    """

    first: str
    second: str
    comparison: Comparison
    role: str
    flattered: bool

    @property
    def difference_rows(self) -> list[dict[str, str]]:
        """Return a row for each figure, by the head of its columns."""
        named = ((name, self.comparison.figures[key]) for key, name in FIGURE_NAMES.items())
        return [
            {
                "Figure": name,
                self.first: figure_text(part.first),
                self.second: figure_text(part.second),
                "Difference (95 % interval)": figure_text(part.difference, part.interval),
                "Better": self._better(part),
            }
            for name, part in named
        ]

    def _better(self, part: Difference) -> str:
        if part.difference is None:
            return figure_text(None)
        return {"first": self.first, "second": self.second}.get(
            part.better or "", "no more than chance"
        )

    @property
    def test_rows(self) -> list[dict[str, str]]:
        """Return a row for each test of McNemar, by the head of its columns."""
        return [
            {
                "McNemar's test": TEST_NAMES[name],
                "n": f"{test.n:,}",
                f"Only {self.first}": f"{test.only_first:,}",
                f"Only {self.second}": f"{test.only_second:,}",
                "p exact": _p(test.exact) if test.n else figure_text(None),
                "p mid": _p(test.mid_p) if test.n else figure_text(None),
            }
            for name, test in self.comparison.tests.items()
        ]

    @property
    def note(self) -> str:
        """Say of which images the figures are, and how they were compared."""
        note = (
            f"n = {self.comparison.n:,} images of {self.comparison.n_lesions:,} lesions, both models on the same ones, "
            "each at its own operating point. Intervals are paired and drawn over lesions; the images of one lesion "
            "count together in p."
        )
        if self.comparison.n_diagnosed == self.comparison.n:
            return note
        *names, last = (FIGURE_NAMES[key] for key in OF_DIAGNOSES)
        return (
            f"{note} {', '.join(names)} and {last} are measured on the {self.comparison.n_diagnosed:,} images with a "
            "diagnosis."
        )

    @property
    def about_the_second(self) -> str:
        """Say what part the images had in the training of the second model."""
        return f"{self.second}: {self.role}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"
