"""How many images of a catalogue have which label."""

from cadlib.evaluation.catalogue import Catalogue, Rows
from cadlib.metrics.partial_labels import label_words


def label_counts(catalogue: Catalogue, rows: Rows) -> dict[str, int]:
    """Return the labels of these rows with their counts: diagnoses, UNK, and "malignant" or "benign" without one."""
    counts = label_words(catalogue.table.iloc[rows]).value_counts()
    return {str(label): int(number) for label, number in counts.items()}
