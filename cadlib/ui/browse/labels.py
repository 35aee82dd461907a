"""Counts the images of a catalogue by label."""

from cadlib.evaluation.catalogue import Catalogue, Rows
from cadlib.metrics.partial_labels import label_words


def label_counts(catalogue: Catalogue, rows: Rows) -> dict[str, int]:
    """Return the labels of these rows with their counts.

    A label is a diagnosis, UNK, or "malignant" or "benign" without a diagnosis.
    """
    table = catalogue.table.iloc[rows]
    numbers = label_words(table).value_counts()
    counts = {}
    for label, number in numbers.items():
        counts[str(label)] = int(number)
    return counts
