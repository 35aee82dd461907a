"""What a report says: its sections with their notes, charts and tables, as text that nothing has escaped yet."""

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

if TYPE_CHECKING:  # pandas takes a third of a second, figures alone need none
    from cadlib.evaluation.cached import Evaluated

MOST_ERRORS = 100
"""Rows of a kind of error: 25,000 images have thousands of needless referrals, which nobody reads."""


@dataclass(frozen=True, eq=False)
class Table:
    """A caption over rows, of which the first is the head."""

    caption: str
    rows: list[Row]


@dataclass(frozen=True, eq=False)
class Section:
    """A title, then notes, charts and tables in this order."""

    title: str
    notes: tuple[str, ...] = ()
    charts: tuple[tuple[str, go.Figure], ...] = ()
    """Each with its name."""
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, eq=False)
class Subject:
    """What a report is of: the figures of a model on some images, as metrics.json has them.

    `part` says which images of the data set ("the test split"), `role` what part they had in training, `flattered`
    whether the figures look better for it. `evaluated` holds the images where they were evaluated. `own` is the model's
    own metrics.json, `card` its README.md. `prevalence` is the share of malignant lesions at which a threshold is
    judged, None for that of the images; `point` the operating point whose errors are listed; `against` another model on
    the same images.
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
    """Yield the sections of a report between the facts and the card; what was not measured has none, or says so."""
    figures = subject.figures
    yield _headline(figures)
    yield _thresholds(subject)
    yield _diagnoses(figures)
    yield _confusion(figures)
    yield Section("Calibration", (ECE_NOTE,), reliability_charts(figures))
    if found := figures.get("prediction_sets"):
        yield (
            _sets(found)
            if Counts.of(figures).diagnosed
            else Section("Prediction sets", (NO_DIAGNOSIS_NOTE,))
        )
    yield _subgroups(figures)
    yield _errors(subject)
    if subject.against:
        yield _compared(subject.against)
    yield from _conditions(subject.own)
    if rejected := figures.get("rejected"):
        rows = [("image", "reason"), *rejected.items()]
        yield Section(
            "Images that could not be read", tables=(Table(f"{len(rejected):,} images", rows),)
        )


def _headline(figures: dict[str, Any]) -> Section:
    images, by_class = Counts.of(figures), figures["n_by_class"]
    n = images.diagnosed
    both, at = images.malignant_text, "malignant_specificity_at_sensitivity"
    rows = [
        (
            "Balanced accuracy",
            "balanced_accuracy",
            None,
            f"{n:,} of {figures['n_classes']} diagnoses",
        ),
        ("Accuracy", "accuracy", None, f"{n:,}"),
        ("AUC malignant", "malignant_auc", None, both),
        ("Average precision malignant", "malignant_average_precision", None, both),
        ("AUC melanoma", "auc", "MEL", f"{by_class['MEL']:,} melanomas of {n:,}"),
        *(
            (f"Specificity at {100 * float(key):.0f} % sensitivity", at, key, both)
            for key in figures[at]
        ),
        (f"Calibration error (ECE, 0 is best; {ECE_INTERVAL})", "ece", None, f"{n:,}"),
        (
            f"Calibration error before calibration ({ECE_INTERVAL})",
            "ece_uncalibrated",
            None,
            f"{n:,}",
        ),
        ("Calibration error of the malignant probability", "malignant_ece", None, f"{images.n:,}"),
        ("Brier score (0 to 2, 0 is best)", "brier", None, f"{n:,}"),
        ("Brier score before calibration", "brier_uncalibrated", None, f"{n:,}"),
    ]
    known = [row for row in rows if row[1] in figures]  # an earlier version measured fewer
    told = [(text, figure_of(figures, name, key), of) for text, name, key, of in known]
    note = f"In brackets 95 % intervals, from {DRAWS:,} draws of lesions; a figure of too few lesions has none."
    return Section("Figures", (note,), tables=(Table("", [("Figure", "Value", "n"), *told]),))


def _thresholds(subject: Subject) -> Section:
    figures, found = subject.figures, subject.evaluated
    points = [point for point in trade_offs(figures) if point.name != UNNAMED]
    areas = threshold_curves.areas(figures)
    lines = threshold_curves.roc_curves(figures)
    roc = ("ROC", charts.roc_chart(lines, areas, points))
    if not points:
        rows = point_rows(figures)
        drawn = (roc,) if any(lines.values()) else ()
        return Section(
            "Operating points", (one_group_note(figures),), drawn, (_table(rows),) if rows else ()
        )
    here = subject.prevalence or points[0].prevalence
    usual = next((point for point in points if point.name == subject.point), points[0])
    curves = threshold_curves.precision_recall(figures, found)
    average = threshold_curves.average_precisions(figures)
    benefit = charts.decision_chart(threshold_curves.decision(figures, found, here), usual)
    head = ("Operating point", "Refer from", "Sensitivity", "Specificity", "PPV", "NPV")
    counts = f"{points[0].n_malignant:,} malignant and {points[0].n_benign:,} benign images"
    source = "as set for the clinic" if subject.prevalence else "as among these images"
    note = (
        f"Sensitivity and specificity over {counts}; the predictive values at {100 * here:.1f} % malignant lesions, "
        f"{source}. The mark on the decision curve is the {usual.shown_name} point."
    )
    predictive = (
        [INTERVAL_NOTE] if any(PredictiveValues(point, here).intervals for point in points) else []
    )
    return Section(
        "Operating points",
        (note, *predictive, about_the_points()),
        (
            roc,
            (
                "Precision and recall",
                charts.precision_recall_chart(curves, average, operating_points=points),
            ),
            ("Decision curve", benefit),
        ),
        (Table("", [head, *(_point_row(point, here) for point in points)]),),
    )


def _point_row(point: TradeOff, here: float) -> Row:
    values = PredictiveValues(point, here)
    ends = values.intervals or (None, None)
    return (
        point.shown_name,
        f"{point.threshold:.3f}",
        figure_text(point.sensitivity, point.intervals.sensitivity),
        figure_text(point.specificity, point.intervals.specificity),
        figure_text(_or_none(values.positive), ends[0]),
        figure_text(_or_none(values.negative), ends[1]),
    )


def _or_none(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - NaN alone is not itself


def _diagnoses(figures: dict[str, Any]) -> Section:
    images = Counts.of(figures)
    if not images.diagnosed:
        return Section("By diagnosis", (NO_DIAGNOSIS_NOTE,))
    names = {
        "sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV",
        "average_precision": "Average precision", "auc": "AUC",
    }  # fmt: skip
    rows = [
        (
            f"{d.mark} {d.name} ({d.code})",
            f"{figures['n_by_class'][d.code]:,}",
            *(figure_of(figures, name, d.code) for name in names),
        )
        for d in DIAGNOSES
    ]
    return Section(
        "By diagnosis",
        (MALIGNANT_NOTE, *_diagnosed_note(images)),
        (("Sensitivity and specificity", charts.per_class_chart(figures)),),
        (Table("", [("Diagnosis", "n", *names.values()), *rows]),),
    )


def _diagnosed_note(images: Counts) -> tuple[str, ...]:
    """Say how many images are behind figures of diagnoses, where that is not all."""
    return (
        (f"n = {images.diagnosed:,} images with a diagnosis, of {images.n:,}.",)
        if images.partial
        else ()
    )


def _confusion(figures: dict[str, Any]) -> Section:
    images = Counts.of(figures)
    if not images.diagnosed:
        return Section("Confusion matrix", (NO_DIAGNOSIS_NOTE,))
    matrix = figures["confusion_matrix"]
    rows = [(code, *(f"{n:,}" for n in row)) for code, row in zip(CODES, matrix, strict=True)]
    return Section(
        "Confusion matrix",
        _diagnosed_note(images),
        charts=(("Share of the true diagnosis", charts.confusion_chart(matrix)),),
        tables=(
            Table(
                "Images: a row a true diagnosis, a column what the model said",
                [("Truth", *CODES), *rows],
            ),
        ),
    )


def _sets(found: dict[str, Any]) -> Section:
    note = (
        "A prediction set is built to contain the true diagnosis for "
        f"{100 * found['target']:.0f} % of the images of each diagnosis. "
        f"It contained the true diagnosis for {figure_of(found, 'overall')} of all images. "
        f"The mean size was {figure_of(found, 'size')} diagnoses; "
        f"{figure_of(found, 'empty')} of the sets were empty."
    )
    rows = [(f"{d.name} ({d.code})", figure_of(found, "coverage", d.code)) for d in DIAGNOSES]
    return Section(
        "Prediction sets",
        (note,),
        tables=(Table("", [("Diagnosis", "True diagnosis in the set"), *rows]),),
    )


def _subgroups(figures: dict[str, Any]) -> Section:
    rows = subgroup_rows(figures, figure_text)
    notes = (
        [gaps_note(figures)]
        if "gaps" in figures
        else ["No gap was tested: the images are not part of the report."]
    )
    return Section("Subgroups", (*notes, ECE_NOTE), tables=(_table(rows),))


def _table(rows: list[dict[str, str]]) -> Table:
    """Return rows by the head of their columns as a table without a caption."""
    return Table("", [tuple(rows[0]), *(tuple(row.values()) for row in rows)])


def _errors(subject: Subject) -> Section:
    title = "Errors by cost"
    if subject.evaluated is None:
        return Section(
            title,
            (
                "Figures alone do not tell which images these are; evaluate the model on a data set.",
            ),
        )
    point = subject.record.operating_point(subject.point)
    wrong = subject.evaluated.errors(point.threshold)
    note = (
        f"What referring at the {point.shown_name} point, from a malignant probability of {point.threshold:.3f} "
        "on, gets wrong, the model surest of itself first."
    )
    tables = []
    for cost, rows in wrong.groupby("cost", observed=False):
        first = rows.head(MOST_ERRORS)
        columns = (first["image"], label_words(first), first["probability"])
        told = [
            (image, code, two_digits(share)) for image, code, share in zip(*columns, strict=True)
        ]
        shown = f", the first {MOST_ERRORS} here" if len(rows) > MOST_ERRORS else ""
        head = ("Image", "Truth", "Malignant probability")
        tables.append(
            Table(f"{str(cost).capitalize()}: {len(rows):,}{shown}", [head, *told] if told else [])
        )
    return Section(title, (note,), tables=tuple(tables))


def _compared(found: Compared) -> Section:
    chart = charts.comparison_chart(found.comparison, found.first, found.second)
    return Section(
        f"Compared with {found.second}",
        (found.note, found.about_the_second),
        (("Differences", chart),),
        (_table(found.difference_rows), _table(found.test_rows)),
    )


def _conditions(own: dict[str, Any]) -> Iterator[Section]:
    if found := own.get("robustness"):
        flips, data = found["flips"], found["data"]
        merits = {"balanced_accuracy": "Balanced accuracy", "malignant_auc": "AUC malignant"}
        note = (
            f"On {found['n']:,} images of the {data['split']} split of {data['name']}. "
            "On average over seven rotated or mirrored views, the top diagnosis changes for "
            f"{figure_of(flips, 'rate', 'mean')} of the images; "
            f"in at least one view for {figure_of(flips, 'rate', 'any')}."
        )
        drawn = tuple((text, charts.damage_chart(found, merit)) for merit, text in merits.items())
        yield Section("Across damage", (note,), drawn)
    if archives := own.get("across_archives"):
        note = "What other networks of the same recipe lost on an archive that was left out of training."
        yield Section("Across archives", (note,), tables=(Table("", across_rows(archives)),))
