"""The section of the card on known and unknown pictures."""

from typing import Any

from cadlib import command_hints
from cadlib.metrics.tables import markdown_table
from cadlib.model.novelty import NOT_CHECKED
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import CODES


def novelty(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Say which pictures are called unknown, and how well that was measured to work."""
    title, facts = "## Known and unknown pictures", record.novelty
    if facts is None:
        return [title, f"{NOT_CHECKED}; `{command_hints.index(record.name)}` fits that."]
    found = figures.get("novelty")
    return [
        title,
        (
            f"A picture is held against the {facts.images:,} training images by its colours and its detail, and is "
            f"known where the one most like it is near enough: the limit calls {100 * facts.known_share:.1f} % of the "
            f"{facts.validation_images:,} validation images known. "
            "Its novelty is the distance divided by the limit: above 1 for another picture. "
            "The pages withhold the answer on such a picture until it is asked for; `predict` gives it with a warning. "
            "UNK of predictions.csv has another scale, 0 to 1, and is above one half then."
        ),
        *(_called_unknown(found) if found else []),
        *_proof(record, figures.get("novelty_proof")),
    ]


def _called_unknown(found: dict[str, Any]) -> list[str]:
    rows = [
        (name, f"{part['n']:,}", f"{part['unknown']:,}", _percent(part["unknown"] / part["n"]))
        for name, part in found["unknown"].items()
    ]
    return [
        f"Of the images of the {found['split']} split, all dermoscopy of the eight diagnoses, it calls unknown:",
        markdown_table(("images", "n", "called unknown", "share"), rows),
    ]


def _proof(record: ModelRecord, proof: dict[str, Any] | None) -> list[str]:
    if record.novelty is None or proof is None or proof["sha256"] != record.novelty.sha256:
        command = (
            f"python benchmarks/novelty.py --data DIR --runs DIR --model {record.name} --into-model"
        )
        return [f"How well it finds other pictures was not measured; `{command}` does that."]
    far = proof["far"]
    total = far["proof"]
    rows = [
        (kind, f"{part['sources']}", f"{part['n']}", f"{part['auroc']:.3f}", _percent(part["fpr"]),
         _percent(1 - part["known"]))
        for kind, part in far["kinds"].items()
    ]  # fmt: skip
    return [
        (
            f"**Far pictures** are no dermoscopy of a lesion. On {total['n']} of them, which had no part in choosing "
            f"the method, the area under the ROC curve is {total['auroc']:.3f} against the validation images; where "
            f"95 % of those pass, {_percent(total['fpr'])} of the far ones do. At the limit "
            f"{_percent(1 - total['known'])} are called unknown. Plain skin in a corner of a real picture is called "
            f"unknown in {_percent(proof['corners'])}: whether a lesion is there is for the checks of quality to tell."
        ),
        markdown_table(
            ("kind", "pictures", "with their crops", "AUROC", "FPR at 95 % TPR", "called unknown"),
            rows,
        ),
        *_near(proof.get("near")),
    ]


def _near(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    codes = [code for code in CODES if code in found]
    names = [name for name in found[codes[0]] if name not in ("n", "known", "accuracy")]
    rows = [
        (
            name,
            *(f"{found[code][name]:.2f}" for code in codes),
            f"{sum(found[code][name] for code in codes) / len(codes):.2f}",
        )
        for name in names
    ]
    return [
        (
            "**Near pictures** are of a diagnosis that was never trained on. Such a lesion is not recognised as one: "
            "it gets one of the eight diagnoses all the same. Networks of a cheap recipe, each trained without one "
            "diagnosis, tell its images from those of the others by these areas under the ROC curve (0.5 is chance):"
        ),
        markdown_table(("method", *codes, "mean"), rows),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
