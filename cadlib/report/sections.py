"""Builds the sections of a report: notes, charts and tables.

Their texts are not escaped yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from msgspec import UNSET

from cadlib.evaluation import threshold_curves
from cadlib.metrics.comparison_table import Compared
from cadlib.metrics.conditions_schema import Robustness
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, about_the_points, two_digits
from cadlib.metrics.operating_point_table import one_group_note, point_rows
from cadlib.metrics.partial_labels import label_words
from cadlib.metrics.predictive_values import INTERVAL_NOTE, PredictiveValues
from cadlib.metrics.subgroup_table import gaps_note, subgroup_rows
from cadlib.metrics.summary import DRAWS, ECE_INTERVAL, ECE_NOTE, defined
from cadlib.metrics.summary_schema import EvaluationMetrics, PredictionSets
from cadlib.metrics.tables import Row, across_rows, metric_of, metric_text
from cadlib.metrics.thresholds import UNNAMED, TradeOff, trade_offs
from cadlib.model.metrics_file import Metrics
from cadlib.model.record import ModelRecord
from cadlib.report import charts
from cadlib.report.charts.reliability import reliability_charts
from cadlib.taxonomy import CODES, DIAGNOSES, MALIGNANT_NOTE

# pandas takes a third of a second to load; metrics alone do not need it.
if TYPE_CHECKING:
    import pandas as pd

    from cadlib.evaluation.cached import Evaluated

MOST_ERRORS = 100
"""Rows of a kind of error: 25,000 images have thousands of needless referrals."""
_PREDICTION_SETS = "Prediction sets"


@dataclass(frozen=True, eq=False)
class Table:
    """A caption over rows; the first row is the head."""

    caption: str
    rows: list[Row]


@dataclass(frozen=True, eq=False)
class Section:
    """A title, then notes, charts and tables in this order."""

    title: str
    notes: tuple[str, ...] = ()
    charts: tuple[tuple[str, go.Figure], ...] = ()
    """Pairs of a name and a chart."""
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, eq=False)
class Subject:
    """The subject of a report: the metrics of a model on some images, as metrics.json has them.

    `part` names the images of the data set ("the test split"), `role` the part they had in
    training, and `flattered` states whether the metrics look better for it. `evaluated` holds the
    images where they were evaluated. `own` is the model's own metrics.json, `card` its README.md.
    `prevalence` is the share of malignant lesions at which a threshold is judged, None for that of
    the images; `point` the operating point whose errors are listed; `against` another model on the
    same images.
    """

    record: ModelRecord
    metrics: EvaluationMetrics
    part: str
    role: str
    flattered: bool
    evaluated: "Evaluated | None"
    own: Metrics | None
    card: str
    prevalence: float | None = None
    point: str = DEFAULT_OPERATING_POINT
    against: Compared | None = None

    @property
    def data_name(self) -> str:
        """Return the name of the data set of the images."""
        return self.metrics.data.name if self.metrics.data else ""


def sections(subject: Subject) -> Iterator[Section]:
    """Yield the sections of a report between the facts and the card.

    A section of metrics that were not measured is missing, or notes it.
    """
    metrics = subject.metrics
    yield _headline(metrics)
    yield _thresholds(subject)
    yield _diagnoses(metrics)
    yield _confusion(metrics)
    yield Section("Calibration", (ECE_NOTE,), reliability_charts(metrics))
    if metrics.prediction_sets:
        # A prediction set is judged by the diagnosis that it should contain.
        if Counts.of(metrics).diagnosed:
            yield _sets(metrics.prediction_sets)
        else:
            yield Section(_PREDICTION_SETS, (NO_DIAGNOSIS_NOTE,))
    yield _subgroups(metrics)
    yield _errors(subject)
    if subject.against:
        yield _compared(subject.against)
    if subject.own:
        yield from _conditions(subject.own)
    if metrics.rejected:
        rows: list[Row] = [("image", "reason"), *metrics.rejected.items()]
        caption = f"{len(metrics.rejected):,} images"
        table = Table(caption, rows)
        yield Section("Images that could not be read", tables=(table,))


def _headline(metrics: EvaluationMetrics) -> Section:
    table: list[Row] = [("Metric", "Value", "n")]
    table += _accuracy_rows(metrics)
    table += _specificity_rows(metrics)
    table += _calibration_rows(metrics)
    note = (
        f"Brackets: 95 % CI from {DRAWS:,} bootstrap samples of lesions; "
        "not shown when there are too few lesions."
    )
    return Section("Main results", (note,), tables=(Table("", table),))


def _accuracy_rows(metrics: EvaluationMetrics) -> Iterator[Row]:
    """Yield the rows of accuracies and areas under curves: name, value, and images behind it."""
    images = Counts.of(metrics)
    intervals = metrics.intervals
    n = f"{images.diagnosed:,}"
    both = images.malignant_text
    value = metric_text(metrics.balanced_accuracy, intervals.balanced_accuracy)
    diagnoses = f"{n} of {metrics.n_classes} diagnoses"
    yield "Balanced accuracy", value, diagnoses
    # Only a model with a balanced rule has it.
    if metrics.balanced_accuracy_by_rule is not UNSET:
        by_rule = metric_of(metrics, "balanced_accuracy_by_rule")
        yield "Balanced accuracy, rule that favours rare diagnoses", by_rule, diagnoses
    yield "Accuracy", metric_text(metrics.accuracy, intervals.accuracy), n
    yield (
        "AUC, malignant or benign",
        metric_text(metrics.malignant_auc, intervals.malignant_auc),
        both,
    )
    # An earlier version did not measure it.
    if metrics.malignant_average_precision is not UNSET:
        value = metric_of(metrics, "malignant_average_precision")
        yield "Average precision, malignant", value, both
    n_melanomas = f"{metrics.n_by_class['MEL']:,}"
    value = metric_text(metrics.auc["MEL"], intervals.auc["MEL"])
    yield "AUC, melanoma or other", value, f"{n_melanomas} melanomas of {n}"


def _specificity_rows(metrics: EvaluationMetrics) -> Iterator[Row]:
    """Yield a row for the specificity at each target sensitivity."""
    both = Counts.of(metrics).malignant_text
    for key in metrics.malignant_specificity_at_sensitivity:
        text = f"Specificity at {100 * float(key):.0f} % sensitivity"
        yield text, metric_of(metrics, "malignant_specificity_at_sensitivity", key), both


_CALIBRATION = {
    "ece": f"Calibration error (ECE, 0 is best; {ECE_INTERVAL})",
    "ece_uncalibrated": f"Calibration error before calibration ({ECE_INTERVAL})",
    "malignant_ece": "Calibration error of the malignant probability",
    "brier": "Brier score (0 to 2, 0 is best)",
    "brier_uncalibrated": "Brier score before calibration",
}
"""Metrics of calibration, and their names in the table."""


def _calibration_rows(metrics: EvaluationMetrics) -> Iterator[Row]:
    images = Counts.of(metrics)
    for name, text in _CALIBRATION.items():
        # An earlier version measured fewer of them.
        if getattr(metrics, name) is UNSET:
            continue
        # The malignant probability is compared with the label of every image.
        n = images.n if name == "malignant_ece" else images.diagnosed
        yield text, metric_of(metrics, name), f"{n:,}"


def _thresholds(subject: Subject) -> Section:
    metrics = subject.metrics
    points = [point for point in trade_offs(metrics) if point.name != UNNAMED]
    areas = threshold_curves.areas(metrics)
    lines = threshold_curves.roc_curves(metrics)
    roc = ("ROC curve", charts.roc_chart(lines, areas, points))
    title = "Operating points"
    if not points:
        rows = point_rows(metrics)
        # With one group of images alone, curves of single diagnoses may still be defined.
        drawn = (roc,) if any(lines.values()) else ()
        tables = (_table(rows),) if rows else ()
        return Section(title, (one_group_note(metrics),), drawn, tables)
    # All points were measured on the same images, so the first has the prevalence of all.
    prevalence = subject.prevalence or points[0].prevalence
    return Section(
        title,
        tuple(_point_notes(subject, points, prevalence)),
        (roc, *_threshold_charts(subject, points, prevalence)),
        (_point_table(points, prevalence),),
    )


def _threshold_charts(
    subject: Subject, points: list[TradeOff], prevalence: float
) -> Iterator[tuple[str, go.Figure]]:
    """Yield the charts of a threshold that depend on the images, each with its name."""
    metrics = subject.metrics
    curves = threshold_curves.precision_recall(metrics, subject.evaluated)
    average = threshold_curves.average_precisions(metrics)
    chart = charts.precision_recall_chart(curves, average, operating_points=points)
    yield "Precision–recall curve", chart
    decision_curve = threshold_curves.decision(metrics, subject.evaluated, prevalence)
    reported = _reported_point(subject, points)
    yield "Decision curve", charts.decision_chart(decision_curve, reported)


def _point_notes(subject: Subject, points: list[TradeOff], prevalence: float) -> Iterator[str]:
    yield _points_note(subject, points, prevalence, _reported_point(subject, points))
    if any(PredictiveValues(point, prevalence).intervals for point in points):
        yield INTERVAL_NOTE
    yield about_the_points()


def _point_table(points: list[TradeOff], prevalence: float) -> Table:
    head = ("Operating point", "Referral threshold", "Sensitivity", "Specificity", "PPV", "NPV")
    rows = [_point_row(point, prevalence) for point in points]
    return Table("", [head, *rows])


def _reported_point(subject: Subject, points: list[TradeOff]) -> TradeOff:
    """Return the operating point of the report, or the first where it has none of that name."""
    for point in points:
        if point.name == subject.point:
            return point
    return points[0]


def _points_note(
    subject: Subject, points: list[TradeOff], prevalence: float, reported: TradeOff
) -> str:
    """Return the images and the prevalence behind the metrics of the operating points."""
    first = points[0]
    source = "as set for the clinic" if subject.prevalence else "as in these images"
    return (
        f"Sensitivity and specificity over {first.n_malignant:,} malignant "
        f"and {first.n_benign:,} benign images; "
        f"the predictive values at {100 * prevalence:.1f} % malignant lesions, {source}. "
        f"The mark on the decision curve is the {reported.shown_name} point."
    )


def _point_row(point: TradeOff, prevalence: float) -> Row:
    values = PredictiveValues(point, prevalence)
    # A point without intervals of its rates has none of its predictive values.
    positive_ends, negative_ends = values.intervals or (None, None)
    intervals = point.intervals
    return (
        point.shown_name,
        f"{point.threshold:.3f}",
        metric_text(point.sensitivity, intervals.sensitivity),
        metric_text(point.specificity, intervals.specificity),
        metric_text(defined(values.positive), positive_ends),
        metric_text(defined(values.negative), negative_ends),
    )


_DIAGNOSIS_METRICS = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "average_precision": "Average precision",
    "auc": "AUC",
}
"""Metrics of each diagnosis, and their names in the head of the table."""


def _diagnoses(metrics: EvaluationMetrics) -> Section:
    images = Counts.of(metrics)
    if not images.diagnosed:
        return Section("By diagnosis", (NO_DIAGNOSIS_NOTE,))
    rows: list[Row] = [("Diagnosis", "n", *_DIAGNOSIS_METRICS.values())]
    for d in DIAGNOSES:
        values = [metric_of(metrics, name, d.code) for name in _DIAGNOSIS_METRICS]
        n = f"{metrics.n_by_class[d.code]:,}"
        rows.append((f"{d.mark} {d.name} ({d.code})", n, *values))
    return Section(
        "By diagnosis",
        (MALIGNANT_NOTE, *_diagnosed_note(images)),
        (("Sensitivity and specificity", charts.per_class_chart(metrics)),),
        (Table("", rows),),
    )


def _diagnosed_note(images: Counts) -> tuple[str, ...]:
    """Return how many images are behind metrics of diagnoses, where these are not all."""
    if not images.partial:
        return ()
    return (f"n = {images.diagnosed:,} images with a diagnosis, of {images.n:,}.",)


def _confusion(metrics: EvaluationMetrics) -> Section:
    images = Counts.of(metrics)
    if not images.diagnosed:
        return Section("Confusion matrix", (NO_DIAGNOSIS_NOTE,))
    matrix = metrics.confusion_matrix
    rows: list[Row] = [("True diagnosis", *CODES)]
    for code, row in zip(CODES, matrix, strict=True):
        counts = [f"{n:,}" for n in row]
        rows.append((code, *counts))
    caption = "Number of images. Rows: true diagnosis. Columns: predicted diagnosis"
    return Section(
        "Confusion matrix",
        _diagnosed_note(images),
        charts=(("Share of the true diagnosis", charts.confusion_chart(matrix)),),
        tables=(Table(caption, rows),),
    )


def _sets(sets: PredictionSets) -> Section:
    ends = sets.intervals
    note = (
        "A prediction set is built to contain the true diagnosis for "
        f"{100 * sets.target:.0f} % of the images of each diagnosis. "
        f"It contained the true diagnosis for {metric_text(sets.overall, ends.overall)} "
        "of all images. "
        f"The mean size was {metric_text(sets.size, ends.size)} diagnoses; "
        f"{metric_text(sets.empty, ends.empty)} of the sets were empty."
    )
    head = ("Diagnosis", "True diagnosis in the set")
    rows = [(f"{d.name} ({d.code})", metric_of(sets, "coverage", d.code)) for d in DIAGNOSES]
    return Section(_PREDICTION_SETS, (note,), tables=(Table("", [head, *rows]),))


def _subgroups(metrics: EvaluationMetrics) -> Section:
    note = "No difference was tested: the images are not part of the report."
    if metrics.gaps is not None:
        note = gaps_note(metrics.gaps)
    notes = (note, ECE_NOTE)
    rows = subgroup_rows(metrics, metric_text)
    table = _table(rows)
    return Section("Subgroups", notes, tables=(table,))


def _table(rows: list[dict[str, str]]) -> Table:
    """Return rows by the head of their columns as a table without a caption."""
    head = tuple(rows[0])
    values = [tuple(row.values()) for row in rows]
    return Table("", [head, *values])


def _errors(subject: Subject) -> Section:
    title = "Errors by clinical cost"
    if subject.evaluated is None:
        note = "Image lists are not available for saved results. Evaluate the model on a data set."
        return Section(title, (note,))
    point = subject.record.operating_point(subject.point)
    errors = subject.evaluated.errors(point.threshold)
    note = (
        f"Errors at the {point.shown_name} operating point "
        f"(referral threshold {point.threshold:.3f}), most confident errors first."
    )
    tables = []
    for cost, rows in errors.groupby("cost", observed=False):
        tables.append(_error_table(str(cost), rows))
    return Section(title, (note,), tables=tuple(tables))


def _error_table(cost: str, errors: "pd.DataFrame") -> Table:
    """Return the first errors of a kind; without one, a caption alone."""
    first = errors.head(MOST_ERRORS)
    columns = (first["image"], label_words(first), first["probability"])
    rows: list[Row] = []
    for image, label, probability in zip(*columns, strict=True):
        rows.append((image, label, two_digits(probability)))
    if rows:
        # A table with nothing but its head would look damaged.
        rows.insert(0, ("Image", "True diagnosis", "Malignant probability"))
    limit = f", first {MOST_ERRORS} shown" if len(errors) > MOST_ERRORS else ""
    return Table(f"{cost.capitalize()}: {len(errors):,}{limit}", rows)


def _compared(compared: Compared) -> Section:
    chart = charts.comparison_chart(compared.comparison, compared.first, compared.second)
    return Section(
        f"Comparison with {compared.second}",
        (compared.note, compared.about_the_second),
        (("Differences", chart),),
        (_table(compared.difference_rows), _table(compared.test_rows)),
    )


def _conditions(own: Metrics) -> Iterator[Section]:
    """Yield what the model's own metrics.json has about damage and other archives."""
    if own.robustness:
        yield _damage(own.robustness)
    if own.across_archives:
        note = "Performance loss of other networks on an archive excluded from training."
        rows = across_rows(own.across_archives)
        table = Table("", rows)
        yield Section("Results on unseen archives", (note,), tables=(table,))


def _damage(robustness: Robustness) -> Section:
    flips = robustness.flips
    data = robustness.data
    note = (
        f"On {robustness.n:,} images of the {data.split} split of {data.name}. "
        "Each image was also rotated and mirrored, in seven views. The top diagnosis changes in "
        f"{metric_of(flips, 'rate', 'mean')} of the views, "
        f"and in at least one view for {metric_of(flips, 'rate', 'any')} of the images."
    )
    drawn = (
        ("Balanced accuracy", charts.damage_chart(robustness, "balanced_accuracy")),
        ("AUC, malignant or benign", charts.damage_chart(robustness, "malignant_auc")),
    )
    return Section("Robustness to image degradation", (note,), drawn)
