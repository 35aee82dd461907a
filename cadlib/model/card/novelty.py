"""Writes the section of the model card on known and unknown images."""

from typing import Any

from cadlib import command_hints
from cadlib.metrics.tables import markdown_table
from cadlib.model.novelty import NOT_CHECKED
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import CODES


def novelty(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Return which images are called unknown, and how well that was measured to work."""
    title = "## Known and unknown pictures"
    facts = record.novelty
    if facts is None:
        return [title, f"{NOT_CHECKED}. Add one: `{command_hints.index(record.name)}`."]
    sections = [
        title,
        (
            f"A picture is held against the {facts.images:,} training images by its colours and "
            "its detail, and is known where the one most like it is near enough: the limit calls "
            f"{_percent(facts.known_share)} of the {facts.validation_images:,} validation images "
            "known. "
            "Its novelty is the distance divided by the limit: above 1 for another picture. "
            "The pages withhold the answer on such a picture until it is asked for; `predict` "
            "gives it with a warning. "
            "UNK of predictions.csv has another scale, 0 to 1, and is above one half then."
        ),
    ]
    measured = figures.get("novelty")
    if measured:
        sections += _called_unknown(measured)
    proof = figures.get("novelty_proof")
    # A proof of another detector shows nothing about this one.
    if proof is None or proof["sha256"] != facts.sha256:
        command = (
            f"python benchmarks/novelty.py --data DIR --runs DIR --model {record.name} --into-model"
        )
        sections.append(
            f"How well it finds other pictures was not measured; `{command}` does that."
        )
        return sections
    return sections + _far(proof) + _near(proof.get("near"))


def _called_unknown(measured: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for name, part in measured["unknown"].items():
        n = part["n"]
        unknown = part["unknown"]
        share = _percent(unknown / n)
        rows.append((name, f"{n:,}", f"{unknown:,}", share))
    return [
        (
            f"Of the images of the {measured['split']} split, all dermoscopy of the eight "
            "diagnoses, it calls unknown:"
        ),
        markdown_table(("images", "n", "called unknown", "share"), rows),
    ]


def _far(proof: dict[str, Any]) -> list[str]:
    far = proof["far"]
    total = far["proof"]
    head = ("kind", "pictures", "with their crops", "AUROC", "FPR at 95 % TPR", "called unknown")
    rows: list[tuple[str, ...]] = []
    for kind, part in far["kinds"].items():
        row = (
            kind,
            f"{part['sources']}",
            f"{part['n']}",
            f"{part['auroc']:.3f}",
            _percent(part["fpr"]),
            _percent(1 - part["known"]),
        )
        rows.append(row)
    return [
        (
            f"**Far pictures** are no dermoscopy of a lesion. On {total['n']} of them, which had "
            "no part in choosing the method, the area under the ROC curve is "
            f"{total['auroc']:.3f} against the validation images; where 95 % of those pass, "
            f"{_percent(total['fpr'])} of the far ones do. At the limit "
            f"{_percent(1 - total['known'])} are called unknown. Plain skin in a corner of a real "
            f"picture is called unknown in {_percent(proof['corners'])}: whether a lesion is there "
            "is for the checks of quality to tell."
        ),
        markdown_table(head, rows),
    ]


def _near(measured: dict[str, Any] | None) -> list[str]:
    """Return the section on lesions of an untrained diagnosis; `measured` is by code and method."""
    if measured is None:
        return []
    codes = [code for code in CODES if code in measured]
    first = measured[codes[0]]
    methods = [name for name in first if name not in ("n", "known", "accuracy")]
    rows: list[tuple[str, ...]] = []
    for method in methods:
        areas = [measured[code][method] for code in codes]
        mean = sum(areas) / len(codes)
        cells = [f"{area:.2f}" for area in areas]
        rows.append((method, *cells, f"{mean:.2f}"))
    return [
        (
            "**Near pictures** are of a diagnosis that was never trained on. Such a lesion is not "
            "recognised as one: it gets one of the eight diagnoses all the same. Networks of a "
            "cheap recipe, each trained without one diagnosis, tell its images from those of the "
            "others by these areas under the ROC curve (0.5 is chance):"
        ),
        markdown_table(("method", *codes, "mean"), rows),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
