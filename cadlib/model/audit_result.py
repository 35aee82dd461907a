"""Holds the result of a leak audit and its claims.

Metrics measured on lesions that a model was trained on mean nothing. So a page, a command or the
card states whether an audit looked for such lesions, and its result, with the texts from here. An
audit detects shared images and lesions; it does not validate a model, so no model is called
validated because of it.
"""

from typing import Annotated

from msgspec import Meta

from cadlib import command_hints
from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.files.json_types import Count, Digest, JsonObject, Line, Name, Text

LEAKS = {
    "shared_lesions": "lesion ids in several splits",
    "shared_groups": "lesion groups in several splits",
    "identical_files": "pairs of byte-identical files across splits",
    "near_duplicates": "pairs of near-equal perceptual hashes across splits",
    "same_pictures": "image pairs across splits with matching pixel detail",
}
"""Field of LeakAudit -> what it counts. One pair may count more than once."""
MAX_NAMED = 20

AUDIT_PASSED = "leak audit passed: no image or lesion was found in more than one split"
NOT_AUDITED = (
    "not audited: it is not known whether evaluation lesions were also used for training; "
    "check with `{command}`"
)
"""`command` is the complete command of the audit."""
ROLE = {
    "train": "The model was trained on these images, so these results are too optimistic.",
    "validation": "Model, calibration and thresholds were chosen on these images.",
    "test": "These images were not used for training, calibration or thresholds.",
}
"""What the images of a split were used for."""
ROLE_IN_FOLDS = (
    "Each was predicted by the network that was not trained on it. "
    "Calibration and thresholds were chosen on these predictions."
)
"""What the images of the folds of a cross-validation were used for."""


class LeakAudit(JsonObject, frozen=True):
    """The result of `python -m cadlib audit` for the split of a model; `audit` of its model.json.

    `created` is UTC in ISO 8601; `split_sha256` is the hash of the audited split.csv; `images` has
    the number of compared images of each split; the fields of LEAKS are counts; `contradictions`
    has, for each of CONTRADICTIONS, the number of lesions or images with two diagnoses; `named` has
    at most MAX_NAMED leaks, one a line. Raise ValueError for other values.
    """

    created: Line
    dataset: Line
    split_sha256: Digest
    images: Annotated[dict[Name, Count], Meta(max_length=10)]
    shared_lesions: Count
    shared_groups: Count
    identical_files: Count
    near_duplicates: Count
    same_pictures: Count
    contradictions: dict[str, Count]
    named: Annotated[tuple[Text, ...], Meta(max_length=MAX_NAMED)]
    leaks: bool
    """Whether anything is in two splits."""

    def __post_init__(self) -> None:
        if set(self.contradictions) != set(CONTRADICTIONS):
            names = ", ".join(CONTRADICTIONS)
            raise ValueError(f"`contradictions` has to be of {names}")
        # The file states the same thing twice; an edit of one statement is noticed here.
        has_leaks = any(getattr(self, name) for name in LEAKS)
        if self.leaks is not has_leaks:
            raise ValueError(f"Expected `leaks` of the audit to be {has_leaks}, as its counts say.")

    @property
    def reasons(self) -> str:
        """Return the number of leaks of each kind in words; empty without leaks."""
        parts: list[str] = []
        for name, what in LEAKS.items():
            count = getattr(self, name)
            if not count:
                continue
            part = f"{count:,} {what}"
            parts.append(part)
        return ", ".join(parts)


def role_of(split: str, *, cross_validated: bool = False) -> tuple[str, bool]:
    """Return the use of a split's images, and whether it makes a model look better on them."""
    is_test = split == "test"
    if cross_validated and not is_test:
        return ROLE_IN_FOLDS, True
    return ROLE[split], not is_test


def claim(audit: LeakAudit | None, model: str = command_hints.MODEL) -> str:
    """Return the claim that an audit allows, to follow the model's name and a colon."""
    if audit is None:
        command = command_hints.audit_into(model)
        return NOT_AUDITED.format(command=command)
    if not audit.leaks:
        return AUDIT_PASSED
    return f"NOT validated: its splits are not separate ({audit.reasons})"
