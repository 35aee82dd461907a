"""Formats the comparison of two models as tables."""

from dataclasses import dataclass

from cadlib.metrics.model_comparison import METRIC_NAMES, OF_DIAGNOSES, Comparison, Difference
from cadlib.metrics.tables import metric_text

TEST_NAMES = {
    "right": "Top diagnosis correct",
    "malignant referred": "Malignant, referred",
    "benign not referred": "Benign, not referred",
}


@dataclass(frozen=True)
class Compared:
    """The comparison of the models called `first` and `second` on some images.

    `role` is the part of these images in the training of the second model, `flattered` whether it
    makes that model look better.
    """

    first: str
    second: str
    comparison: Comparison
    role: str
    flattered: bool

    @property
    def difference_rows(self) -> list[dict[str, str]]:
        """Return a row for each metric, by the heading of its columns."""
        rows = []
        for key, name in METRIC_NAMES.items():
            part = self.comparison.metrics[key]
            rows.append(
                {
                    "Metric": name,
                    self.first: metric_text(part.first),
                    self.second: metric_text(part.second),
                    "Difference (95 % CI)": metric_text(part.difference, part.interval),
                    "Better": self._better(part),
                }
            )
        return rows

    def _better(self, part: Difference) -> str:
        if part.difference is None:
            return metric_text(None)
        # `better` is only set where the whole interval is on one side of 0.
        if part.better == "first":
            return self.first
        if part.better == "second":
            return self.second
        return "no significant difference"

    @property
    def test_rows(self) -> list[dict[str, str]]:
        """Return a row for each test of McNemar, by the heading of its columns."""
        rows = []
        for name, test in self.comparison.tests.items():
            # Without an image there is no test, so a p value of 1 would be misleading.
            not_defined = metric_text(None)
            exact = _p(test.exact) if test.n else not_defined
            mid_p = _p(test.mid_p) if test.n else not_defined
            rows.append(
                {
                    "McNemar's test": TEST_NAMES[name],
                    "n": f"{test.n:,}",
                    f"Only {self.first} correct": f"{test.only_first:,}",
                    f"Only {self.second} correct": f"{test.only_second:,}",
                    "p (exact)": exact,
                    "p (mid-p)": mid_p,
                }
            )
        return rows

    @property
    def note(self) -> str:
        """Return which images the metrics are over, and how they were compared."""
        comparison = self.comparison
        note = (
            f"n = {comparison.n:,} images of {comparison.n_lesions:,} lesions, both models on the "
            "same images, each at its own operating point. Intervals are paired and resampled by "
            "lesion; p values treat the images of one lesion together."
        )
        # Otherwise two numbers of images are behind the table, and both have to be named.
        if comparison.n_diagnosed == comparison.n:
            return note
        names = [METRIC_NAMES[key] for key in OF_DIAGNOSES]
        first_names = ", ".join(names[:-1])
        return (
            f"{note} {first_names} and {names[-1]} are measured on the "
            f"{comparison.n_diagnosed:,} images with a diagnosis."
        )

    @property
    def about_the_second(self) -> str:
        """Return the part of the images in the training of the second model."""
        return f"{self.second}: {self.role}"


def _p(value: float) -> str:
    # A p value of 0.000 would claim certainty.
    return f"{value:.3f}" if value >= 0.001 else "<0.001"
