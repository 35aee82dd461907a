"""Draws the trade-offs of a threshold: ROC, precision-recall and decision curves."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.metrics.curves import Area, PrecisionRecallCurve
from cadlib.metrics.decision_curve import DecisionCurve
from cadlib.metrics.operating_point import OperatingPoint, PointIntervals
from cadlib.metrics.summary_schema import StoredRoc
from cadlib.metrics.thresholds import TradeOff
from cadlib.report.charts.style import (
    GREY,
    GRID,
    UNDEFINED,
    UNIT,
    add_diagonal,
    finish,
    number_text,
    undefined,
    whiskers,
)

_CHOSEN: Final = {
    "symbol": "diamond",
    "size": 13,
    "color": taxonomy.MALIGNANT_COLOUR,
    "line": {"color": "white", "width": 2},
}
"""The mark of the threshold that the reader moves, on every chart."""
_POINT: Final = {
    "symbol": "diamond",
    "size": 11,
    "color": taxonomy.MALIGNANT_COLOUR,
    "line": {"color": "white", "width": 1.5},
}
"""The mark of an operating point on a ROC curve."""
_ROC_HOVER: Final = "sensitivity %{y:.2f}<br>1 − specificity %{x:.2f}"
_PRECISION_HOVER: Final = "precision %{y:.2f}<br>recall %{x:.2f}"
_LEGEND_ABOVE: Final = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def roc_chart(
    roc: Mapping[str, StoredRoc | None],
    auc: Mapping[str, Area],
    operating_points: Sequence[OperatingPoint | TradeOff] = (),
    chosen: TradeOff | None = None,
) -> go.Figure:
    """Draw the ROC curves of `summary.summarise`: one a code, and a bold one for "malignant".

    A curve is None where it is not defined; `auc` has the same keys.
    Operating points and the `chosen` one are marked at their measured values, which need not be on
    these curves.
    """
    figure = go.Figure()
    texts = _add_roc_curves(figure, roc, auc)
    texts += _add_roc_points(figure, operating_points)
    if chosen:
        # The axis of a ROC curve has the false positive rate.
        false_alarms = 1 - chosen.specificity
        _mark(figure, false_alarms, chosen.sensitivity, _ROC_HOVER, chosen.intervals)
        texts.append(
            f"this threshold at sensitivity {chosen.sensitivity:.2f}, "
            f"specificity {chosen.specificity:.2f}"
        )
    figure.update_xaxes(title_text="1 − specificity", constrain="domain", **UNIT)
    figure.update_yaxes(
        title_text="Sensitivity", scaleanchor="x", constrain="domain", constraintoward="top", **UNIT
    )
    figure.update_layout(height=460, legend={"itemsizing": "trace"})
    return finish(figure, f"ROC curves, area under the curve: {', '.join(texts)}.")


def _add_roc_curves(
    figure: go.Figure,
    roc: Mapping[str, StoredRoc | None],
    auc: Mapping[str, Area],
) -> list[str]:
    """Draw the curves and the line of chance; return a text for each curve."""
    texts = []
    for d in taxonomy.DIAGNOSES:
        if d.code not in roc:
            continue
        area = _area(auc.get(d.code))
        # The dash tells malignant from benign without the colour.
        dash = "dash" if d.malignant else "dot"
        line = {
            "color": d.colour,
            "dash": dash,
            "width": 1.8,
        }
        _add_roc_curve(figure, roc[d.code], d.code, area, line, legend_rank=1000)
        texts.append(f"{d.code} {area}")
    if "malignant" in roc:
        # The last curve lies on top of the others.
        area = _area(auc.get("malignant"))
        line = {
            "color": taxonomy.MALIGNANT_COLOUR,
            "dash": "solid",
            "width": 4.0,
        }
        _add_roc_curve(figure, roc["malignant"], "Malignant", area, line, legend_rank=1)
        texts.append(f"Malignant {area}")
    # The ROC curve of a random order of the images.
    add_diagonal(figure, "Chance")
    return texts


def _add_roc_curve(
    figure: go.Figure,
    curve: StoredRoc | None,
    label: str,
    area: str,
    line: dict[str, Any],
    *,
    legend_rank: int,
) -> None:
    """Draw a curve; one that is not defined has an entry in the legend only."""
    # A point without coordinates draws nothing, but keeps the entry in the legend.
    x: list[float | None] = [None]
    y: list[float | None] = [None]
    if curve is not None:
        x = list(curve.fpr)
        y = list(curve.tpr)
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name=f"{label}  AUC {area}",
        line=line,
        legendrank=legend_rank,
        showlegend=True,
        hovertemplate=f"{label}<br>{_ROC_HOVER}<extra></extra>",
    )


def _add_roc_points(figure: go.Figure, points: Sequence[OperatingPoint | TradeOff]) -> list[str]:
    """Mark operating points, if there are any; return a text for each."""
    if not points:
        return []
    labels = []
    texts = []
    for point in points:
        # A trade-off was measured on the images that the page shows.
        split = point.split if isinstance(point, OperatingPoint) else "these"
        images = f"{split} images"
        labels.append(f"{point.shown_name}, threshold {point.threshold:.3f}, on {images}")
        texts.append(
            f"{point.shown_name} point at sensitivity {point.sensitivity:.2f}, "
            f"specificity {point.specificity:.2f} on {images}"
        )
    figure.add_scatter(
        x=[1 - point.specificity for point in points],
        y=[point.sensitivity for point in points],
        mode="markers",
        name="Operating points",
        text=labels,
        marker=_POINT,
        hovertemplate=f"%{{text}}<br>{_ROC_HOVER}<extra></extra>",
    )
    return texts


def precision_recall_chart(
    curves: Mapping[str, PrecisionRecallCurve],
    average: Mapping[str, Area],
    chosen: TradeOff | None = None,
    operating_points: Sequence[TradeOff] = (),
) -> go.Figure:
    """Draw precision against recall in steps, each curve with its average precision (AP).

    There is a curve for "melanoma" and a bold one for "malignant". A dotted line is the precision
    of calling every image so. `chosen` and operating points are marked on the malignant curve.
    """
    figure = go.Figure()
    texts = []
    for key, curve in curves.items():
        area = _area(average.get(key))
        shown_area = area if key in average else None
        _add_precision_curve(figure, key, curve, shown_area)
        chance = f"{curve.positives:.2f}"
        texts.append(f"{key.capitalize()} average precision {area}, by chance {chance}")
    texts += _add_precision_points(figure, operating_points)
    if chosen and not undefined(chosen.precision):
        _mark(figure, chosen.sensitivity, chosen.precision, _PRECISION_HOVER)
        texts.append(f"at this threshold {_precision_text(chosen)}")
    figure.update_xaxes(title_text="Recall (sensitivity)", **UNIT)
    figure.update_yaxes(title_text="Precision (PPV on these images)", **UNIT)
    figure.update_layout(height=400, legend=_LEGEND_ABOVE)
    return finish(figure, f"Precision-recall curves: {'; '.join(texts) or UNDEFINED}.")


def _add_precision_curve(
    figure: go.Figure, key: str, curve: PrecisionRecallCurve, area: str | None
) -> None:
    """Draw a curve and its line of chance; `area` is named in the legend, where it is known."""
    name = key.capitalize()
    line = _precision_line(key)
    x: list[float | None] = [None]
    y: list[float | None] = [None]
    if len(curve.recall):
        # The curve begins at a recall of 0, with the precision of its first point.
        x = [0, *curve.recall]
        y = [curve.precision[0], *curve.precision]
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name=name if area is None else f"{name}  AP {area}",
        line=line,
        showlegend=True,
        hovertemplate=f"{name}<br>{_PRECISION_HOVER}<extra></extra>",
    )
    figure.add_scatter(
        x=[0, 1],
        y=[curve.positives] * 2,
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        line={"color": line["color"], "dash": "dot", "width": 1},
    )


def _precision_line(key: str) -> dict[str, Any]:
    """Return the line of a curve: bold for "malignant", dashed for "melanoma"."""
    # Between two points the precision is not a straight line (Davis and Goadrich, ICML 2006).
    steps = "vh"
    if key == "malignant":
        return {
            "color": taxonomy.MALIGNANT_COLOUR,
            "dash": "solid",
            "width": 4.0,
            "shape": steps,
        }
    melanoma = taxonomy.diagnosis("MEL")
    return {
        "color": melanoma.colour,
        "dash": "dash",
        "width": 1.8,
        "shape": steps,
    }


def _add_precision_points(figure: go.Figure, points: Sequence[TradeOff]) -> list[str]:
    """Mark operating points, if there are any; return a text for each."""
    # A point without a referral has no precision.
    defined = [point for point in points if not undefined(point.precision)]
    if not defined:
        return []
    labels = []
    texts = []
    for point in defined:
        labels.append(f"{point.shown_name}, threshold {point.threshold:.3f}")
        texts.append(f"{point.shown_name} point at {_precision_text(point)}")
    figure.add_scatter(
        x=[point.sensitivity for point in defined],
        y=[point.precision for point in defined],
        mode="markers",
        name="Operating points",
        marker=_CHOSEN,
        text=labels,
        hovertemplate=f"%{{text}}<br>{_PRECISION_HOVER}<extra></extra>",
    )
    return texts


def _precision_text(point: TradeOff) -> str:
    """Return precision and recall in words."""
    return f"precision {point.precision:.2f}, recall {point.sensitivity:.2f}"


def _area(area: Area | None) -> str:
    """Return an area with its interval, where it has one: "0.877 (0.85–0.90)"."""
    if area is None:
        return number_text(None, 3)
    value, interval = area
    text = number_text(value, 3)
    if interval:
        low, high = interval
        text += f" ({low:.2f}–{high:.2f})"
    return text


def decision_chart(curve: DecisionCurve, chosen: TradeOff | None = None) -> go.Figure:
    """Draw net benefit by threshold probability, with its interval as a band.

    Two more lines are the net benefit of referring everybody and nobody.
    """
    figure = go.Figure()
    _add_decision_curves(figure, curve)
    share = f"{100 * curve.prevalence:.1f} %"
    alt = (
        f"Decision curve where {share} are malignant: "
        f"the model's net benefit is {_where_better(curve)}"
    )
    # The weight of a false alarm is the odds of the threshold, which has none at 0 and 1.
    if chosen and 0 < chosen.threshold < 1:
        threshold = chosen.threshold_at(curve.prevalence)
        benefit = chosen.net_benefit(curve.prevalence)
        _mark(figure, threshold, benefit, "threshold %{x:.2f}<br>net benefit %{y:.3f}")
        alt += f"; at this threshold, {threshold:.2f}, it is {benefit:.3f}"
    figure.update_xaxes(title_text="Threshold probability", **UNIT)
    # The highest net benefit that there can be is the prevalence.
    top = curve.prevalence * 1.08
    figure.update_yaxes(
        title_text="Net benefit (malignant lesions found per patient)",
        # Net benefit can fall far below 0; a reader compares the part above 0.
        range=[-0.3 * top, top],
        **GRID,
    )
    figure.update_layout(height=400, legend=_LEGEND_ABOVE)
    return finish(figure, f"{alt}.")


def _add_decision_curves(figure: go.Figure, curve: DecisionCurve) -> None:
    """Draw the band of the interval, referring all and none, and the model on top."""
    x = curve.threshold.tolist()
    # First, so that the curves lie on top of the band.
    _add_interval_band(figure, curve)
    grey = {"color": GREY.format(0.9), "width": 1.5}
    figure.add_scatter(
        x=x, y=curve.refer_all.tolist(), mode="lines", name="Refer all", line=grey, hoverinfo="skip"
    )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 0],
        mode="lines",
        name="Refer none",
        line={**grey, "dash": "longdash"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=x,
        y=curve.model.tolist(),
        mode="lines",
        name="Model",
        line={"color": taxonomy.BENIGN_COLOUR, "width": 3},
        hovertemplate="threshold %{x:.2f}<br>net benefit %{y:.3f}<extra></extra>",
    )


def _add_interval_band(figure: go.Figure, curve: DecisionCurve) -> None:
    """Draw the interval of the model's net benefit, where the curve has one."""
    if curve.low is None or curve.high is None:
        return
    x = curve.threshold.tolist()
    high = curve.high.tolist()
    low = curve.low.tolist()
    # One closed line: forwards along the upper end, and back along the lower one.
    figure.add_scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor="rgba(0, 114, 178, 0.18)",
        line={"width": 0},
        hoverinfo="skip",
        name="95 % CI",
    )


def _where_better(curve: DecisionCurve) -> str:
    """Return where the model is better than referring everybody and nobody."""
    beats_all = curve.model > curve.refer_all
    # Referring nobody has a net benefit of 0.
    beats_none = curve.model > 0
    is_better = beats_all & beats_none
    better = curve.threshold[is_better]
    if not len(better):
        return "nowhere above both"
    first = better[0]
    last = better[-1]
    return f"above both from {first:.2f} to {last:.2f}"


def _mark(
    figure: go.Figure, x: float, y: float, hover: str, intervals: PointIntervals | None = None
) -> None:
    """Mark the threshold that the reader moves; on a ROC curve with its intervals."""
    x_ends = None
    y_ends = None
    if intervals:
        y_ends = intervals.sensitivity
        if intervals.specificity is not None:
            low, high = intervals.specificity
            # The axis has 1 − specificity, so its low end comes from the high one.
            x_ends = (1 - high, 1 - low)
    figure.add_scatter(
        x=[x],
        y=[y],
        error_x=whiskers([x], [x_ends]),
        error_y=whiskers([y], [y_ends]),
        mode="markers",
        marker=_CHOSEN,
        name="This threshold",
        hovertemplate=f"{hover}<extra></extra>",
    )
