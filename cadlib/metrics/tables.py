"""Formats the metrics of metrics.json as text: single values and aligned tables."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.metrics.operating_point import both_names, two_digits
from cadlib.metrics.summary import ECE_INTERVAL
from cadlib.taxonomy import CLASSES, Diagnosis

Row = tuple[str, ...]


def figure_text(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a metric with three digits and its interval, if any; "not defined" for None."""
    if value is None:
        return "not defined"
    if not interval:
        return f"{value:.3f}"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def short_text(value: float, interval: Sequence[float] | None = None) -> str:
    """Return a share with two digits for a sentence: "0.86 (95 % CI 0.84 to 0.88)"."""
    if not interval:
        return two_digits(value)
    low, high = map(two_digits, interval)
    return f"{two_digits(value)} (95 % CI {low} to {high})"


def figure_of(part: dict[str, Any], name: str, key: str | None = None) -> str:
    """Return a metric of metrics.json, or of one of its subgroups, with its interval as text."""
    value = part[name]
    interval = part["intervals"][name]
    if key is None:
        return figure_text(value, interval)
    key_interval = interval and interval[key]
    return figure_text(value[key], key_interval)


def metrics_table(figures: dict[str, Any]) -> str:
    """Return metrics as aligned text: main ones, then classes, operating points and subgroups."""
    images = Counts.of(figures)
    tables = (
        _headline(figures),
        _classes(figures),
        _points(figures),
        _groups(figures),
    )
    # A table with only its head has nothing to show.
    blocks = [_aligned(rows) for rows in tables if len(rows) > 1]
    if images.n and not images.diagnosed:
        # One note replaces eight rows in which nothing is defined.
        blocks[1] = NO_DIAGNOSIS_NOTE
    return "\n\n".join([_heading(figures), *blocks])


def robustness_table(figures: dict[str, Any]) -> str:
    """Return the metrics of `robustness` as aligned text.

    The blocks are the clean images, a row for each corruption, a row for each rotation or
    reflection, and the shift of the malignant probability.
    """
    tables = (
        _clean_rows(figures["clean"]),
        _damages(figures),
        _flip_rows(figures["flips"]),
        _shift_rows(figures["flips"]),
    )
    blocks = [_aligned(rows) for rows in tables]
    return "\n\n".join([_sample_heading(figures), *blocks])


def _sample_heading(figures: dict[str, Any]) -> str:
    model = figures["model"]
    data = figures["data"]
    return (
        f"{model['name']} {model['version']} on {data['name']} {data['split']}: "
        f"{figures['n']:,} images of {figures['n_lesions']:,} lesions, "
        f"of {figures['sample']['of']:,} images in all"
    )


def _clean_rows(clean: dict[str, Any]) -> list[Row]:
    names = {
        "balanced_accuracy": "balanced accuracy",
        "malignant_auc": "AUC malignant/benign",
        "accuracy": "accuracy",
    }
    rows: list[Row] = [("original image", "value", "95 % interval")]
    for metric, text in names.items():
        columns = _columns(clean[metric], clean["intervals"][metric])
        rows.append((text, *columns))
    return rows


def _flip_rows(flips: dict[str, Any]) -> list[Row]:
    shares = {"mean": "mean, a share of the views", "any": "in any view, a share of the images"}
    intervals = flips["intervals"]["rate"]
    rows: list[Row] = [("rotated or mirrored image", "top diagnosis flips", "95 % interval")]
    for view, rate in flips["rate"].items():
        text = shares.get(view, view)
        rows.append((text, *_columns(rate, intervals[view])))
    return rows


def _shift_rows(flips: dict[str, Any]) -> list[Row]:
    interval = flips["intervals"]["malignant_shift"]
    shift = _columns(flips["malignant_shift"], interval)
    return [
        ("malignant probability", "moves by", "95 % interval"),
        ("mean over the seven", *shift),
    ]


def neighbours_table(figures: dict[str, Any]) -> str:
    """Return the metrics of similar cases as aligned text.

    They are how often the cases, their vote and the model are right.
    """
    neighbours = figures["neighbours"]
    cases = _aligned(_case_rows(neighbours))
    agreement = _aligned(_agreement_rows(neighbours))
    return f"{cases}\n\n{agreement}"


def _case_rows(neighbours: dict[str, Any]) -> list[Row]:
    names = {
        "precision": f"similar cases with the true diagnosis, of {neighbours['k']}",
        "by_chance": "training images drawn at random",
        "vote_accuracy": "their most frequent diagnosis is the true one",
        "model_accuracy": "the model's first diagnosis is the true one",
    }
    heading = (
        f"{neighbours['n']:,} images of {neighbours['n_lesions']:,} lesions "
        f"of the {neighbours['data']['split']} split"
    )
    rows: list[Row] = [(heading, "share", "95 % interval")]
    for name, text in names.items():
        columns = _columns(neighbours[name], neighbours["intervals"][name])
        rows.append((text, *columns))
    return rows


def _agreement_rows(neighbours: dict[str, Any]) -> list[Row]:
    shares = neighbours["right_when_agreeing"]
    intervals = neighbours["intervals"]["right_when_agreeing"]
    rows: list[Row] = [
        ("cases that have the model's first diagnosis", "it is right", "95 % interval")
    ]
    for count, n in neighbours["n_agreeing"].items():
        columns = _columns(shares[count], intervals[count])
        rows.append((f"{count}, {n:,} images", *columns))
    return rows


def _damages(figures: dict[str, Any]) -> list[Row]:
    """Return a row for each corruption and one for their mean, after two rows of headings."""
    metrics = ("balanced_accuracy", "malignant_auc")
    head = ("strength 1", "strength 5", "mean", "95 % interval")
    rows: list[Row] = [
        ("fall of", "balanced", "accuracy", "", "", "malignant", "AUC", "", "", "error"),
        ("damage", *head, *head, "of clean"),
    ]
    for name, part in figures["corruptions"].items():
        cells = [name]
        for metric in metrics:
            cells += _fall_cells(part, metric)
        cells.append(figure_text(part["relative_error"]))
        rows.append(tuple(cells))
    mean = figures["mean"]
    cells = ["all"]
    for metric in metrics:
        fall = f"{metric}_fall"
        # The mean has no values for single strengths.
        cells += ["", "", *_columns(mean[fall], mean["intervals"][fall])]
    cells.append(figure_text(mean["relative_error"]))
    rows.append(tuple(cells))
    return rows


def _fall_cells(part: dict[str, Any], metric: str) -> Row:
    """Return the fall of a metric at the weakest and strongest damage, and their mean."""
    name = f"{metric}_fall"
    fall = part[name]
    intervals = part["intervals"][name]
    weakest = figure_text(fall["1"])
    strongest = figure_text(fall["5"])
    mean_columns = _columns(fall["mean"], intervals["mean"])
    return (weakest, strongest, *mean_columns)


def saliency_rows(figures: dict[str, Any]) -> list[Row]:
    """Return the table of `saliency` with its head: a row for each method, then for baselines."""
    names = (
        "faithfulness",
        "gain",
        "stability",
        "unreadable",
        "untrained_likeness",
        "untrained_faithfulness",
    )
    headings = [name.replace("_", ", ") for name in names]
    rows: list[Row] = [("map", *headings)]
    for key in figures["faithfulness"]:
        cells = [key]
        for name in names:
            # A baseline map has only some of the metrics.
            cell = figure_of(figures, name, key) if key in figures[name] else ""
            cells.append(cell)
        rows.append(tuple(cells))
    return rows


def saliency_table(figures: dict[str, Any]) -> str:
    """Return the metrics of `saliency` as aligned text."""
    limits = figures["limits"]
    below = (
        f"95 % of the random maps: faithfulness up to {figure_text(limits['faithfulness'])}, "
        f"likeness up to {figure_text(limits['stability'])}"
    )
    table = _aligned(saliency_rows(figures))
    return "\n\n".join([_sample_heading(figures), table, below])


def across_rows(across: dict[str, Any]) -> list[Row]:
    """Return the head and three rows for each archive.

    The rows have the metrics with and without the archive in training, and the change.
    """
    names = {
        "balanced_accuracy": "balanced accuracy",
        "malignant_auc": "malignant AUC",
        "melanoma_auc": "melanoma AUC",
    }
    rows: list[Row] = [
        (
            "excluded archive",
            "n",
            "diagnoses",
            "metric",
            "trained with it",
            "trained without it",
            "difference",
        )
    ]
    for archive, part in across["archives"].items():
        for name, title in names.items():
            values = part[name]
            intervals = part["intervals"][name]
            rows.append(
                (
                    archive,
                    f"{part['n']:,}",
                    str(part["n_classes"]),
                    title,
                    figure_text(values["with"], intervals["with"]),
                    figure_text(values["without"], intervals["without"]),
                    change_text(values["change"], intervals["change"]),
                )
            )
    return rows


def change_text(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a difference with its sign and three digits, and its interval, if any."""
    if value is None:
        return "not defined"
    if not interval:
        return f"{value:+.3f}"
    return f"{value:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})"


def across_table(across: dict[str, Any]) -> str:
    """Return the loss of networks on an archive left out of their training, as aligned text."""
    return _aligned(across_rows(across))


def _heading(figures: dict[str, Any]) -> str:
    """Return the model, the data set and the numbers of images, as far as they are stored."""
    names = []
    model = figures.get("model")
    if model:
        names.append(f"{model['name']} {model['version']}")
    data = figures.get("data")
    if data:
        split = f", {data['split']} split" if "split" in data else ""
        names.append(f"{data['name']}{split}")
    title = " on ".join(names)
    counts = ", ".join(_count_texts(figures))
    return f"{title}: {counts}" if title else counts


def _count_texts(figures: dict[str, Any]) -> list[str]:
    images = Counts.of(figures)
    texts = [f"{images.n:,} images with a label"]
    if images.partial:
        texts.append(f"{images.diagnosed:,} of them with a diagnosis")
    texts += [f"{figures[key]:,} {key}" for key in ("unlabelled", "unknown") if figures[key]]
    if figures.get("rejected"):
        texts.append(f"{len(figures['rejected']):,} not readable")
    return texts


def _diagnoses(figures: dict[str, Any]) -> tuple[Diagnosis, ...]:
    return CLASSES[len(figures["n_by_class"])].diagnoses


def _headline(figures: dict[str, Any]) -> list[Row]:
    images = Counts.of(figures)
    n = f"n = {images.diagnosed:,}"
    groups = f"n = {images.malignant_text}"
    # Name -> its text, and a note on the images behind it.
    texts = {
        "balanced_accuracy": ("balanced accuracy", f"{n} of {figures['n_classes']} classes"),
        "accuracy": ("accuracy", n),
        "malignant_auc": ("AUC malignant/benign", groups),
        "malignant_average_precision": ("average precision malignant", groups),
        "ece": ("calibration error (ECE)", f"{n}; {ECE_INTERVAL}"),
        "malignant_ece": ("calibration error, malignant", f"n = {images.n:,}"),
        "brier": ("Brier score (0 to 2)", n),
    }
    rows: list[Row] = [("figure", "value", "95 % interval")]
    for name, (text, note) in texts.items():
        # An earlier version stored fewer metrics.
        if name in figures:
            interval = figures["intervals"][name]
            columns = _columns(figures[name], interval)
            rows.append((text, *columns, note))
    return rows


def _classes(figures: dict[str, Any]) -> list[Row]:
    names = {
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "ppv": "PPV",
        "npv": "NPV",
        "average_precision": "av. precision",
        "auc": "AUC",
    }
    n_by_class = figures["n_by_class"]
    width = max(map(len, n_by_class), default=0) + 1
    auc_intervals = figures["intervals"]["auc"]
    rows: list[Row] = [("diagnosis", "n", *names.values(), "95 % interval")]
    for diagnosis in _diagnoses(figures):
        code = diagnosis.code
        cells = [f"{code:<{width}}{diagnosis.name}", f"{n_by_class[code]:,}"]
        cells += [figure_text(figures[name][code]) for name in names]
        cells.append(_interval_text(auc_intervals[code]))
        rows.append(tuple(cells))
    return rows


def _points(figures: dict[str, Any]) -> list[Row]:
    rows: list[Row] = [
        (
            "operating point",
            "threshold",
            "sensitivity",
            "95 % interval",
            "specificity",
            "95 % interval",
        )
    ]
    for point in figures["operating_points"]:
        intervals = point["intervals"]
        sensitivity = _columns(point["sensitivity"], intervals["sensitivity"])
        specificity = _columns(point["specificity"], intervals["specificity"])
        name = both_names(point["name"])
        threshold = figure_text(point["threshold"])
        rows.append((name, threshold, *sensitivity, *specificity))
    return rows


def _groups(figures: dict[str, Any]) -> list[Row]:
    groups = figures["subgroups"]
    counts_by_name = {name: Counts.of(group) for name, group in groups.items()}
    # Without any diagnosis, the heading already states it for all subgroups.
    has_diagnoses = any(counts.diagnosed for counts in counts_by_name.values())
    head = ("balanced accuracy", "95 % interval", "AUC malignant/benign", "95 % interval")
    rows: list[Row] = [("subgroup", "n", "classes", *head)]
    for name, group in groups.items():
        counts = counts_by_name[name]
        n_text = counts.n_text if has_diagnoses else f"{counts.n:,}"
        cells = [name, n_text, str(group["n_classes"])]
        for key in ("balanced_accuracy", "malignant_auc"):
            cells += _columns(group[key], group["intervals"][key])
        rows.append(tuple(cells))
    return rows


def _columns(value: float | None, interval: Sequence[float] | None) -> Row:
    return figure_text(value), _interval_text(interval)


def _interval_text(interval: Sequence[float] | None) -> str:
    if not interval:
        return "not defined"
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _aligned(rows: Sequence[Row]) -> str:
    """Pad cells to columns: names to the left, numbers to the right.

    A note after them stays as it is.
    """
    columns = zip_longest(*rows, fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = [_padded(place, cell, widths[place]) for place, cell in enumerate(row)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _padded(place: int, cell: str, width: int) -> str:
    is_note = cell.startswith("n = ")
    if is_note:
        return cell
    is_name = place == 0
    return cell.ljust(width) if is_name else cell.rjust(width)


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a head and its rows as a table in Markdown."""
    rule = tuple("---" for _ in head)
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return "\n".join(lines)
