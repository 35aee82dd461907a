"""Finds labels and images that a person should review, and stores verdicts.

    lists            the findings as a table, as CSV, and cached on disk
    doubtful_labels  which diagnoses are doubted, by cleanlab
    pairs            one image under two ids, one image or lesion with two diagnoses
    search           all findings in a data set, with a model
    verdicts         a reader's verdict on each finding, stored apart from the lists
    cleaning         the images of a data set without those judged wrong

A finding is a reason to look and no more: nothing here changes a label, and neither does a verdict.
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
