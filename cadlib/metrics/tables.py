"""Formats the metrics of metrics.json as text: single values and aligned tables."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Protocol

from msgspec import UNSET

from cadlib.metrics.conditions_schema import (
    AcrossArchives,
    CleanMetrics,
    Corruption,
    Flips,
    MapMetrics,
    Robustness,
    SaliencyMetrics,
    SimilarCases,
    TwoRuns,
    TwoRunsIntervals,
)
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.metrics.operating_point import both_names, two_digits
from cadlib.metrics.summary import ECE_INTERVAL
from cadlib.metrics.summary_schema import EvaluationMetrics, MetricsObject
from cadlib.taxonomy import CLASSES, Diagnosis

Row = tuple[str, ...]


class Measured(Protocol):
    """A part of metrics.json: metrics, and their intervals under the same names."""

    @property
    def intervals(self) -> MetricsObject:
        """Return the intervals of the metrics."""


def metric_text(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a metric with three digits and its interval, if any; "not defined" for None."""
    if value is None:
        return "not defined"
    if not interval:
        return f"{value:.3f}"
    low, high = interval
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def short_text(value: float, interval: Sequence[float] | None = None) -> str:
    """Return a share with two digits for a sentence: "0.86 (95 % CI 0.84 to 0.88)"."""
    if not interval:
        return two_digits(value)
    low, high = map(two_digits, interval)
    return f"{two_digits(value)} (95 % CI {low} to {high})"


def metric_of(part: Measured, name: str, key: str | None = None) -> str:
    """Return a metric of a part of metrics.json with its interval as text."""
    value, interval = value_of(part, name, key)
    return metric_text(value, interval)


def value_of(
    part: Measured,
    name: str,
    key: str | None = None,
) -> tuple[float | None, Sequence[float] | None]:
    """Return the field `name` of a part of metrics.json, and its interval.

    `key` selects one of the values of a metric that has several, such as one of each class.
    """
    value = getattr(part, name)
    interval = getattr(part.intervals, name)
    if key is None:
        return value, interval
    return value[key], interval[key]


def metrics_table(metrics: EvaluationMetrics) -> str:
    """Return metrics as aligned text: main ones, then classes, operating points and subgroups."""
    images = Counts.of(metrics)
    tables = (
        _headline(metrics),
        _classes(metrics),
        _points(metrics),
        _groups(metrics),
    )
    # A table with only its head has nothing to show.
    blocks = [aligned(rows) for rows in tables if len(rows) > 1]
    if images.n and not images.diagnosed:
        # One note replaces eight rows in which nothing is defined.
        blocks[1] = NO_DIAGNOSIS_NOTE
    return "\n\n".join([_heading(metrics), *blocks])


def robustness_table(measured: Robustness) -> str:
    """Return the metrics of `robustness` as aligned text.

    The blocks are the clean images, a row for each corruption, a row for each rotation or
    reflection, and the shift of the malignant probability.
    """
    tables = (
        _clean_rows(measured.clean),
        _damages(measured),
        _flip_rows(measured.flips),
        _shift_rows(measured.flips),
    )
    blocks = [aligned(rows) for rows in tables]
    return "\n\n".join([_sample_heading(measured), *blocks])


def _sample_heading(measured: Robustness | SaliencyMetrics) -> str:
    model = measured.model
    data = measured.data
    title = f"{model.name} {model.version} on {data.name} {data.split}"
    images = f"{measured.n:,} images of {measured.n_lesions:,} lesions"
    all_images = f"{measured.sample.of:,} images in all"
    return f"{title}: {images}, of {all_images}"


def _clean_rows(clean: CleanMetrics) -> list[Row]:
    names = {
        "balanced_accuracy": "balanced accuracy",
        "malignant_auc": "AUC malignant/benign",
        "accuracy": "accuracy",
    }
    rows: list[Row] = [("original image", "value", "95 % interval")]
    for metric, text in names.items():
        columns = _columns(*value_of(clean, metric))
        rows.append((text, *columns))
    return rows


def _flip_rows(flips: Flips) -> list[Row]:
    shares = {"mean": "mean, a share of the views", "any": "in any view, a share of the images"}
    intervals = flips.intervals.rate
    rows: list[Row] = [("rotated or mirrored image", "top diagnosis flips", "95 % interval")]
    for view, rate in flips.rate.items():
        text = shares.get(view, view)
        rows.append((text, *_columns(rate, intervals[view])))
    return rows


def _shift_rows(flips: Flips) -> list[Row]:
    shift = _columns(flips.malignant_shift, flips.intervals.malignant_shift)
    return [
        ("malignant probability", "moves by", "95 % interval"),
        ("mean over the seven", *shift),
    ]


def neighbours_table(neighbours: SimilarCases) -> str:
    """Return the metrics of similar cases as aligned text.

    They are how often the cases, their vote and the model are right.
    """
    case_rows = _case_rows(neighbours)
    agreement_rows = _agreement_rows(neighbours)
    cases = aligned(case_rows)
    agreement = aligned(agreement_rows)
    return f"{cases}\n\n{agreement}"


def _case_rows(neighbours: SimilarCases) -> list[Row]:
    names = {
        "precision": f"similar cases with the true diagnosis, of {neighbours.k}",
        "by_chance": "training images drawn at random",
        "vote_accuracy": "their most frequent diagnosis is the true one",
        "model_accuracy": "the model's first diagnosis is the true one",
    }
    heading = (
        f"{neighbours.n:,} images of {neighbours.n_lesions:,} lesions "
        f"of the {neighbours.data.split} split"
    )
    rows: list[Row] = [(heading, "share", "95 % interval")]
    for name, text in names.items():
        columns = _columns(*value_of(neighbours, name))
        rows.append((text, *columns))
    return rows


def _agreement_rows(neighbours: SimilarCases) -> list[Row]:
    shares = neighbours.right_when_agreeing
    intervals = neighbours.intervals.right_when_agreeing
    rows: list[Row] = [
        (
            "cases that have the model's first diagnosis",
            "it is right",
            "95 % interval",
        )
    ]
    for count, n in neighbours.n_agreeing.items():
        columns = _columns(shares[count], intervals[count])
        rows.append((f"{count}, {n:,} images", *columns))
    return rows


def _damages(measured: Robustness) -> list[Row]:
    """Return a row for each corruption and one for their mean, after two rows of headings."""
    metrics = ("balanced_accuracy", "malignant_auc")
    head = ("strength 1", "strength 5", "mean", "95 % interval")
    rows: list[Row] = [
        # The words of a title are spread over the columns of its group.
        (
            "fall of",
            "balanced",
            "accuracy",
            "",
            "",
            "malignant",
            "AUC",
            "",
            "",
            "error",
        ),
        ("damage", *head, *head, "of clean"),
    ]
    for name, part in measured.corruptions.items():
        cells = [name]
        for metric in metrics:
            cells += _fall_cells(part, metric)
        cells.append(metric_text(part.relative_error))
        rows.append(tuple(cells))
    mean = measured.mean
    cells = ["all"]
    for metric in metrics:
        mean_columns = _columns(*value_of(mean, f"{metric}_fall"))
        # The mean has no values for single strengths.
        cells += ["", "", *mean_columns]
    cells.append(metric_text(mean.relative_error))
    rows.append(tuple(cells))
    return rows


def _fall_cells(part: Corruption, metric: str) -> Row:
    """Return the fall of a metric at the weakest and strongest damage, and their mean."""
    name = f"{metric}_fall"
    fall = getattr(part, name)
    weakest = metric_text(fall["1"])
    strongest = metric_text(fall["5"])
    mean_columns = _columns(*value_of(part, name, "mean"))
    return (weakest, strongest, *mean_columns)


def saliency_rows(measured: MapMetrics) -> list[Row]:
    """Return the table of `saliency` with its head: a row for each method, then for baselines."""
    possible = (
        "faithfulness",
        "faithfulness_blurred",
        "gain",
        "stability",
        "inside_lesion",
        "unreadable",
        "untrained_likeness",
        "untrained_faithfulness",
    )
    # Files of earlier versions have no such metrics.
    names = [name for name in possible if getattr(measured, name) is not UNSET]
    headings = [name.replace("_", ", ") for name in names]
    rows: list[Row] = [("map", *headings)]
    for key in measured.faithfulness:
        cells = [key]
        for name in names:
            # A baseline map has only some of the metrics.
            cell = metric_of(measured, name, key) if key in getattr(measured, name) else ""
            cells.append(cell)
        rows.append(tuple(cells))
    return rows


def saliency_table(measured: SaliencyMetrics) -> str:
    """Return the metrics of `saliency` as aligned text."""
    limits = measured.limits
    below = (
        f"95 % of the random maps: faithfulness up to {metric_text(limits.faithfulness)}, "
        f"likeness up to {metric_text(limits.stability)}"
    )
    table = aligned(saliency_rows(measured))
    return "\n\n".join([_sample_heading(measured), table, below])


def across_rows(across: AcrossArchives) -> list[Row]:
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
    for archive, part in across.archives.items():
        for name, title in names.items():
            values: TwoRuns = getattr(part, name)
            intervals: TwoRunsIntervals = getattr(part.intervals, name)
            rows.append(
                (
                    archive,
                    f"{part.n:,}",
                    str(part.n_classes),
                    title,
                    metric_text(values.with_archive, intervals.with_archive),
                    metric_text(values.without_archive, intervals.without_archive),
                    change_text(values.change, intervals.change),
                )
            )
    return rows


def change_text(value: float | None, interval: Sequence[float] | None = None) -> str:
    """Return a difference with its sign and three digits, and its interval, if any."""
    if value is None:
        return "not defined"
    if not interval:
        return f"{value:+.3f}"
    low, high = interval
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def across_table(across: AcrossArchives) -> str:
    """Return the loss of networks on an archive left out of their training, as aligned text."""
    return aligned(across_rows(across))


def _heading(metrics: EvaluationMetrics) -> str:
    """Return the model, the data set and the numbers of images, as far as they are stored."""
    names = []
    model = metrics.model
    if model:
        names.append(f"{model.name} {model.version}")
    data = metrics.data
    if data:
        split = f", {data.split} split" if data.split else ""
        names.append(f"{data.name}{split}")
    title = " on ".join(names)
    counts = ", ".join(_count_texts(metrics))
    # Predictions of a file have neither a model nor a data set.
    if not title:
        return counts
    return f"{title}: {counts}"


def _count_texts(metrics: EvaluationMetrics) -> list[str]:
    images = Counts.of(metrics)
    texts = [f"{images.n:,} images with a label"]
    if images.partial:
        texts.append(f"{images.diagnosed:,} of them with a diagnosis")
    if metrics.unlabelled:
        texts.append(f"{metrics.unlabelled:,} unlabelled")
    if metrics.unknown:
        texts.append(f"{metrics.unknown:,} unknown")
    if metrics.rejected:
        texts.append(f"{len(metrics.rejected):,} not readable")
    return texts


def _diagnoses(metrics: EvaluationMetrics) -> tuple[Diagnosis, ...]:
    return CLASSES[len(metrics.n_by_class)].diagnoses


def _headline(metrics: EvaluationMetrics) -> list[Row]:
    images = Counts.of(metrics)
    n = f"n = {images.diagnosed:,}"
    groups = f"n = {images.malignant_text}"
    all_images = f"n = {images.n:,}"
    classes = f"{n} of {metrics.n_classes} classes"
    # Name -> its text, and a note on the images behind it.
    texts = {
        "balanced_accuracy": ("balanced accuracy", f"{classes}, most probable diagnosis"),
        "balanced_accuracy_by_rule": (
            "balanced accuracy, balanced rule",
            f"{classes}, favours rare diagnoses",
        ),
        "accuracy": ("accuracy", n),
        "malignant_auc": ("AUC malignant/benign", groups),
        "malignant_average_precision": ("average precision malignant", groups),
        "ece": ("calibration error (ECE)", f"{n}; {ECE_INTERVAL}"),
        "malignant_ece": ("calibration error, malignant", all_images),
        "brier": ("Brier score (0 to 2)", n),
    }
    rows: list[Row] = [("metric", "value", "95 % interval")]
    for name, (text, note) in texts.items():
        # An earlier version stored fewer metrics.
        if getattr(metrics, name) is UNSET:
            continue
        columns = _columns(*value_of(metrics, name))
        rows.append((text, *columns, note))
    return rows


def _classes(metrics: EvaluationMetrics) -> list[Row]:
    names = {
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "ppv": "PPV",
        "npv": "NPV",
        "average_precision": "av. precision",
        "auc": "AUC",
    }
    n_by_class = metrics.n_by_class
    # Codes have different lengths; padded, the names after them begin in one column.
    width = max(map(len, n_by_class), default=0) + 1
    auc_intervals = metrics.intervals.auc
    rows: list[Row] = [("diagnosis", "n", *names.values(), "95 % interval")]
    for diagnosis in _diagnoses(metrics):
        code = diagnosis.code
        cells = [f"{code:<{width}}{diagnosis.name}", f"{n_by_class[code]:,}"]
        for name in names:
            value = getattr(metrics, name)[code]
            cells.append(metric_text(value))
        # The last column is the interval of the AUC, the metric before it.
        cells.append(_interval_text(auc_intervals[code]))
        rows.append(tuple(cells))
    return rows


def _points(metrics: EvaluationMetrics) -> list[Row]:
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
    for point in metrics.operating_points:
        intervals = point.intervals
        sensitivity = _columns(point.sensitivity, intervals.sensitivity)
        specificity = _columns(point.specificity, intervals.specificity)
        name = both_names(point.name)
        threshold = metric_text(point.threshold)
        rows.append((name, threshold, *sensitivity, *specificity))
    return rows


def _groups(metrics: EvaluationMetrics) -> list[Row]:
    groups = metrics.subgroups
    counts_by_name = {name: Counts.of(group) for name, group in groups.items()}
    # Without any diagnosis, the heading already states it for all subgroups.
    has_diagnoses = any(counts.diagnosed for counts in counts_by_name.values())
    head = ("balanced accuracy", "95 % interval", "AUC malignant/benign", "95 % interval")
    rows: list[Row] = [("subgroup", "n", "classes", *head)]
    for name, group in groups.items():
        counts = counts_by_name[name]
        n_text = counts.n_text if has_diagnoses else f"{counts.n:,}"
        cells = [name, n_text, str(group.n_classes)]
        cells += _columns(group.balanced_accuracy, group.intervals.balanced_accuracy)
        cells += _columns(group.malignant_auc, group.intervals.malignant_auc)
        rows.append(tuple(cells))
    return rows


def _columns(value: float | None, interval: Sequence[float] | None) -> Row:
    return metric_text(value), _interval_text(interval)


def _interval_text(interval: Sequence[float] | None) -> str:
    if not interval:
        return "not defined"
    low, high = interval
    return f"{low:.3f} to {high:.3f}"


def aligned(rows: Sequence[Row]) -> str:
    """Pad cells to columns: names to the left, numbers to the right.

    A note after them stays as it is.
    """
    # Only some rows have a note, so rows have different lengths.
    columns = zip_longest(*rows, fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = [_padded(place, cell, widths[place]) for place, cell in enumerate(row)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _padded(place: int, cell: str, width: int) -> str:
    # A note is the last cell of its row, so padding would only add spaces.
    is_note = cell.startswith("n = ")
    if is_note:
        return cell
    if place == 0:
        return cell.ljust(width)
    return cell.rjust(width)


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a head and its rows as a table in Markdown."""
    rule = tuple("---" for _ in head)
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return "\n".join(lines)
