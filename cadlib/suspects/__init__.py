"""What of a data set a person should look at again: doubted labels, pictures twice, contradictions, bad files.

    lists      the findings as a table, as CSV, and kept on disk
    labels     whose diagnosis is doubted, by cleanlab
    pairs      one picture under two ids, one picture or lesion with two diagnoses
    finding    all of it for a data set, with a model

A suspicion is a reason to look and no more: nothing here changes a label.
"""

from cadlib.suspects.lists import KINDS, Suspects, keep, kept

__all__ = ["KINDS", "Suspects", "keep", "kept"]
