"""The figures of metrics.json as text: single ones with their interval, and aligned tables for a terminal."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.metrics.operating_point import both_names, two_digits
from cadlib.metrics.summary import ECE_INTERVAL
from cadlib.taxonomy import CLASSES, Diagnosis

Row = tuple[str, ...]


def figure_text(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a figure with three digits, and its interval where there is one; or that it is not defined."""
    if value is None:
        return "not defined"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})" if interval else f"{value:.3f}"


def short_text(value: float, interval: Sequence[float] | None = None) -> str:
    """Return a share with two digits for a sentence: "0.86 (95 % CI 0.84 to 0.88)"."""
    if not interval:
        return two_digits(value)
    low, high = map(two_digits, interval)
    return f"{two_digits(value)} (95 % CI {low} to {high})"


def figure_of(part: dict[str, Any], name: str, key: str | None = None) -> str:
    """Return a figure of metrics.json, or of one of its subgroups, with its interval as text."""
    value, interval = part[name], part["intervals"][name]
    return (
        figure_text(value, interval)
        if key is None
        else figure_text(value[key], interval and interval[key])
    )


def metrics_table(figures: dict[str, Any]) -> str:
    """Return metrics as aligned text: headline figures, then the classes, operating points and subgroups."""
    images = Counts.of(figures)
    tables = (_headline(figures), _classes(figures), _points(figures), _groups(figures))
    blocks = [_aligned(rows) for rows in tables if len(rows) > 1]
    if images.n and not images.diagnosed:
        blocks[1] = NO_DIAGNOSIS_NOTE  # in place of eight rows in which nothing is defined
    return "\n\n".join([_heading(figures), *blocks])


def robustness_table(figures: dict[str, Any]) -> str:
    """Return the figures of `robustness` as aligned text: the clean ones, a row a corruption, a row a turn."""
    model, data, clean, flips = (figures[key] for key in ("model", "data", "clean", "flips"))
    names = {
        "balanced_accuracy": "balanced accuracy",
        "malignant_auc": "AUC malignant/benign",
        "accuracy": "accuracy",
    }
    before = (
        (text, *_columns(clean[merit], clean["intervals"][merit])) for merit, text in names.items()
    )
    shares = {"mean": "mean, a share of the views", "any": "in any view, a share of the images"}
    rates = flips["rate"].items()
    turns = (
        (shares.get(turn, turn), *_columns(rate, flips["intervals"]["rate"][turn]))
        for turn, rate in rates
    )
    shift = _columns(flips["malignant_shift"], flips["intervals"]["malignant_shift"])
    heading = (
        f"{model['name']} {model['version']} on {data['name']} {data['split']}: {figures['n']:,} images of "
        f"{figures['n_lesions']:,} lesions, of {figures['sample']['of']:,} images in all"
    )
    tables = (
        [("picture as it is", "value", "95 % interval"), *before],
        _damages(figures),
        [("picture held otherwise", "top diagnosis flips", "95 % interval"), *turns],
        [("malignant probability", "moves by", "95 % interval"), ("mean over the seven", *shift)],
    )
    return "\n\n".join([heading, *map(_aligned, tables)])


def neighbours_table(figures: dict[str, Any]) -> str:
    """Return the figures of similar cases as aligned text: how often they, their vote and the model are right."""
    found = figures["neighbours"]
    names = {
        "precision": f"similar cases with the true diagnosis, of {found['k']}",
        "by_chance": "training images drawn at random",
        "vote_accuracy": "their most frequent diagnosis is the true one",
        "model_accuracy": "the model's first diagnosis is the true one",
    }
    overall = (
        (text, *_columns(found[name], found["intervals"][name])) for name, text in names.items()
    )
    within = found["intervals"]["right_when_agreeing"]
    agreeing = (
        (f"{count}, {n:,} images", *_columns(found["right_when_agreeing"][count], within[count]))
        for count, n in found["n_agreeing"].items()
    )
    of = f"{found['n']:,} images of {found['n_lesions']:,} lesions of the {found['data']['split']} split"
    tables = (
        [(of, "share", "95 % interval"), *overall],
        [
            ("cases that have the model's first diagnosis", "it is right", "95 % interval"),
            *agreeing,
        ],
    )
    return "\n\n".join(map(_aligned, tables))


def _damages(figures: dict[str, Any]) -> list[Row]:
    def cells(part: dict[str, Any], merit: str) -> Row:
        fall, between = part[f"{merit}_fall"], part["intervals"][f"{merit}_fall"]
        return (
            figure_text(fall["1"]),
            figure_text(fall["5"]),
            *_columns(fall["mean"], between["mean"]),
        )

    merits, mean = ("balanced_accuracy", "malignant_auc"), figures["mean"]
    rows = (
        (
            name,
            *(cell for merit in merits for cell in cells(part, merit)),
            figure_text(part["relative_error"]),
        )
        for name, part in figures["corruptions"].items()
    )
    means = (
        _columns(mean[f"{merit}_fall"], mean["intervals"][f"{merit}_fall"]) for merit in merits
    )
    head = ("strength 1", "strength 5", "mean", "95 % interval")
    return [
        ("fall of", "balanced", "accuracy", "", "", "malignant", "AUC", "", "", "error"),
        ("damage", *head, *head, "of clean"),
        *rows,
        (
            "all",
            *(cell for pair in means for cell in ("", "", *pair)),
            figure_text(mean["relative_error"]),
        ),
    ]


def saliency_rows(figures: dict[str, Any]) -> list[Row]:
    """Return the table of `saliency` with its head: a row a method, then the maps that know nothing."""
    names = (
        "faithfulness",
        "gain",
        "stability",
        "unreadable",
        "untrained_likeness",
        "untrained_faithfulness",
    )
    return [
        ("map", *(name.replace("_", ", ") for name in names)),
        *(
            (
                key,
                *(figure_of(figures, name, key) if key in figures[name] else "" for name in names),
            )
            for key in figures["faithfulness"]
        ),
    ]


def saliency_table(figures: dict[str, Any]) -> str:
    """Return the figures of `saliency` as aligned text."""
    model, data, limits = figures["model"], figures["data"], figures["limits"]
    heading = (
        f"{model['name']} {model['version']} on {data['name']} {data['split']}: {figures['n']:,} images of "
        f"{figures['n_lesions']:,} lesions, of {figures['sample']['of']:,} images in all"
    )
    below = (
        f"95 % of the random maps: faithfulness up to {figure_text(limits['faithfulness'])}, "
        f"likeness up to {figure_text(limits['stability'])}"
    )
    return "\n\n".join([heading, _aligned(saliency_rows(figures)), below])


def across_rows(across: dict[str, Any]) -> list[Row]:
    """Return the head and three rows an archive: figures with and without it in training, and the change."""
    head = (
        "archive left out",
        "n",
        "diagnoses",
        "figure",
        "trained with it",
        "trained without it",
        "change",
    )
    names = {
        "balanced_accuracy": "balanced accuracy",
        "malignant_auc": "malignant AUC",
        "melanoma_auc": "melanoma AUC",
    }
    rows = (
        (
            archive,
            f"{part['n']:,}",
            str(part["n_classes"]),
            title,
            *(
                figure_text(part[name][key], part["intervals"][name][key])
                for key in ("with", "without")
            ),
            change_text(part[name]["change"], part["intervals"][name]["change"]),
        )
        for archive, part in across["archives"].items()
        for name, title in names.items()
    )
    return [head, *rows]


def change_text(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a difference with its sign and three digits, and its interval where there is one."""
    if value is None:
        return "not defined"
    return (
        f"{value:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else f"{value:+.3f}"
    )


def across_table(across: dict[str, Any]) -> str:
    """Return what networks lose on an archive they were not trained on as aligned text."""
    return _aligned(across_rows(across))


def _heading(figures: dict[str, Any]) -> str:
    model, data = figures.get("model"), figures.get("data")
    names = [f"{model['name']} {model['version']}"] if model else []
    names += (
        [f"{data['name']}, {data['split']} split" if "split" in data else data["name"]]
        if data
        else []
    )
    images = Counts.of(figures)
    counts = [f"{images.n:,} images with a label"]
    counts += [f"{images.diagnosed:,} of them with a diagnosis"] if images.partial else []
    counts += [f"{figures[key]:,} {key}" for key in ("unlabelled", "unknown") if figures[key]]
    counts += [f"{len(figures['rejected']):,} not readable"] if figures.get("rejected") else []
    return ": ".join(filter(None, (" on ".join(names), ", ".join(counts))))


def _diagnoses(figures: dict[str, Any]) -> tuple[Diagnosis, ...]:
    return CLASSES[len(figures["n_by_class"])].diagnoses


def _headline(figures: dict[str, Any]) -> list[Row]:
    images = Counts.of(figures)
    n = images.diagnosed
    both = f"n = {images.malignant_text}"
    over = {
        "balanced_accuracy": ("balanced accuracy", f"n = {n:,} of {figures['n_classes']} classes"),
        "accuracy": ("accuracy", f"n = {n:,}"),
        "malignant_auc": ("AUC malignant/benign", both),
        "malignant_average_precision": ("average precision malignant", both),
        "ece": ("calibration error (ECE)", f"n = {n:,}; {ECE_INTERVAL}"),
        "malignant_ece": ("calibration error, malignant", f"n = {images.n:,}"),
        "brier": ("Brier score (0 to 2)", f"n = {n:,}"),
    }
    over = {
        name: row for name, row in over.items() if name in figures
    }  # an earlier version has fewer
    rows = (
        (text, *_columns(figures[name], figures["intervals"][name]), note)
        for name, (text, note) in over.items()
    )
    return [("figure", "value", "95 % interval"), *rows]


def _classes(figures: dict[str, Any]) -> list[Row]:
    names = {
        "sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV",
        "average_precision": "av. precision", "auc": "AUC",
    }  # fmt: skip
    width = max(map(len, figures["n_by_class"]), default=0) + 1
    rows = (
        (
            f"{d.code:<{width}}{d.name}",
            f"{figures['n_by_class'][d.code]:,}",
            *(figure_text(figures[name][d.code]) for name in names),
            _columns(0.0, figures["intervals"]["auc"][d.code])[1],
        )
        for d in _diagnoses(figures)
    )
    return [("diagnosis", "n", *names.values(), "95 % interval"), *rows]


def _points(figures: dict[str, Any]) -> list[Row]:
    rows = (
        (
            both_names(point["name"]),
            figure_text(point["threshold"]),
            *_columns(point["sensitivity"], point["intervals"]["sensitivity"]),
            *_columns(point["specificity"], point["intervals"]["specificity"]),
        )
        for point in figures["operating_points"]
    )
    return [
        (
            "operating point",
            "threshold",
            "sensitivity",
            "95 % interval",
            "specificity",
            "95 % interval",
        ),
        *rows,
    ]


def _groups(figures: dict[str, Any]) -> list[Row]:
    keys = ("balanced_accuracy", "malignant_auc")
    groups = [(name, group, Counts.of(group)) for name, group in figures["subgroups"].items()]
    some_diagnosed = any(
        counts.diagnosed for _, _, counts in groups
    )  # else the heading has said it of all
    rows = (
        (
            name,
            counts.n_text if some_diagnosed else f"{counts.n:,}",
            str(group["n_classes"]),
            *(cell for key in keys for cell in _columns(group[key], group["intervals"][key])),
        )
        for name, group, counts in groups
    )
    head = ("balanced accuracy", "95 % interval", "AUC malignant/benign", "95 % interval")
    return [("subgroup", "n", "classes", *head), *rows]


def _columns(value: float | None, interval: Sequence[float] | None) -> Row:
    return figure_text(
        value
    ), f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "not defined"


def _aligned(rows: Sequence[Row]) -> str:
    """Pad to columns: names to the left, figures to the right, a note after them as it is."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    return "\n".join(
        "  ".join(
            cell if cell.startswith("n = ") else cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        for row in rows
    )


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a head and its rows as a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
