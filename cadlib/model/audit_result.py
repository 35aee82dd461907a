"""Holds the result of a leak audit and its claims.

Figures measured on lesions that a model was trained on mean nothing. So a page, a command or the
card states whether an audit looked for such lesions, and its result, with the texts from here. An
audit detects shared images and lesions; it does not validate a model, so no model is called
validated because of it.
"""

from dataclasses import asdict, dataclass
from typing import Any

from cadlib import command_hints
from cadlib.data.contradictions import CONTRADICTIONS

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


@dataclass(frozen=True)
class LeakAudit:
    """The result of `python -m cadlib audit` for the split of a model; `audit` of its model.json.

    `created` is UTC in ISO 8601; `split_sha256` is the hash of the audited split.csv; `images` has
    the number of compared images of each split; the fields of LEAKS are counts; `contradictions`
    has, for each of CONTRADICTIONS, the number of lesions or images with two diagnoses; `named` has
    at most MAX_NAMED leaks, one a line. Raise ValueError for other values.
    """

    created: str
    dataset: str
    split_sha256: str
    images: dict[str, int]
    shared_lesions: int
    shared_groups: int
    identical_files: int
    near_duplicates: int
    same_pictures: int
    contradictions: dict[str, int]
    named: tuple[str, ...]

    def __post_init__(self) -> None:
        for value in (self.created, self.dataset, self.split_sha256, *self.named):
            if not isinstance(value, str):
                raise ValueError(f"Expected the names of the audit to be text but got {value!r}.")
        counts = {name: getattr(self, name) for name in LEAKS}
        counts |= self.images
        counts |= self.contradictions
        for name, count in counts.items():
            # A bool is an int too, but no count.
            if type(count) is not int or count < 0:
                raise ValueError(f"Expected `{name}` of the audit to be a count but got {count!r}.")
        if set(self.contradictions) != set(CONTRADICTIONS):
            names = ", ".join(CONTRADICTIONS)
            raise ValueError(f"Expected `contradictions` of {names} but got {self.contradictions}.")

    @property
    def leaks(self) -> bool:
        """Return whether anything is in two splits."""
        return any(getattr(self, name) for name in LEAKS)

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

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, and whether the split leaks."""
        values = asdict(self)
        # JSON has no tuples.
        values["named"] = list(self.named)
        values["leaks"] = self.leaks
        return values

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "LeakAudit":
        """Build from JSON values.

        Raise TypeError for a missing or unknown key, ValueError for a bad value.
        """
        fields = dict(raw)
        fields.pop("leaks", None)
        if "named" in fields:
            named = fields["named"]
            fields["named"] = tuple(named)
        audit = cls(**fields)
        # The file states the same thing twice; an edit of one statement is noticed here.
        if raw.get("leaks") is not audit.leaks:
            raise ValueError(
                f"Expected `leaks` of the audit to be {audit.leaks}, as its counts say."
            )
        return audit


def role_of(split: str) -> tuple[str, bool]:
    """Return the use of a split's images, and whether it makes a model look better on them."""
    return ROLE[split], split != "test"


def claim(audit: LeakAudit | None, model: str = command_hints.MODEL) -> str:
    """Return the claim that an audit allows, to follow the model's name and a colon."""
    if audit is None:
        command = command_hints.audit_into(model)
        return NOT_AUDITED.format(command=command)
    if not audit.leaks:
        return AUDIT_PASSED
    return f"NOT validated: its splits are not separate ({audit.reasons})"
