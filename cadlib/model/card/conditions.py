"""The sections of the card on other conditions: damaged pictures, an archive not trained on, age, sex and site."""

from typing import Any

from cadlib import command_hints
from cadlib.metrics.summary import DRAWS
from cadlib.metrics.tables import across_rows, figure_of, figure_text, markdown_table
from cadlib.model.metadata.trial import FIGURES, Difference, MetadataTrial
from cadlib.model.record import ModelRecord


def across(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Say what networks lost on an archive that they were not trained on, or that nobody measured it."""
    title, found = "## Across archives", figures.get("across_archives")
    if found is None:
        unknown = "Not measured: how much worse this model does on images from another camera and clinic is not known."
        return [title, f"{unknown} `{command_hints.across_into(record.name)}` measures it."]
    recipe = found["recipe"]
    head, *rows = across_rows(found)
    return [
        title,
        (
            f"On images of an archive that was not trained on, {_changes(found['archives'])}. A clinic with another "
            "camera, other patients or another way of choosing and labelling lesions has to expect a change of this "
            "kind against the figures above, and should measure the model on images of its own before relying on it."
        ),
        markdown_table(head, rows),
        (
            f"Each row compares two networks on the same validation images of {found['data']}. They were trained for "
            f"this alone, by a cheap recipe ({recipe['backbone']}, {recipe['input_px']} px, {recipe['epochs']} epochs, "
            f"{found['steps']:,} steps each), and are weaker than this model: the change counts, not the level. "
            f"Probabilities are uncalibrated; in brackets 95 % intervals, from {DRAWS:,} draws of lesions, the same "
            "for both networks."
        ),
    ]


def _changes(archives: dict[str, Any]) -> str:
    """Say from which change to which the two headline figures went."""
    said = []
    for name, title in (
        ("balanced_accuracy", "balanced accuracy"),
        ("malignant_auc", "the malignant AUC"),
    ):
        found = [(part[name]["change"], archive) for archive, part in archives.items()]
        known = sorted((change, archive) for change, archive in found if change is not None)
        span = (
            " to ".join(f"{change:+.3f} ({archive})" for change, archive in (known[0], known[-1]))
            if known
            else ""
        )
        said.append(
            f"{title} changed by {span}" if known else f"the change of {title} is not defined"
        )
    return " and ".join(said)


def damage(record: ModelRecord, figures: dict[str, Any]) -> list[str]:
    """Say what damaged and turned pictures cost, or that nobody measured it."""
    if "robustness" not in figures:
        command = command_hints.robustness_into(record.name)
        return [f"What damaged pictures cost has not been measured; `{command}` measures it."]
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
        markdown_table(
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
        f"{_percent_of(flips, 'mean')} of the views, and in at least one of the seven for "
        f"{_percent_of(flips, 'any')} of the images. "
        f"The malignant probability moves by {figure_of(flips, 'malignant_shift')} in the mean, and by "
        f"more than {figure_text(flips['malignant_shift_95th_percentile'])} in one view of twenty."
    )


def _for_a_clinic(found: dict[str, Any]) -> str:
    fall, clean = "balanced_accuracy_fall", found["clean"]["balanced_accuracy"]
    known = {
        name: part for name, part in found["corruptions"].items() if part[fall]["mean"] is not None
    }
    order = sorted(known, key=lambda name: -known[name][fall]["mean"])
    if not order:
        return "**For a clinic.** No fall is defined on these images, so nothing follows from them."
    worst = ", ".join(
        f"{name} ({figure_text(clean)} to {figure_text(known[name]['balanced_accuracy']['5'])})"
        for name in order[:3]
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


def metadata(trial: MetadataTrial | None) -> list[str]:
    """Say whether the model takes age, sex and site, and by how much they helped; nothing where it was not tried."""
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
        markdown_table(
            ("images", *(name.replace("_", " ") for name in FIGURES)),
            (
                (part, *(_change(found) for found in figures.values()))
                for part, figures in trial.differences.items()
            ),
        ),
    ]


def _change(found: Difference) -> str:
    if found.before is None or found.after is None or found.low is None:
        return "not defined"
    return f"{found.after - found.before:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
