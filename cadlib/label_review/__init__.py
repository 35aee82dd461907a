"""What of a data set a person should look at again: doubted labels, pictures twice, contradictions, bad files.

    lists      the findings as a table, as CSV, and kept on disk
    labels     whose diagnosis is doubted, by cleanlab
    pairs      one picture under two ids, one picture or lesion with two diagnoses
    finding    all of it for a data set, with a model
    verdicts   what a reader said of each finding, kept whichever lists are made anew
    cleaning   the images of a data set without what was judged wrong

A suspicion is a reason to look and no more: nothing here changes a label, and neither does a verdict.
"""

from cadlib.label_review.cleaning import CLEAN, cleaned
from cadlib.label_review.lists import KINDS, Suspects, keep, kept, kept_at
from cadlib.label_review.verdicts import (
    CHOICES,
    CORRECTS,
    Finding,
    Verdict,
    Verdicts,
    beside,
    read_verdicts,
    said_now,
    save_verdict,
    sides,
)

__all__ = [
    "CHOICES",
    "CLEAN",
    "CORRECTS",
    "KINDS",
    "Finding",
    "Suspects",
    "Verdict",
    "Verdicts",
    "beside",
    "cleaned",
    "keep",
    "kept",
    "kept_at",
    "read_verdicts",
    "said_now",
    "save_verdict",
    "sides",
]
