"""Builds the sections of a report: notes, charts and tables.

Their texts are not escaped yet.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from cadlib.evaluation import threshold_curves
from cadlib.metrics.comparison_table import Compared
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, about_the_points, two_digits
from cadlib.metrics.operating_point_table import one_group_note, point_rows
from cadlib.metrics.partial_labels import label_words
from cadlib.metrics.predictive_values import INTERVAL_NOTE, PredictiveValues
from cadlib.metrics.subgroup_table import gaps_note, subgroup_rows
from cadlib.metrics.summary import DRAWS, ECE_INTERVAL, ECE_NOTE
from cadlib.metrics.tables import Row, across_rows, figure_of, figure_text
from cadlib.metrics.thresholds import UNNAMED, TradeOff, trade_offs
from cadlib.model.record import ModelRecord
from cadlib.report import charts
from cadlib.report.charts.reliability import reliability_charts
from cadlib.taxonomy import CODES, DIAGNOSES, MALIGNANT_NOTE

# pandas takes a third of a second to load; figures alone do not need it.
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
    """The subject of a report: the figures of a model on some images, as metrics.json has them.

    `part` names the images of the data set ("the test split"), `role` the part they had in
    training, and `flattered` states whether the figures look better for it. `evaluated` holds the
    images where they were evaluated. `own` is the model's own metrics.json, `card` its README.md.
    `prevalence` is the share of malignant lesions at which a threshold is judged, None for that of
    the images; `point` the operating point whose errors are listed; `against` another model on the
    same images.
    """

    record: ModelRecord
    figures: dict[str, Any]
    part: str
    role: str
    flattered: bool
    evaluated: "Evaluated | None"
    own: dict[str, Any]
    card: str
    prevalence: float | None = None
    point: str = DEFAULT_OPERATING_POINT
    against: Compared | None = None


def sections(subject: Subject) -> Iterator[Section]:
    """Yield the sections of a report between the facts and the card.

    A section of figures that were not measured is missing, or notes it.
    """
    figures = subject.figures
    yield _headline(figures)
    yield _thresholds(subject)
    yield _diagnoses(figures)
    yield _confusion(figures)
    yield Section("Calibration", (ECE_NOTE,), reliability_charts(figures))
    prediction_sets = figures.get("prediction_sets")
    if prediction_sets:
        if Counts.of(figures).diagnosed:
            yield _sets(prediction_sets)
        else:
            yield Section(_PREDICTION_SETS, (NO_DIAGNOSIS_NOTE,))
    yield _subgroups(figures)
    yield _errors(subject)
    if subject.against:
        yield _compared(subject.against)
    yield from _conditions(subject.own)
    rejected = figures.get("rejected")
    if rejected:
        rows = [("image", "reason"), *rejected.items()]
        table = Table(f"{len(rejected):,} images", rows)
        yield Section("Images that could not be read", tables=(table,))


def _headline(figures: dict[str, Any]) -> Section:
    images = Counts.of(figures)
    n = f"{images.diagnosed:,}"
    n_melanomas = f"{figures['n_by_class']['MEL']:,}"
    both = images.malignant_text
    specificities = "malignant_specificity_at_sensitivity"
    # text, name and key in metrics.json, and the images that the figure is over
    rows = [
        (
            "Balanced accuracy",
            "balanced_accuracy",
            None,
            f"{n} of {figures['n_classes']} diagnoses",
        ),
        ("Accuracy", "accuracy", None, n),
        ("AUC, malignant or benign", "malignant_auc", None, both),
        ("Average precision, malignant", "malignant_average_precision", None, both),
        ("AUC, melanoma or other", "auc", "MEL", f"{n_melanomas} melanomas of {n}"),
    ]
    for key in figures[specificities]:
        text = f"Specificity at {100 * float(key):.0f} % sensitivity"
        rows.append((text, specificities, key, both))
    rows += [
        (f"Calibration error (ECE, 0 is best; {ECE_INTERVAL})", "ece", None, n),
        (f"Calibration error before calibration ({ECE_INTERVAL})", "ece_uncalibrated", None, n),
        ("Calibration error of the malignant probability", "malignant_ece", None, f"{images.n:,}"),
        ("Brier score (0 to 2, 0 is best)", "brier", None, n),
        ("Brier score before calibration", "brier_uncalibrated", None, n),
    ]
    table: list[Row] = [("Metric", "Value", "n")]
    for text, name, key, n_text in rows:
        # An earlier version measured fewer figures.
        if name in figures:
            table.append((text, figure_of(figures, name, key), n_text))
    note = (
        f"Brackets: 95 % CI from {DRAWS:,} bootstrap samples of lesions; "
        "not shown when there are too few lesions."
    )
    return Section("Main results", (note,), tables=(Table("", table),))


def _thresholds(subject: Subject) -> Section:
    figures = subject.figures
    points = [point for point in trade_offs(figures) if point.name != UNNAMED]
    areas = threshold_curves.areas(figures)
    lines = threshold_curves.roc_curves(figures)
    roc = ("ROC curve", charts.roc_chart(lines, areas, points))
    if not points:
        rows = point_rows(figures)
        drawn = (roc,) if any(lines.values()) else ()
        tables = (_table(rows),) if rows else ()
        return Section("Operating points", (one_group_note(figures),), drawn, tables)
    prevalence = subject.prevalence or points[0].prevalence
    reported = _reported_point(subject, points)
    curves = threshold_curves.precision_recall(figures, subject.evaluated)
    average = threshold_curves.average_precisions(figures)
    precision_recall = charts.precision_recall_chart(curves, average, operating_points=points)
    decision_curve = threshold_curves.decision(figures, subject.evaluated, prevalence)
    benefit = charts.decision_chart(decision_curve, reported)
    notes = [_points_note(subject, points, prevalence, reported)]
    if any(PredictiveValues(point, prevalence).intervals for point in points):
        notes.append(INTERVAL_NOTE)
    notes.append(about_the_points())
    head = ("Operating point", "Referral threshold", "Sensitivity", "Specificity", "PPV", "NPV")
    table_rows = [_point_row(point, prevalence) for point in points]
    return Section(
        "Operating points",
        tuple(notes),
        (roc, ("Precision–recall curve", precision_recall), ("Decision curve", benefit)),
        (Table("", [head, *table_rows]),),
    )


def _reported_point(subject: Subject, points: list[TradeOff]) -> TradeOff:
    """Return the operating point of the report, or the first where it has none of that name."""
    for point in points:
        if point.name == subject.point:
            return point
    return points[0]


def _points_note(
    subject: Subject, points: list[TradeOff], prevalence: float, reported: TradeOff
) -> str:
    """Return the images and the prevalence behind the figures of the operating points."""
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
    positive_ends, negative_ends = values.intervals or (None, None)
    return (
        point.shown_name,
        f"{point.threshold:.3f}",
        figure_text(point.sensitivity, point.intervals.sensitivity),
        figure_text(point.specificity, point.intervals.specificity),
        figure_text(_or_none(values.positive), positive_ends),
        figure_text(_or_none(values.negative), negative_ends),
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


_DIAGNOSIS_FIGURES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "average_precision": "Average precision",
    "auc": "AUC",
}
"""Figures of each diagnosis, and their names in the head of the table."""


def _diagnoses(figures: dict[str, Any]) -> Section:
    images = Counts.of(figures)
    if not images.diagnosed:
        return Section("By diagnosis", (NO_DIAGNOSIS_NOTE,))
    rows: list[Row] = [("Diagnosis", "n", *_DIAGNOSIS_FIGURES.values())]
    for d in DIAGNOSES:
        values = [figure_of(figures, name, d.code) for name in _DIAGNOSIS_FIGURES]
        n = f"{figures['n_by_class'][d.code]:,}"
        rows.append((f"{d.mark} {d.name} ({d.code})", n, *values))
    return Section(
        "By diagnosis",
        (MALIGNANT_NOTE, *_diagnosed_note(images)),
        (("Sensitivity and specificity", charts.per_class_chart(figures)),),
        (Table("", rows),),
    )


def _diagnosed_note(images: Counts) -> tuple[str, ...]:
    """Return how many images are behind figures of diagnoses, where these are not all."""
    if not images.partial:
        return ()
    return (f"n = {images.diagnosed:,} images with a diagnosis, of {images.n:,}.",)


def _confusion(figures: dict[str, Any]) -> Section:
    images = Counts.of(figures)
    if not images.diagnosed:
        return Section("Confusion matrix", (NO_DIAGNOSIS_NOTE,))
    matrix = figures["confusion_matrix"]
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


def _sets(figures: dict[str, Any]) -> Section:
    note = (
        "A prediction set is built to contain the true diagnosis for "
        f"{100 * figures['target']:.0f} % of the images of each diagnosis. "
        f"It contained the true diagnosis for {figure_of(figures, 'overall')} of all images. "
        f"The mean size was {figure_of(figures, 'size')} diagnoses; "
        f"{figure_of(figures, 'empty')} of the sets were empty."
    )
    head = ("Diagnosis", "True diagnosis in the set")
    rows = [(f"{d.name} ({d.code})", figure_of(figures, "coverage", d.code)) for d in DIAGNOSES]
    return Section(_PREDICTION_SETS, (note,), tables=(Table("", [head, *rows]),))


def _subgroups(figures: dict[str, Any]) -> Section:
    note = "No difference was tested: the images are not part of the report."
    if "gaps" in figures:
        note = gaps_note(figures)
    rows = subgroup_rows(figures, figure_text)
    return Section("Subgroups", (note, ECE_NOTE), tables=(_table(rows),))


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


def _conditions(own: dict[str, Any]) -> Iterator[Section]:
    """Yield what the model's own metrics.json has about damage and other archives."""
    robustness = own.get("robustness")
    if robustness:
        yield _damage(robustness)
    archives = own.get("across_archives")
    if archives:
        note = "Performance loss of other networks on an archive excluded from training."
        yield Section(
            "Results on unseen archives", (note,), tables=(Table("", across_rows(archives)),)
        )


def _damage(robustness: dict[str, Any]) -> Section:
    flips = robustness["flips"]
    data = robustness["data"]
    note = (
        f"On {robustness['n']:,} images of the {data['split']} split of {data['name']}. "
        "Each image was also rotated and mirrored, in seven views. The top diagnosis changes in "
        f"{figure_of(flips, 'rate', 'mean')} of the views, "
        f"and in at least one view for {figure_of(flips, 'rate', 'any')} of the images."
    )
    drawn = (
        ("Balanced accuracy", charts.damage_chart(robustness, "balanced_accuracy")),
        ("AUC, malignant or benign", charts.damage_chart(robustness, "malignant_auc")),
    )
    return Section("Robustness to image degradation", (note,), drawn)
