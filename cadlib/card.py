"""The model card: every figure out of model.json and metrics.json, none typed.

Its sections follow Mitchell et al., Model Cards for Model Reporting (FAT* 2019).
"""

from collections.abc import Iterable
from typing import Any

from cadlib.decision import TARGET_SENSITIVITY
from cadlib.metadata.trial import FIGURES, Difference, MetadataTrial
from cadlib.record import ModelRecord
from cadlib.summary import DRAWS
from cadlib.tables import across_rows, figure_of, figure_text
from cadlib.taxonomy import DIAGNOSES
from cadlib.validation import LEAKS


def render(record: ModelRecord, figures: dict[str, Any]) -> str:
    """Return the card as Markdown, from a record and the content of its metrics.json."""
    sections = [
        f"# {record.name} {record.version}",
        (
            f"{record.backbone}, {record.input.size_px} × {record.input.size_px} px, made {record.created} by "
            "`python -m cadlib train`. Every figure here comes from model.json and metrics.json beside it."
        ),
        f"**Intended use.** {record.intended_use}",
        f"**Licence.** {record.data_licence}",
        "## Limits",
        "\n".join(f"- {limit}" for limit in record.known_limits),
        *_data(record, figures),
        *_audit(record),
        *_figures(figures),
        *_thresholds(record, figures),
        *_damage(record, figures),
        *_metadata(record.metadata),
        *_across(figures),
    ]
    return "\n\n".join(sections) + "\n"


def _data(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    training = record.training
    config = training.config
    return [
        "## Data and training",
        _table(
            ("split", "images", "lesion groups"),
            ((part, f"{n:,}", f"{training.lesions[part]:,}") for part, n in training.images.items()),
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
    said = f"{record.name} {record.version}: {record.validation_claim}."
    if audit is None:
        return ["## Leak audit", said]
    compared = ", ".join(f"{n:,} of {part}" for part, n in audit.images.items())
    rows = [(what, f"{getattr(audit, name):,}") for name, what in LEAKS.items()]
    rows += [(f"labels that contradict each other: {kind}", f"{n:,}") for kind, n in audit.contradictions.items()]
    return [
        "## Leak audit",
        f"{said} Audited {audit.created} on {audit.dataset}, images: {compared}.",
        _table(("looked for", "found"), rows),
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
        _table(
            ("images", "n", "diagnoses", "balanced accuracy", "malignant AUC", "melanoma AUC", "accuracy", "ECE"),
            (_headline(name, part) for name, part in (("all", figures), *figures["subgroups"].items())),
        ),
        (
            "Balanced accuracy is the mean sensitivity over the diagnoses present in a row. A figure over too few "
            "lesions has no interval. The noise of its bins adds to a calibration error (ECE); its interval is that of "
            "the error without it, and may lie below the figure."
        ),
        _table(
            ("diagnosis", "", "n", "sensitivity", "specificity", "PPV", "NPV", "average precision", "AUC"),
            (
                (
                    f"{d.name} ({d.code})",
                    d.group,
                    f"{figures['n_by_class'][d.code]:,}",
                    *(
                        figure_of(figures, name, d.code)
                        for name in ("sensitivity", "specificity", "ppv", "npv", "average_precision", "auc")
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
        _table(
            ("split", "n", "diagnoses", "balanced accuracy", "malignant AUC", "melanoma AUC", "accuracy", "ECE"),
            (_headline(part["data"]["split"], part) for part in (figures, figures["validation"])),
        ),
    ]


def _use_of_test(figures: dict[str, Any]) -> str:
    used = figures["data"]["split"] == "test"
    return "The test split served for the figures below alone." if used else "The test split has not been used."


def _fitted_on(figures: dict[str, Any]) -> str:
    where = "other images, those of validation" if figures["data"]["split"] == "test" else "these same images"
    return f"The calibration and the thresholds were fitted on {where}."


def _measured_on(record: ModelRecord) -> str:
    splits = sorted({point.split for point in record.operating_points})
    if splits == ["test"]:
        return "What they do was measured on the test split, which had no part in choosing them."
    return (
        f"What they do was measured on these same images ({', '.join(splits)}): on others the sensitivity will differ."
    )


def _calibration(record: ModelRecord) -> str:
    temperature = f"Temperature {record.temperature:.3f}, fitted on the validation split"
    if not any(record.bias):
        return f"{temperature}; no bias by diagnosis."
    bias = (f"{code} {value:+.2f}" for code, value in zip(record.codes, record.bias, strict=True))
    return f"{temperature} together with a bias by diagnosis: {', '.join(bias)}."


def _thresholds(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    targets = ", ".join(f"{name} {sensitivity:.2f}" for name, sensitivity in TARGET_SENSITIVITY.items())
    return [
        "## Operating points",
        (
            "The thresholds were chosen on the validation split, each the highest that reaches its sensitivity there: "
            f"{targets}. {_measured_on(record)}"
        ),
        _table(
            ("point", "refer at malignant probability", "sensitivity", "specificity", "measured on"),
            (
                (
                    point.name,
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
            "its mix of diagnoses."
        ),
    ]


def _across(figures: dict[str, Any]) -> list[str]:
    title, across = "## Across archives", figures.get("across_archives")
    if across is None:
        unknown = "Not measured: how much worse this model does on images from another camera and clinic is not known."
        return [title, f"{unknown} `python -m cadlib across` measures it."]
    recipe = across["recipe"]
    head, *rows = across_rows(across)
    return [
        title,
        (
            f"On images of an archive that was not trained on, {_changes(across['archives'])}. A clinic with another "
            "camera, other patients or another way of choosing and labelling lesions has to expect a change of this "
            "kind against the figures above, and should measure the model on images of its own before relying on it."
        ),
        _table(head, rows),
        (
            f"Each row compares two networks on the same validation images of {across['data']}. They were trained for "
            f"this alone, by a cheap recipe ({recipe['backbone']}, {recipe['input_px']} px, {recipe['epochs']} epochs, "
            f"{across['steps']:,} steps each), and are weaker than this model: the change counts, not the level. "
            f"Probabilities are uncalibrated; in brackets 95 % intervals, from {DRAWS:,} draws of lesions, the same "
            "for both networks."
        ),
    ]


def _changes(archives: dict[str, Any]) -> str:
    """Say from which change to which the two headline figures went."""
    said = []
    for name, title in (("balanced_accuracy", "balanced accuracy"), ("malignant_auc", "the malignant AUC")):
        found = [(part[name]["change"], archive) for archive, part in archives.items()]
        known = sorted((change, archive) for change, archive in found if change is not None)
        span = " to ".join(f"{change:+.3f} ({archive})" for change, archive in (known[0], known[-1])) if known else ""
        said.append(f"{title} changed by {span}" if known else f"the change of {title} is not defined")
    return " and ".join(said)


def _damage(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    if "robustness" not in figures:
        return [
            (
                "What damaged pictures cost has not been measured; "
                f"`python -m cadlib robustness --model {record.name} --data DIR --into-model` measures it."
            )
        ]
    found = figures["robustness"]
    sample, clean, mean = found["sample"], found["clean"], found["mean"]
    of = "all" if found["n"] == sample["of"] else f"a random sample, by {sample['strata']}, of"
    falls = ("balanced_accuracy_fall", "malignant_auc_fall")
    return [
        "## Across damage",
        (
            f"{found['n']:,} images of {found['n_lesions']:,} lesions ({of} the {sample['of']:,} of the "
            f"{found['data']['split']} split), with damage that is computed or drawn: real hair, ink or blur can cost "
            f"more or less. As they are: balanced accuracy {figure_of(clean, 'balanced_accuracy')}, malignant AUC "
            f"{figure_of(clean, 'malignant_auc')}, accuracy {figure_of(clean, 'accuracy')}. A fall is the clean figure "
            "minus the damaged one of the same images, so a negative one is a gain; its interval is paired."
        ),
        _table(
            ("damage", "balanced accuracy, mean fall", "at strength 5", "malignant AUC, mean fall", "at strength 5",
             "error, relative to clean"),
            [
                *(
                    (
                        name,
                        *(figure_of(part, fall, key) for fall in falls for key in ("mean", "5")),
                        figure_text(part["relative_error"]),
                    )
                    for name, part in found["corruptions"].items()
                ),
                (
                    "mean of all",
                    *(cell for fall in falls for cell in (figure_of(mean, fall), "")),
                    figure_text(mean["relative_error"]),
                ),
            ],
        ),
        (
            "Means are over five strengths, from hardly visible to severe. The last column is the error (1 minus "
            "balanced accuracy) over the five, divided by the clean error: 1 where damage does no harm."
        ),
        _turned(found["flips"]),
        _for_a_clinic(found),
    ]  # fmt: skip


def _turned(flips: dict[str, Any]) -> str:
    return (
        "The same picture flipped or turned by quarters, in seven ways: the top diagnosis changes in "
        f"{_percent_of(flips, 'mean')} of pictures; {_percent_of(flips, 'any')} of images change in at least one of "
        f"the seven. The malignant probability moves by {figure_of(flips, 'malignant_shift')} in the mean, and by "
        f"more than {figure_text(flips['malignant_shift_95th_percentile'])} in one picture of twenty."
    )


def _for_a_clinic(found: dict[str, Any]) -> str:
    fall, clean = "balanced_accuracy_fall", found["clean"]["balanced_accuracy"]
    known = {name: part for name, part in found["corruptions"].items() if part[fall]["mean"] is not None}
    order = sorted(known, key=lambda name: -known[name][fall]["mean"])
    if not order:
        return "**For a clinic.** No fall is defined on these images, so nothing follows from them."
    worst = ", ".join(
        f"{name} ({figure_text(clean)} to {figure_text(known[name]['balanced_accuracy']['5'])})" for name in order[:3]
    )
    return (
        f"**For a clinic.** What costs most is {worst}; in brackets balanced accuracy before and at strength 5. Take a "
        "picture with such damage anew rather than rely on its answer: the figures above this section do not hold for "
        f"it. What costs least is {' and '.join(order[:-3:-1])}. An answer that changes when the picture is turned is "
        "none to rely on."
    )


def _percent_of(flips: dict[str, Any], key: str) -> str:
    value, interval = flips["rate"][key], flips["intervals"]["rate"][key]
    between = f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    return "a share that is not defined" if value is None else f"{100 * value:.1f} %{between}"


def _metadata(trial: MetadataTrial | None) -> list[str]:
    if trial is None:
        return []
    kept = (
        "They help in every archive, so the model takes them."
        if trial.evidence
        else "They were tried and did not help in every archive, so the model takes none."
    )
    return [
        "## Age, sex and site",
        (
            f"What these three say, added to what the picture says. {kept} How the figures change on validation images "
            "by fits without the lesion, with 95 % intervals; the specificity is that at 95 % sensitivity."
        ),
        _table(
            ("images", *(name.replace("_", " ") for name in FIGURES)),
            ((part, *(_change(found) for found in figures.values())) for part, figures in trial.differences.items()),
        ),
    ]


def _change(found: Difference) -> str:
    if found.before is None or found.after is None or found.low is None:
        return "not defined"
    return f"{found.after - found.before:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
