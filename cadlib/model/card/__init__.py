"""Renders the model card, every figure from model.json and metrics.json.

Its sections follow Mitchell et al., Model Cards for Model Reporting (FAT* 2019).
"""

from typing import Any

from cadlib.metrics.operating_point import (
    TARGET_SENSITIVITY,
    OperatingPoint,
    both_names,
    shown_name,
)
from cadlib.metrics.summary import DRAWS, ECE_NOTE
from cadlib.metrics.tables import figure_of, figure_text, markdown_table
from cadlib.model.audit_result import LEAKS, LeakAudit
from cadlib.model.calibration import SMALL_PX
from cadlib.model.card import conditions
from cadlib.model.card.neighbours import similar_cases
from cadlib.model.card.novelty import novelty
from cadlib.model.card.saliency import saliency
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import ACTINIC_KERATOSIS_NOTE, DIAGNOSES

_HEADLINE = (
    "n",
    "diagnoses",
    "balanced accuracy",
    "malignant AUC",
    "melanoma AUC",
    "accuracy",
    "ECE",
)
"""Columns of the tables of images, after the first."""
_BY_DIAGNOSIS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "average_precision": "average precision",
    "auc": "AUC",
}
"""Figure of a diagnosis in metrics.json -> its column."""


def render(record: ModelRecord, figures: dict[str, Any]) -> str:
    """Return the card as Markdown, from a record and the content of its metrics.json."""
    sections = _head(record)
    sections += _data(record, figures)
    sections += _audit(record)
    sections += _figures(figures)
    sections += _thresholds(record)
    sections += _calibration(record, figures)
    sections += _sets(figures)
    sections += similar_cases(record, figures)
    sections += novelty(record, figures)
    sections += saliency(record, figures)
    sections += conditions.damage(record, figures)
    sections += conditions.metadata(record.metadata)
    sections += conditions.across(record, figures)
    return "\n\n".join(sections) + "\n"


def _head(record: ModelRecord) -> list[str]:
    size_px = record.input.size_px
    limits = (*record.known_limits, ACTINIC_KERATOSIS_NOTE)
    return [
        f"# {record.name} {record.version}",
        (
            f"{record.backbone}, {size_px} × {size_px} px, made {record.created} by "
            "`python -m cadlib train`. Every figure here comes from model.json and metrics.json "
            "beside it."
        ),
        (
            f"**Model id.** `{record.model_id}`: name, version, and the hash of everything that "
            "decides an answer."
        ),
        f"**Intended use.** {record.intended_use}",
        f"**Licence.** {record.data_licence}",
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits),
    ]


def _data(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    training = record.training
    config = training.config
    minutes = training.seconds / 60
    rows: list[tuple[str, ...]] = []
    for part, n_images in training.images.items():
        n_lesions = training.lesions[part]
        rows.append((part, f"{n_images:,}", f"{n_lesions:,}"))
    return [
        "## Data and training",
        markdown_table(("split", "images", "lesion groups"), rows),
        (
            f"From the data set `{training.dataset}`, split so that images of one lesion, and "
            f"near-duplicates, stay together (seed {training.seed}). {training.epochs} epochs at "
            f"{config['first_px']} to {config['last_px']} px in {minutes:.0f} minutes, code "
            f"{training.git_commit}. {_use_of_test(figures)}"
        ),
    ]


def _audit(record: ModelRecord) -> list[str]:
    title = "## Leak audit"
    audit = record.audit
    claim = record.validation_claim
    # Unlike str.capitalize, this leaves the rest of the text as it is.
    sentence = f"{claim[0].upper()}{claim[1:]}."
    if audit is None:
        return [title, sentence]
    compared = ", ".join(f"{n:,} of {part}" for part, n in audit.images.items())
    sections = [
        title,
        f"{sentence} Audited {audit.created} on {audit.dataset}, images: {compared}.",
        _leak_table(audit),
    ]
    if audit.named:
        sections.append("\n".join(f"- {leak}" for leak in audit.named))
    return sections


def _leak_table(audit: LeakAudit) -> str:
    rows: list[tuple[str, str]] = []
    for name, what in LEAKS.items():
        count = getattr(audit, name)
        rows.append((what, f"{count:,}"))
    for kind, count in audit.contradictions.items():
        rows.append((f"labels that contradict each other: {kind}", f"{count:,}"))
    return markdown_table(("looked for", "found"), rows)


def _figures(figures: dict[str, Any]) -> list[str]:
    data = figures["data"]
    rows = [_headline("all", figures)]
    for name, part in figures["subgroups"].items():
        rows.append(_headline(name, part))
    return [
        "## How good it is",
        (
            f"On the {data['split']} split of {data['name']}, {figures['n']:,} images of "
            f"{figures['n_lesions']:,} lesions, one model, no test-time averaging. "
            f"{_fitted_on(figures)} In brackets 95 % intervals, from {DRAWS:,} draws of lesions."
        ),
        markdown_table(("images", *_HEADLINE), rows),
        (
            "Balanced accuracy is the mean sensitivity over the diagnoses present in a row. A "
            "figure over too few lesions has no interval. The noise of its bins adds to a "
            "calibration error (ECE); its interval is that of the error without it, and may lie "
            "below the figure."
        ),
        _by_diagnosis(figures),
        *_beside_validation(figures),
    ]


def _by_diagnosis(figures: dict[str, Any]) -> str:
    """Return the table of figures with one row for each diagnosis."""
    head = ("diagnosis", "", "n", *_BY_DIAGNOSIS.values())
    rows: list[tuple[str, ...]] = []
    for diagnosis in DIAGNOSES:
        code = diagnosis.code
        title = f"{diagnosis.name} ({code})"
        n = figures["n_by_class"][code]
        cells = [figure_of(figures, name, code) for name in _BY_DIAGNOSIS]
        row = (title, diagnosis.group, f"{n:,}", *cells)
        rows.append(row)
    return markdown_table(head, rows)


def _headline(name: str, part: dict[str, Any]) -> tuple[str, ...]:
    """Return the row of a part of the images; its cells are those of _HEADLINE."""
    return (
        name,
        f"{part['n']:,}",
        str(part["n_classes"]),
        figure_of(part, "balanced_accuracy"),
        figure_of(part, "malignant_auc"),
        figure_of(part, "auc", "MEL"),
        figure_of(part, "accuracy"),
        figure_of(part, "ece"),
    )


def _beside_validation(figures: dict[str, Any]) -> list[str]:
    if "validation" not in figures:
        return []
    parts = (figures, figures["validation"])
    rows = [_headline(part["data"]["split"], part) for part in parts]
    return [
        (
            "Beside it the validation split, on which model, calibration and thresholds were "
            "chosen: what it is better by is chance and choice."
        ),
        markdown_table(("split", *_HEADLINE), rows),
    ]


def _use_of_test(figures: dict[str, Any]) -> str:
    if figures["data"]["split"] == "test":
        return "The test split served for the figures below alone."
    return "The test split has not been used."


def _fitted_on(figures: dict[str, Any]) -> str:
    where = "these same images"
    if figures["data"]["split"] == "test":
        where = "other images, those of validation"
    return f"The calibration and the thresholds were fitted on {where}."


def _measured_on(record: ModelRecord) -> str:
    splits = sorted({point.split for point in record.operating_points})
    if splits == ["test"]:
        return "What they do was measured on the test split, which had no part in choosing them."
    names = ", ".join(splits)
    return (
        f"What they do was measured on these same images ({names}): "
        "on others the sensitivity will differ."
    )


def _sets(figures: dict[str, Any]) -> list[str]:
    sets = figures.get("prediction_sets")
    if sets is None:
        return []
    split = figures["data"]["split"]
    where = "on which they were fitted: elsewhere it differs"
    if split == "test":
        where = "which had no part in fitting them"
    rows: list[tuple[str, ...]] = []
    for diagnosis in DIAGNOSES:
        code = diagnosis.code
        n = figures["n_by_class"][code]
        title = f"{diagnosis.name} ({code})"
        coverage = figure_of(sets, "coverage", code)
        rows.append((title, f"{n:,}", coverage))
    return [
        "## Prediction sets",
        (
            f"A set of diagnoses that is to hold the true one for {100 * sets['target']:.0f} % of "
            "the images of each diagnosis (class-conditional conformal prediction, Vovk et al. "
            f"2005), measured on the {split} split, {where}. It held the true one in "
            f"{figure_of(sets, 'overall')} of all images, with {figure_of(sets, 'size')} diagnoses "
            f"in the mean; {figure_of(sets, 'empty')} of the sets were empty: no diagnosis fits "
            "such a picture."
        ),
        markdown_table(("diagnosis", "n", "true diagnosis in the set"), rows),
    ]


def _thresholds(record: ModelRecord) -> list[str]:
    targets: list[str] = []
    for name, sensitivity in TARGET_SENSITIVITY.items():
        targets.append(f"{both_names(name)} {sensitivity:.2f}")
    head = (
        "point",
        "refer at malignant probability",
        "sensitivity",
        "specificity",
        "measured on",
    )
    return [
        "## Operating points",
        (
            "The thresholds were chosen on the validation split, each the highest that reaches "
            f"its sensitivity there: {', '.join(targets)}. {_measured_on(record)} A referral at "
            f"“{shown_name('rule-in')}” does not confirm malignancy."
        ),
        markdown_table(head, [_point_row(point) for point in record.operating_points]),
    ]


def _point_row(point: OperatingPoint) -> tuple[str, ...]:
    return (
        both_names(point.name),
        f"≥ {point.threshold:.3f}",
        figure_text(point.sensitivity, point.intervals.sensitivity),
        figure_text(point.specificity, point.intervals.specificity),
        f"{point.n_malignant:,} malignant, {point.n_benign:,} benign of {point.split}",
    )


def _calibration(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    split = figures["data"]["split"]
    return [
        "## Calibration",
        (
            f"{_fitted_numbers(record)} Expected calibration error {figure_of(figures, 'ece')}, "
            f"before calibration {figure_of(figures, 'ece_uncalibrated')}; Brier score "
            f"{figure_of(figures, 'brier')}, before {figure_of(figures, 'brier_uncalibrated')}; "
            f"on the {split} split, over its mix of diagnoses. {ECE_NOTE}"
        ),
    ]


def _fitted_numbers(record: ModelRecord) -> str:
    """Return the temperature and the bias in words."""
    small = record.temperature.small
    large = record.temperature.large
    numbers = f"{large:.3f}"
    if small != large:
        numbers = f"{large:.3f} ({small:.3f} below a short side of {SMALL_PX} px)"
    temperature = f"Temperature {numbers}, fitted on the validation split"
    if not any(record.bias):
        return f"{temperature}; no bias by diagnosis."
    biases = zip(record.codes, record.bias, strict=True)
    listed = ", ".join(f"{code} {bias:+.2f}" for code, bias in biases)
    return f"{temperature} together with a bias by diagnosis: {listed}."
