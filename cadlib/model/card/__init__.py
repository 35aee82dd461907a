"""The model card: every figure out of model.json and metrics.json, none typed.

Its sections follow Mitchell et al., Model Cards for Model Reporting (FAT* 2019).
"""

from typing import Any

from cadlib.metrics.operating_point import TARGET_SENSITIVITY, both_names, shown_name
from cadlib.metrics.summary import DRAWS, ECE_NOTE
from cadlib.metrics.tables import figure_of, figure_text, markdown_table
from cadlib.model.audit_result import LEAKS
from cadlib.model.calibration import SMALL_PX
from cadlib.model.card import conditions
from cadlib.model.card.neighbours import similar_cases
from cadlib.model.card.novelty import novelty
from cadlib.model.card.saliency import saliency
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import ACTINIC_KERATOSIS_NOTE, DIAGNOSES


def render(record: ModelRecord, figures: dict[str, Any]) -> str:
    """Return the card as Markdown, from a record and the content of its metrics.json."""
    sections = [
        f"# {record.name} {record.version}",
        (
            f"{record.backbone}, {record.input.size_px} × {record.input.size_px} px, made {record.created} by "
            "`python -m cadlib train`. Every figure here comes from model.json and metrics.json beside it."
        ),
        f"**Model id.** `{record.model_id}`: name, version, and the hash of everything that decides an answer.",
        f"**Intended use.** {record.intended_use}",
        f"**Licence.** {record.data_licence}",
        "## Limits",
        "\n".join(f"- {limit}" for limit in (*record.known_limits, ACTINIC_KERATOSIS_NOTE)),
        *_data(record, figures),
        *_audit(record),
        *_figures(figures),
        *_thresholds(record, figures),
        *_sets(figures),
        *similar_cases(record, figures),
        *novelty(record, figures),
        *saliency(record, figures),
        *conditions.damage(record, figures),
        *conditions.metadata(record.metadata),
        *conditions.across(record, figures),
    ]
    return "\n\n".join(sections) + "\n"


def _data(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    training = record.training
    config = training.config
    return [
        "## Data and training",
        markdown_table(
            ("split", "images", "lesion groups"),
            (
                (part, f"{n:,}", f"{training.lesions[part]:,}")
                for part, n in training.images.items()
            ),
        ),
        (
            f"From the data set `{training.dataset}`, split so that images of one lesion, and near-duplicates, "
            f"stay together (seed {training.seed}). {training.epochs} epochs at {config['first_px']} to "
            f"{config['last_px']} px in {training.seconds / 60:.0f} minutes, code {training.git_commit}. "
            f"{_use_of_test(figures)}"
        ),
    ]


def _audit(record: ModelRecord) -> list[str]:
    audit = record.audit
    claim = record.validation_claim
    said = f"{claim[0].upper()}{claim[1:]}."
    if audit is None:
        return ["## Leak audit", said]
    compared = ", ".join(f"{n:,} of {part}" for part, n in audit.images.items())
    rows = [(what, f"{getattr(audit, name):,}") for name, what in LEAKS.items()]
    rows += [
        (f"labels that contradict each other: {kind}", f"{n:,}")
        for kind, n in audit.contradictions.items()
    ]
    return [
        "## Leak audit",
        f"{said} Audited {audit.created} on {audit.dataset}, images: {compared}.",
        markdown_table(("looked for", "found"), rows),
        *(["\n".join(f"- {one}" for one in audit.named)] if audit.named else []),
    ]


def _figures(figures: dict[str, Any]) -> list[str]:
    data = figures["data"]
    return [
        "## How good it is",
        (
            f"On the {data['split']} split of {data['name']}, {figures['n']:,} images of {figures['n_lesions']:,} "
            f"lesions, one model, no test-time averaging. {_fitted_on(figures)} In brackets 95 % intervals, from "
            f"{DRAWS:,} draws of lesions."
        ),
        markdown_table(
            (
                "images",
                "n",
                "diagnoses",
                "balanced accuracy",
                "malignant AUC",
                "melanoma AUC",
                "accuracy",
                "ECE",
            ),
            (
                _headline(name, part)
                for name, part in (("all", figures), *figures["subgroups"].items())
            ),
        ),
        (
            "Balanced accuracy is the mean sensitivity over the diagnoses present in a row. A figure over too few "
            "lesions has no interval. The noise of its bins adds to a calibration error (ECE); its interval is that of "
            "the error without it, and may lie below the figure."
        ),
        markdown_table(
            (
                "diagnosis",
                "",
                "n",
                "sensitivity",
                "specificity",
                "PPV",
                "NPV",
                "average precision",
                "AUC",
            ),
            (
                (
                    f"{d.name} ({d.code})",
                    d.group,
                    f"{figures['n_by_class'][d.code]:,}",
                    *(
                        figure_of(figures, name, d.code)
                        for name in (
                            "sensitivity",
                            "specificity",
                            "ppv",
                            "npv",
                            "average_precision",
                            "auc",
                        )
                    ),
                )
                for d in DIAGNOSES
            ),
        ),
        *_beside_validation(figures),
    ]


def _headline(name: str, part: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{part['n']:,}",
        str(part["n_classes"]),
        *(figure_of(part, figure) for figure in ("balanced_accuracy", "malignant_auc")),
        figure_of(part, "auc", "MEL"),
        *(figure_of(part, figure) for figure in ("accuracy", "ece")),
    )


def _beside_validation(figures: dict[str, Any]) -> list[str]:
    if "validation" not in figures:
        return []
    return [
        (
            "Beside it the validation split, on which model, calibration and thresholds were chosen: what it is better "
            "by is chance and choice."
        ),
        markdown_table(
            (
                "split",
                "n",
                "diagnoses",
                "balanced accuracy",
                "malignant AUC",
                "melanoma AUC",
                "accuracy",
                "ECE",
            ),
            (_headline(part["data"]["split"], part) for part in (figures, figures["validation"])),
        ),
    ]


def _use_of_test(figures: dict[str, Any]) -> str:
    used = figures["data"]["split"] == "test"
    return (
        "The test split served for the figures below alone."
        if used
        else "The test split has not been used."
    )


def _fitted_on(figures: dict[str, Any]) -> str:
    where = (
        "other images, those of validation"
        if figures["data"]["split"] == "test"
        else "these same images"
    )
    return f"The calibration and the thresholds were fitted on {where}."


def _measured_on(record: ModelRecord) -> str:
    splits = sorted({point.split for point in record.operating_points})
    if splits == ["test"]:
        return "What they do was measured on the test split, which had no part in choosing them."
    return f"What they do was measured on these same images ({', '.join(splits)}): on others the sensitivity will differ."


def _calibration(record: ModelRecord) -> str:
    small, large = record.temperature.small, record.temperature.large
    numbers = (
        f"{large:.3f}"
        if small == large
        else f"{large:.3f} ({small:.3f} below a short side of {SMALL_PX} px)"
    )
    temperature = f"Temperature {numbers}, fitted on the validation split"
    if not any(record.bias):
        return f"{temperature}; no bias by diagnosis."
    bias = (f"{code} {value:+.2f}" for code, value in zip(record.codes, record.bias, strict=True))
    return f"{temperature} together with a bias by diagnosis: {', '.join(bias)}."


def _sets(figures: dict[str, Any]) -> list[str]:
    found = figures.get("prediction_sets")
    if found is None:
        return []
    split = figures["data"]["split"]
    where = (
        "which had no part in fitting them"
        if split == "test"
        else "on which they were fitted: elsewhere it differs"
    )
    return [
        "## Prediction sets",
        (
            f"A set of diagnoses that is to hold the true one for {100 * found['target']:.0f} % of the images of each "
            "diagnosis (class-conditional conformal prediction, Vovk et al. 2005), measured on the "
            f"{split} split, {where}. It held the true one in {figure_of(found, 'overall')} of all images, with "
            f"{figure_of(found, 'size')} diagnoses in the mean; {figure_of(found, 'empty')} of the sets were empty: "
            "no diagnosis fits such a picture."
        ),
        markdown_table(
            ("diagnosis", "n", "true diagnosis in the set"),
            (
                (
                    f"{d.name} ({d.code})",
                    f"{figures['n_by_class'][d.code]:,}",
                    figure_of(found, "coverage", d.code),
                )
                for d in DIAGNOSES
            ),
        ),
    ]


def _thresholds(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    targets = ", ".join(
        f"{both_names(name)} {sensitivity:.2f}" for name, sensitivity in TARGET_SENSITIVITY.items()
    )
    return [
        "## Operating points",
        (
            "The thresholds were chosen on the validation split, each the highest that reaches its sensitivity there: "
            f"{targets}. {_measured_on(record)} A referral at “{shown_name('rule-in')}” does not confirm malignancy."
        ),
        markdown_table(
            (
                "point",
                "refer at malignant probability",
                "sensitivity",
                "specificity",
                "measured on",
            ),
            (
                (
                    both_names(point.name),
                    f"≥ {point.threshold:.3f}",
                    figure_text(point.sensitivity, point.intervals.sensitivity),
                    figure_text(point.specificity, point.intervals.specificity),
                    f"{point.n_malignant:,} malignant, {point.n_benign:,} benign of {point.split}",
                )
                for point in record.operating_points
            ),
        ),
        "## Calibration",
        (
            f"{_calibration(record)} Expected calibration error {figure_of(figures, 'ece')}, before "
            f"calibration {figure_of(figures, 'ece_uncalibrated')}; Brier score {figure_of(figures, 'brier')}, before "
            f"{figure_of(figures, 'brier_uncalibrated')}; on the {figures['data']['split']} split, over "
            f"its mix of diagnoses. {ECE_NOTE}"
        ),
    ]
