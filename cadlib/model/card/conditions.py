"""Writes the model card's sections on damage, other archives and facts."""

from typing import Any

from cadlib import command_hints
from cadlib.metrics.summary import DRAWS
from cadlib.metrics.tables import across_rows, figure_of, figure_text, markdown_table
from cadlib.model.metadata.trial import FIGURES, Difference, MetadataTrial
from cadlib.model.record import ModelRecord


def across(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Return what networks lost on an archive that they were not trained on."""
    title = "## Across archives"
    measured = figures.get("across_archives")
    if measured is None:
        command = command_hints.across_into(record.name)
        return [
            title,
            (
                "Not measured: how much worse this model does on images from another camera and "
                f"clinic is not known. `{command}` measures it."
            ),
        ]
    head, *rows = across_rows(measured)
    return [
        title,
        (
            "On images of an archive that was not trained on, "
            f"{_changes(measured['archives'])}. A clinic with another camera, other patients or "
            "another way of choosing and labelling lesions has to expect a change of this kind "
            "against the figures above, and should measure the model on images of its own before "
            "relying on it."
        ),
        markdown_table(head, rows),
        _method_across(measured),
    ]


def _method_across(measured: dict[str, Any]) -> str:
    recipe = measured["recipe"]
    return (
        f"Each row compares two networks on the same validation images of {measured['data']}. "
        f"They were trained for this alone, by a cheap recipe ({recipe['backbone']}, "
        f"{recipe['input_px']} px, {recipe['epochs']} epochs, {measured['steps']:,} steps each), "
        "and are weaker than this model: the change counts, not the level. Probabilities are "
        f"uncalibrated; in brackets 95 % intervals, from {DRAWS:,} draws of lesions, the same for "
        "both networks."
    )


def _changes(archives: dict[str, Any]) -> str:
    """Return the range of the changes of the two headline figures in words."""
    accuracy = _change_range(archives, "balanced_accuracy", "balanced accuracy")
    auc = _change_range(archives, "malignant_auc", "the malignant AUC")
    return f"{accuracy} and {auc}"


def _change_range(archives: dict[str, Any], name: str, title: str) -> str:
    changes: list[tuple[float, str]] = []
    for archive, part in archives.items():
        change = part[name]["change"]
        if change is not None:
            changes.append((change, archive))
    if not changes:
        return f"the change of {title} is not defined"
    least, least_archive = min(changes)
    most, most_archive = max(changes)
    return f"{title} changed by {least:+.3f} ({least_archive}) to {most:+.3f} ({most_archive})"


def damage(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Return the cost of damaged and rotated images, or that it was not measured."""
    if "robustness" not in figures:
        command = command_hints.robustness_into(record.name)
        return [f"What damaged pictures cost has not been measured; `{command}` measures it."]
    measured = figures["robustness"]
    clean = measured["clean"]
    return [
        "## Across damage",
        (
            f"{measured['n']:,} images of {measured['n_lesions']:,} lesions "
            f"({_sample(measured)} of the {measured['data']['split']} split), with damage that is "
            "computed or drawn: real hair, ink or blur can cost more or less. As they are: "
            f"balanced accuracy {figure_of(clean, 'balanced_accuracy')}, malignant AUC "
            f"{figure_of(clean, 'malignant_auc')}, accuracy {figure_of(clean, 'accuracy')}. A fall "
            "is the clean figure minus the damaged one of the same images, so a negative one is a "
            "gain; its interval is paired."
        ),
        _damage_table(measured),
        (
            "Means are over five strengths, from hardly visible to severe. The last column is the "
            "error (1 minus balanced accuracy) over the five, divided by the clean error: 1 where "
            "damage does no harm."
        ),
        _turned(measured["flips"]),
        _for_a_clinic(measured),
    ]


def _sample(measured: dict[str, Any]) -> str:
    """Return how the images were sampled from those of the split."""
    sample = measured["sample"]
    which = "all"
    if measured["n"] != sample["of"]:
        which = f"a random sample, by {sample['strata']}, of"
    return f"{which} the {sample['of']:,}"


def _damage_table(measured: dict[str, Any]) -> str:
    head = (
        "damage",
        "balanced accuracy, mean fall",
        "at strength 5",
        "malignant AUC, mean fall",
        "at strength 5",
        "error, relative to clean",
    )
    rows: list[tuple[str, ...]] = []
    for name, part in measured["corruptions"].items():
        row = (
            name,
            figure_of(part, "balanced_accuracy_fall", "mean"),
            figure_of(part, "balanced_accuracy_fall", "5"),
            figure_of(part, "malignant_auc_fall", "mean"),
            figure_of(part, "malignant_auc_fall", "5"),
            figure_text(part["relative_error"]),
        )
        rows.append(row)
    mean = measured["mean"]
    last = (
        "mean of all",
        figure_of(mean, "balanced_accuracy_fall"),
        "",
        figure_of(mean, "malignant_auc_fall"),
        "",
        figure_text(mean["relative_error"]),
    )
    rows.append(last)
    return markdown_table(head, rows)


def _turned(flips: dict[str, Any]) -> str:
    percentile = figure_text(flips["malignant_shift_95th_percentile"])
    return (
        "The same picture flipped or turned by quarters, in seven ways: the top diagnosis changes "
        f"in {_percent_of(flips, 'mean')} of the views, and in at least one of the seven for "
        f"{_percent_of(flips, 'any')} of the images. The malignant probability moves by "
        f"{figure_of(flips, 'malignant_shift')} in the mean, and by more than {percentile} in one "
        "view of twenty."
    )


def _for_a_clinic(measured: dict[str, Any]) -> str:
    clean = figure_text(measured["clean"]["balanced_accuracy"])
    falls: dict[str, float] = {}
    for name, part in measured["corruptions"].items():
        fall = part["balanced_accuracy_fall"]["mean"]
        if fall is not None:
            falls[name] = fall
    order = sorted(falls, key=lambda name: -falls[name])
    if not order:
        return "**For a clinic.** No fall is defined on these images, so nothing follows from them."
    worst: list[str] = []
    for name in order[:3]:
        damaged = measured["corruptions"][name]["balanced_accuracy"]["5"]
        worst.append(f"{name} ({clean} to {figure_text(damaged)})")
    # The last two, the least costly first.
    least = order[:-3:-1]
    return (
        f"**For a clinic.** The most costly kinds of damage are {', '.join(worst)}; in brackets balanced "
        "accuracy before and at strength 5. Take another image instead of relying on the result "
        "for such an image: the metrics above this section do not hold for it. The least costly "
        f"kinds are {' and '.join(least)}. Do not rely on a result that changes when the image is "
        "rotated or mirrored."
    )


def _percent_of(flips: dict[str, Any], key: str) -> str:
    value = flips["rate"][key]
    interval = flips["intervals"]["rate"][key]
    if value is None:
        return "a share that is not defined"
    percent = f"{100 * value:.1f} %"
    if not interval:
        return percent
    low, high = interval
    low_percent = f"{100 * low:.1f}"
    high_percent = f"{100 * high:.1f}"
    return f"{percent} ({low_percent} to {high_percent})"


def metadata(trial: MetadataTrial | None) -> list[str]:
    """Return the use and the effect of age, sex and site; nothing without a trial."""
    if trial is None:
        return []
    decision = "They were tried and did not help in every archive, so the model takes none."
    if trial.evidence is not None:
        decision = "They help in every archive, so the model takes them."
    names = [name.replace("_", " ") for name in FIGURES]
    rows: list[tuple[str, ...]] = []
    for part, differences in trial.differences.items():
        cells = [_change(difference) for difference in differences.values()]
        rows.append((part, *cells))
    return [
        "## Age, sex and site",
        (
            f"What these three say, added to what the picture says. {decision} How the figures "
            "change on validation images by fits without the lesion, with 95 % intervals; the "
            "specificity is that at 95 % sensitivity."
        ),
        markdown_table(("images", *names), rows),
    ]


def _change(difference: Difference) -> str:
    before = difference.before
    after = difference.after
    low = difference.low
    high = difference.high
    if before is None or after is None or low is None:
        return "not defined"
    return f"{after - before:+.3f} ({low:+.3f} to {high:+.3f})"
