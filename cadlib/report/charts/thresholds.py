"""What a threshold trades: specificity for sensitivity, precision for recall, needless referrals for lesions found."""

from collections.abc import Mapping, Sequence
from typing import Final

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.metrics.curves import Area, PrecisionRecallCurve
from cadlib.metrics.decision_curve import DecisionCurve
from cadlib.metrics.operating_point import OperatingPoint, PointIntervals
from cadlib.metrics.thresholds import TradeOff
from cadlib.report.charts.style import GREY, GRID, UNDEFINED, UNIT, finish, number_text, whiskers

_CHOSEN: Final = {
    "symbol": "diamond",
    "size": 13,
    "color": taxonomy.MALIGNANT_COLOUR,
    "line": {"color": "white", "width": 2},
}
"""The mark of the threshold that the reader moves, on every chart."""


def roc_chart(
    roc: Mapping[str, Mapping[str, Sequence[float | None]] | None],
    auc: Mapping[str, Area],
    operating_points: Sequence[OperatingPoint | TradeOff] = (),
    chosen: TradeOff | None = None,
) -> go.Figure:
    """Draw the ROC curves of `summary.summarise`, one a code and a bold one for the key "malignant".

    Each curve is {"fpr": […], "tpr": […]} or None where it is not defined; `auc` has the same keys.
    Operating points are marked where they were measured, which need not be on these curves; so is the `chosen` one.
    """
    figure = go.Figure()
    said = [*_roc_curves(figure, roc, auc), *_roc_points(figure, operating_points)]
    if chosen:
        hover = "sensitivity %{y:.2f}<br>1 − specificity %{x:.2f}"
        _mark(figure, 1 - chosen.specificity, chosen.sensitivity, hover, chosen.intervals)
        said.append(
            f"this threshold at sensitivity {chosen.sensitivity:.2f}, specificity {chosen.specificity:.2f}"
        )
    figure.update_xaxes(title_text="1 − specificity", constrain="domain", **UNIT)
    figure.update_yaxes(
        title_text="Sensitivity", scaleanchor="x", constrain="domain", constraintoward="top", **UNIT
    )
    figure.update_layout(height=460, legend={"itemsizing": "trace"})
    return finish(figure, f"ROC curves, area under the curve: {', '.join(said)}.")


def _roc_curves(
    figure: go.Figure,
    roc: Mapping[str, Mapping[str, Sequence[float | None]] | None],
    auc: Mapping[str, Area],
) -> list[str]:
    """Draw the curves and chance; return what each of them says."""
    curves = [
        (d.code, d.code, d.colour, "dash" if d.malignant else "dot", 1.8)
        for d in taxonomy.DIAGNOSES
    ]
    curves += [
        ("malignant", "Malignant", taxonomy.MALIGNANT_COLOUR, "solid", 4.0)
    ]  # last: on top of the others
    said = []
    for key, label, colour, dash, width in curves:
        if key not in roc:
            continue
        curve, area = roc[key], _area(auc.get(key))
        figure.add_scatter(
            x=[None] if curve is None else list(curve["fpr"]),
            y=[None] if curve is None else list(curve["tpr"]),
            mode="lines",
            name=f"{label}  AUC {area}",
            line={"color": colour, "dash": dash, "width": width},
            legendrank=1 if key == "malignant" else 1000,
            showlegend=True,
            hovertemplate=f"{label}<br>sensitivity %{{y:.2f}}<br>1 − specificity %{{x:.2f}}<extra></extra>",
        )
        said.append(f"{label} {area}")
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="Chance", hoverinfo="skip",
        line={"color": GREY.format(0.7), "dash": "longdash", "width": 1},
    )  # fmt: skip
    return said


def _roc_points(figure: go.Figure, points: Sequence[OperatingPoint | TradeOff]) -> list[str]:
    """Mark operating points, if there are any; return what each of them says."""
    if not points:
        return []
    of_each = [(p, p.split if isinstance(p, OperatingPoint) else "these") for p in points]
    figure.add_scatter(
        x=[1 - point.specificity for point in points],
        y=[point.sensitivity for point in points],
        mode="markers",
        name="Operating points",
        text=[f"{p.shown_name}, threshold {p.threshold:.3f}, on {of} images" for p, of in of_each],
        marker={"symbol": "diamond", "size": 11, "color": taxonomy.MALIGNANT_COLOUR,
                "line": {"color": "white", "width": 1.5}},
        hovertemplate="%{text}<br>sensitivity %{y:.2f}<br>1 − specificity %{x:.2f}<extra></extra>",
    )  # fmt: skip
    return [
        f"{p.shown_name} point at sensitivity {p.sensitivity:.2f}, specificity {p.specificity:.2f} on {of} images"
        for p, of in of_each
    ]


def precision_recall_chart(
    curves: Mapping[str, PrecisionRecallCurve],
    average: Mapping[str, Area],
    chosen: TradeOff | None = None,
    operating_points: Sequence[TradeOff] = (),
) -> go.Figure:
    """Draw precision against recall in steps: a curve for "melanoma", a bold one for "malignant", each with its AP.

    A dashed line is what calling every image so gives. `chosen` and operating points are marked on the malignant curve.
    """
    colours = {"melanoma": ("dash", 1.8, taxonomy.diagnosis("MEL").colour),
               "malignant": ("solid", 4.0, taxonomy.MALIGNANT_COLOUR)}  # fmt: skip
    figure, said = go.Figure(), []
    for key, curve in curves.items():
        dash, width, colour = colours[key]
        area = _area(average.get(key))
        name = key.capitalize()
        figure.add_scatter(
            x=[0, *curve.recall] if len(curve.recall) else [None],
            y=[curve.precision[0], *curve.precision] if len(curve.recall) else [None],
            mode="lines",
            name=f"{name}  AP {area}" if key in average else name,
            line={"color": colour, "dash": dash, "width": width, "shape": "vh"},
            showlegend=True,
            hovertemplate=f"{name}<br>precision %{{y:.2f}}<br>recall %{{x:.2f}}<extra></extra>",
        )
        figure.add_scatter(
            x=[0, 1], y=[curve.positives] * 2, mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": colour, "dash": "dot", "width": 1},
        )  # fmt: skip
        said.append(f"{name} average precision {area}, by chance {curve.positives:.2f}")
    named = [point for point in operating_points if point.precision == point.precision]
    if named:
        figure.add_scatter(
            x=[p.sensitivity for p in named], y=[p.precision for p in named], mode="markers", name="Operating points",
            marker=_CHOSEN, text=[f"{p.shown_name}, threshold {p.threshold:.3f}" for p in named],
            hovertemplate="%{text}<br>precision %{y:.2f}<br>recall %{x:.2f}<extra></extra>",
        )  # fmt: skip
        said += [
            f"{p.shown_name} point at precision {p.precision:.2f}, recall {p.sensitivity:.2f}"
            for p in named
        ]
    if chosen and chosen.precision == chosen.precision:
        _mark(figure, chosen.sensitivity, chosen.precision, "precision %{y:.2f}<br>recall %{x:.2f}")
        said.append(
            f"at this threshold precision {chosen.precision:.2f}, recall {chosen.sensitivity:.2f}"
        )
    figure.update_xaxes(title_text="Recall (sensitivity)", **UNIT)
    figure.update_yaxes(title_text="Precision (PPV on these images)", **UNIT)
    figure.update_layout(
        height=400, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    )
    return finish(figure, f"Precision-recall curves: {'; '.join(said) or UNDEFINED}.")


def _area(area: Area | None) -> str:
    """Return an area with its interval, where it has one: "0.877 (0.85–0.90)"."""
    value, interval = area or (None, None)
    return number_text(value, 3) + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else "")


def decision_chart(curve: DecisionCurve, chosen: TradeOff | None = None) -> go.Figure:
    """Draw net benefit by threshold probability, with referring everybody and nobody, and the interval as a band."""
    figure, colour = go.Figure(), taxonomy.BENIGN_COLOUR
    x = curve.threshold.tolist()
    if curve.low is not None and curve.high is not None:
        figure.add_scatter(
            x=[*x, *reversed(x)], y=[*curve.high.tolist(), *reversed(curve.low.tolist())], fill="toself",
            fillcolor="rgba(0, 114, 178, 0.18)", line={"width": 0}, hoverinfo="skip", name="95 % interval",
        )  # fmt: skip
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
        x=x, y=curve.model.tolist(), mode="lines", name="Model", line={"color": colour, "width": 3},
        hovertemplate="refer at %{x:.2f}<br>net benefit %{y:.3f}<extra></extra>",
    )  # fmt: skip
    better = curve.threshold[(curve.model > curve.refer_all) & (curve.model > 0)]
    said = (
        f"above both from {better[0]:.2f} to {better[-1]:.2f}"
        if len(better)
        else "nowhere above both"
    )
    alt = f"Decision curve where {100 * curve.prevalence:.1f} % are malignant: the model's net benefit is {said}"
    if chosen and 0 < chosen.threshold < 1:
        at, benefit = chosen.threshold_at(curve.prevalence), chosen.net_benefit(curve.prevalence)
        _mark(figure, at, benefit, "refer at %{x:.2f}<br>net benefit %{y:.3f}")
        alt += f"; at this threshold, {at:.2f}, it is {benefit:.3f}"
    figure.update_xaxes(title_text="Threshold probability", **UNIT)
    top = curve.prevalence * 1.08
    figure.update_yaxes(
        title_text="Net benefit, malignant found a patient", range=[-0.3 * top, top], **GRID
    )
    figure.update_layout(
        height=400, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    )
    return finish(figure, f"{alt}.")


def _mark(
    figure: go.Figure, x: float, y: float, hover: str, intervals: PointIntervals | None = None
) -> None:
    """Mark the threshold that the reader moves; on a ROC curve with its intervals."""
    found, spared = (intervals.sensitivity, intervals.specificity) if intervals else (None, None)
    figure.add_scatter(
        x=[x],
        y=[y],
        error_x=whiskers([x], [None if spared is None else (1 - spared[1], 1 - spared[0])]),
        error_y=whiskers([y], [found]),
        mode="markers",
        marker=_CHOSEN,
        name="This threshold",
        hovertemplate=f"{hover}<extra></extra>",
    )
