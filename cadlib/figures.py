"""Values to plotly figures, pure: nothing is read, stored or predicted here.

Every figure has a transparent background and no font colour of its own, so that it sits on a light and on
a dark page alike. Malignant is vermilion, hatched and ▲, benign is blue, plain and ●: two signs beside the
colour. `figure.layout.meta["alt"]` says in words what the figure shows. What is not defined (None or NaN)
is named so, never drawn as 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from cadlib import taxonomy
from cadlib.decision import OperatingPoint, two_digits

CONFIG: Final[dict[str, Any]] = {"displayModeBar": False, "showSendToCloud": False, "responsive": True}
"""What a page passes on to plotly: no buttons, of which one sends the chart to plotly's own server."""

UNDEFINED: Final = "not defined"

_GREY: Final = "rgba(128, 128, 128, {})"
_GRID: Final = {"gridcolor": _GREY.format(0.22), "zeroline": False, "linecolor": _GREY.format(0.6)}
_UNIT: Final = {"range": [0, 1], "tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1], "tickformat": ".1f", **_GRID}
_ROW_PX: Final = 28
_HATCH: Final = {"shape": "/", "fillmode": "overlay", "fgcolor": "rgba(255, 255, 255, 0.45)", "size": 7}


def confidence_chart(probabilities: ArrayLike) -> go.Figure:
    """Draw the probabilities of one image, (8,) in taxonomy order, as bars ranked from the top."""
    values = np.asarray(probabilities, dtype=np.float64)
    if values.shape != (len(taxonomy.CODES),) or not (np.isfinite(values) & (values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"Expected `probabilities` to be {len(taxonomy.CODES)} numbers from 0 to 1 but got {values.tolist()}."
        )
    # A stable sort keeps equal probabilities in taxonomy order, as Prediction.ranking does.
    ranked = [taxonomy.DIAGNOSES[i] for i in np.argsort(-values, kind="stable")]
    by_code = dict(zip(taxonomy.CODES, values.tolist(), strict=True))
    said = [f"{d.name} ({d.group}) {two_digits(by_code[d.code])}" for d in ranked]
    figure = _bars(ranked, by_code, {d.code: two_digits(by_code[d.code]) for d in ranked}, "probability %{text}")
    figure.update_xaxes(title_text="Probability", **_UNIT)
    return _finish(figure, f"Probability by diagnosis, highest first: {', '.join(said)}.")


def class_counts_chart(counts: Mapping[str, int]) -> go.Figure:
    """Draw the number of images by diagnosis code, in taxonomy order; a code that is missing counts 0.

    The key UNK adds a row for images that are none of the eight. Raises ValueError for any other key.
    """
    if strange := [code for code in counts if code not in (*taxonomy.CODES, taxonomy.UNKNOWN)]:
        raise ValueError(f"Expected the keys of `counts` to be ISIC 2019 codes but got {', '.join(strange)}.")
    numbers: dict[str, float] = {code: int(counts.get(code, 0)) for code in taxonomy.CODES}
    texts = {code: f"{number:,.0f}" for code, number in numbers.items()}
    said = [f"{d.name} {texts[d.code]}" for d in taxonomy.DIAGNOSES]
    figure = _bars(taxonomy.DIAGNOSES, numbers, texts, "%{text} images")
    unknown = int(counts.get(taxonomy.UNKNOWN, 0))
    if unknown:
        label = f"None of these <b>{taxonomy.UNKNOWN}</b> "
        figure.add_bar(
            x=[unknown], y=[label], text=[f"{unknown:,}"], orientation="h", name="unknown",
            marker_color=_GREY.format(0.6), textposition="outside", cliponaxis=False,
            hovertemplate="%{y}%{text} images<extra></extra>",
        )  # fmt: skip
        _list_rows(figure, [*figure.layout.yaxis.categoryarray, label])
        said.append(f"none of these {unknown:,}")
    longest = max(*numbers.values(), unknown, 1)
    figure.update_xaxes(title_text="Images", range=[0, longest * 1.02], nticks=6, tickformat=",d", **_GRID)
    return _finish(figure, f"Images by diagnosis, {sum(numbers.values()) + unknown:,.0f} in all: {', '.join(said)}.")


def confusion_chart(matrix: ArrayLike, normalise: bool = True) -> go.Figure:
    """Draw an (8, 8) confusion matrix of counts, rows the truth, columns the prediction.

    Colour always follows the fraction of the row, so that a rare class is as readable as a common one;
    `normalise` chooses whether a cell prints its percent of the row or its count. Hovering tells both.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    size = len(taxonomy.CODES)
    if counts.shape != (size, size) or (counts < 0).any():
        raise ValueError(
            f"Expected `matrix` to be ({size}, {size}) counts of 0 or more but got the shape {counts.shape}."
        )
    totals = counts.sum(axis=1)
    rows = list(zip(taxonomy.DIAGNOSES, counts.tolist(), totals.tolist(), strict=True))
    truths = [f"{truth.code} ({total:,})" for truth, _, total in rows]
    hover = [
        [f"truth {truth.name}<br>predicted {predicted.name}<br>"
         f"{n:,} of {total:,} images, {_percent(n, total)}"
         for predicted, n in zip(taxonomy.DIAGNOSES, row, strict=True)]
        for truth, row, total in rows
    ]  # fmt: skip
    figure = go.Figure(
        go.Heatmap(
            z=[[n / total if total else None for n in row] for _, row, total in rows],
            x=list(taxonomy.CODES),
            y=truths,
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            zmin=0,
            zmax=1,
            # Even to every eye, colour-blind or not (Nuñez et al., PLoS ONE 13 (2018) e0199239).
            colorscale="Cividis",
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )  # fmt: skip
    cells = [(i, j, n, total) for i, (_, row, total) in enumerate(rows) if total for j, n in enumerate(row)]
    figure.add_scatter(
        x=[taxonomy.CODES[j] for _, j, _, _ in cells],
        y=[truths[i] for i, _, _, _ in cells],
        text=[f"{100 * n / total:.0f}" if normalise else f"{n:,}" for _, _, n, total in cells],
        # The cells are opaque, so their figures need no colour from the page: white on dark, black on light.
        textfont={"color": ["black" if n / total >= 0.5 else "white" for _, _, n, total in cells]},
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )
    for truth, (_, _, total) in zip(truths, rows, strict=True):
        if not total:
            figure.add_annotation(x=0.5, xref="x domain", y=truth, text=UNDEFINED, showarrow=False)
    unit = "% of the row" if normalise else "images; colour: share of the row"
    square = {"constrain": "domain", "showgrid": False, "ticks": ""}
    figure.update_xaxes(title_text=f"Predicted ({unit})", tickangle=0, **square)
    figure.update_yaxes(
        title_text="Truth (images)", autorange="reversed", scaleanchor="x", constraintoward="top", **square
    )
    figure.update_layout(height=500)
    said = [f"{truth.name} {_percent(row[i], total)} of {total:,}" for i, (truth, row, total) in enumerate(rows)]
    alt = f"Confusion matrix of {counts.sum():,} images; recognised as itself: {', '.join(said)}."
    return _finish(figure, alt)


def roc_chart(
    roc: Mapping[str, Mapping[str, Sequence[float | None]] | None],
    auc: Mapping[str, float | None],
    operating_points: Sequence[OperatingPoint] = (),
) -> go.Figure:
    """Draw the ROC curves of `summary.summarise`, one a code and a bold one for the key "malignant".

    Each curve is {"fpr": […], "tpr": […]} or None where it is not defined; `auc` has the same keys.
    Operating points are marked where they were measured, which need not be on these curves.
    """
    curves = [(d.code, d.code, d.colour, "dash" if d.malignant else "dot", 1.8) for d in taxonomy.DIAGNOSES]
    curves += [("malignant", "Malignant", taxonomy.MALIGNANT_COLOUR, "solid", 4.0)]  # last: on top of the others
    figure, said = go.Figure(), []
    for key, label, colour, dash, width in curves:
        if key not in roc:
            continue
        curve, area = roc[key], _number(auc.get(key), 3)
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
        line={"color": _GREY.format(0.7), "dash": "longdash", "width": 1},
    )  # fmt: skip
    if operating_points:
        figure.add_scatter(
            x=[1 - point.specificity for point in operating_points],
            y=[point.sensitivity for point in operating_points],
            mode="markers",
            name="Operating points",
            text=[f"{p.name}, threshold {p.threshold:.3f}, on {p.split} images" for p in operating_points],
            marker={"symbol": "diamond", "size": 11, "color": taxonomy.MALIGNANT_COLOUR,
                    "line": {"color": "white", "width": 1.5}},
            hovertemplate="%{text}<br>sensitivity %{y:.2f}<br>1 − specificity %{x:.2f}<extra></extra>",
        )  # fmt: skip
        said += [
            f"{point.name} point at sensitivity {point.sensitivity:.2f}, specificity {point.specificity:.2f} "
            f"on {point.split} images"
            for point in operating_points
        ]
    figure.update_xaxes(title_text="1 − specificity", constrain="domain", **_UNIT)
    figure.update_yaxes(title_text="Sensitivity", scaleanchor="x", constrain="domain", constraintoward="top", **_UNIT)
    figure.update_layout(height=460, legend={"itemsizing": "trace"})
    return _finish(figure, f"ROC curves, area under the curve: {', '.join(said)}.")


def per_class_chart(summary: Mapping[str, Any]) -> go.Figure:
    """Draw sensitivity and specificity by diagnosis from `summary.summarise`, with intervals and number of images."""
    counts = summary["n_by_class"]
    colours, grey = [d.group_colour for d in taxonomy.DIAGNOSES], _GREY.format(1)
    labels = {d.code: _label(d, f" n = {counts[d.code]:,} ") for d in taxonomy.DIAGNOSES}
    figure = go.Figure()
    for d in taxonomy.DIAGNOSES:
        ends = [summary[key][d.code] for key in ("sensitivity", "specificity")]
        if not any(map(_undefined, ends)):
            figure.add_scatter(
                x=ends, y=[labels[d.code]] * 2, mode="lines", hoverinfo="skip", showlegend=False,
                line={"color": _GREY.format(0.45), "width": 2},
            )  # fmt: skip
    for key, symbol in (("sensitivity", "circle"), ("specificity", "diamond-open")):
        values = {code: None if _undefined(value) else value for code, value in summary[key].items()}
        bounds = [summary["intervals"][key][code] for code in taxonomy.CODES]
        figure.add_scatter(
            x=[values[code] for code in taxonomy.CODES],
            y=[labels[code] for code in taxonomy.CODES],
            mode="markers",
            marker={"symbol": symbol, "size": 12, "color": colours, "line": {"width": 2, "color": colours}},
            error_x=_whiskers([values[code] for code in taxonomy.CODES], bounds),
            hovertemplate=f"%{{y}}<br>{key} %{{x:.2f}}<extra></extra>",
            cliponaxis=False,
            showlegend=False,
        )  # fmt: skip
        # The legend's own marker is grey: what it explains is the shape, not the colour.
        figure.add_scatter(
            x=[None], y=[labels["MEL"]], mode="markers", name=key.capitalize(),
            marker={"symbol": symbol, "size": 12, "color": grey, "line": {"width": 2, "color": grey}},
        )  # fmt: skip
    for place, key in ((0.02, "sensitivity"), (0.45, "specificity")):
        for code in taxonomy.CODES:
            if _undefined(summary[key][code]):
                figure.add_annotation(
                    x=place, y=labels[code], text=f"{key} {UNDEFINED}", showarrow=False, xanchor="left"
                )
    figure.update_xaxes(title_text="Fraction of images", **_UNIT)
    _list_rows(figure, [labels[code] for code in taxonomy.CODES])
    said = [
        f"{d.name} sensitivity {_number(summary['sensitivity'][d.code])}, "
        f"specificity {_number(summary['specificity'][d.code])}, n {counts[d.code]:,}"
        for d in taxonomy.DIAGNOSES
    ]
    return _finish(figure, f"Per diagnosis: {'; '.join(said)}.")


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the reliability diagram of `summary.summarise` above the number of predictions in each bin.

    A bin is {"low", "high", "n", "confidence", "accuracy"}; one without a prediction has no dot.
    """
    filled = [b for b in bins if not _undefined(b["confidence"]) and not _undefined(b["accuracy"])]
    colour = taxonomy.BENIGN_COLOUR
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="As sure as right", hoverinfo="skip",
        line={"color": _GREY.format(0.7), "dash": "longdash", "width": 1},
    )  # fmt: skip
    figure.add_scatter(
        x=[b["confidence"] for b in filled],
        y=[b["accuracy"] for b in filled],
        mode="lines+markers",
        name="Model",
        customdata=[[b["n"]] for b in filled],
        line={"color": colour, "width": 2},
        marker={"size": 8},
        cliponaxis=False,
        hovertemplate="sure %{x:.2f}<br>right %{y:.2f}<br>%{customdata[0]:,} images<extra></extra>",
    )
    figure.add_bar(
        x=[(b["low"] + b["high"]) / 2 for b in bins],
        y=[b["n"] for b in bins],
        width=[0.92 * (b["high"] - b["low"]) for b in bins],
        yaxis="y2",
        showlegend=False,
        marker_color=_GREY.format(0.55),
        hovertemplate="%{y:,} images<extra></extra>",
    )
    figure.update_layout(
        height=460,
        xaxis={"title": {"text": "Probability of the predicted diagnosis"}, "anchor": "y2", **_UNIT},
        yaxis={"title": {"text": "Fraction right"}, "domain": [0.3, 1], **_UNIT},
        yaxis2={
            "title": {"text": "Images"},
            "domain": [0, 0.22],
            "nticks": 3,
            "rangemode": "tozero",
            **_GRID,
        },
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    said = [f"sure {b['confidence']:.2f}, right {b['accuracy']:.2f}, n {b['n']:,}" for b in filled]
    return _finish(figure, f"Reliability diagram: {'; '.join(said) or UNDEFINED}.")


def damage_chart(robustness: Mapping[str, Any], merit: str) -> go.Figure:
    """Draw a figure of `robustness.measure` by damage and strength, the picture as it is in the first column.

    `merit` is "balanced_accuracy", "malignant_auc" or "accuracy". The colour is the fall from the first column.
    """
    clean, damages = robustness["clean"][merit], robustness["corruptions"]
    names, columns = list(damages), ["as it is", "1", "2", "3", "4", "5"]
    rows = [[clean, *(part[merit][key] for key in columns[1:])] for part in damages.values()]
    lost = [[None if _undefined(value) or _undefined(clean) else clean - value for value in row] for row in rows]
    worst = max((fall for row in lost for fall in row if fall is not None), default=0.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=lost, x=columns, y=names, zmin=0, zmax=worst, colorscale="Cividis", showscale=False, xgap=2, ygap=2,
            hovertemplate="%{y}, strength %{x}<br>fall %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    cells = [(y, x, rows[y][x], lost[y][x]) for y in range(len(rows)) for x in range(len(columns))]
    figure.add_scatter(
        x=[columns[x] for _, x, _, _ in cells],
        y=[names[y] for y, _, _, _ in cells],
        text=["–" if _undefined(value) else f"{value:.2f}" for _, _, value, _ in cells],
        textfont={"color": [
            _GREY.format(1) if fall is None else "black" if fall > worst / 2 else "white" for *_, fall in cells
        ]},
        mode="text", hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(title_text="Strength of the damage", type="category", showgrid=False, ticks="")
    _list_rows(figure, names)
    said = [f"{name} {_number(row[1])} to {_number(row[-1])}" for name, row in zip(names, rows, strict=True)]
    words = merit.replace("_", " ").replace("auc", "AUC")
    return _finish(figure, f"{words}, {_number(clean)} undamaged; from strength 1 to 5: {', '.join(said)}.")


def _whiskers(values: Sequence[float | None], bounds: Sequence[Sequence[float] | None]) -> dict[str, Any]:
    """Return the error bars from each value to its [low, high]; none where one of them is not defined."""
    reach = [
        (0.0, 0.0) if value is None or ends is None else (max(value - ends[0], 0.0), max(ends[1] - value, 0.0))
        for value, ends in zip(values, bounds, strict=True)
    ]
    low, high = zip(*reach, strict=True)
    colour = _GREY.format(0.8)
    return {"symmetric": False, "arrayminus": low, "array": high, "thickness": 1.5, "width": 4, "color": colour}


def _bars(
    rows: Sequence[taxonomy.Diagnosis], lengths: Mapping[str, float], texts: Mapping[str, str], hover: str
) -> go.Figure:
    """Draw one bar a diagnosis, the first row on top; the legend tells malignant from benign."""
    figure = go.Figure()
    groups = (
        (True, f"{taxonomy.MALIGNANT_MARK} malignant", taxonomy.MALIGNANT_COLOUR),
        (False, f"{taxonomy.BENIGN_MARK} benign", taxonomy.BENIGN_COLOUR),
    )
    for malignant, legend, colour in groups:
        members = [d for d in rows if d.malignant is malignant]
        figure.add_bar(
            x=[lengths[d.code] for d in members],
            y=[_label(d) for d in members],
            orientation="h",
            name=legend,
            marker={"color": colour, "pattern": _HATCH if malignant else {"shape": ""}, "line": {"width": 0}},
            text=[texts[d.code] for d in members],
            textposition="outside",
            textangle=0,
            cliponaxis=False,
            hovertemplate=f"%{{y}}{hover}<extra></extra>",
        )
    _list_rows(figure, [_label(d) for d in rows])
    figure.update_layout(bargap=0.32, margin={"r": 52})
    return figure


def _list_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Give each label a row, the first on top, and put the legend above them."""
    figure.update_yaxes(
        categoryorder="array", categoryarray=list(labels), range=[len(labels) - 0.5, -0.5], showgrid=False,
        automargin=True, ticks="",
    )  # fmt: skip
    figure.update_layout(
        barmode="overlay",
        height=_ROW_PX * len(labels) + 84,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"},
    )


def _finish(figure: go.Figure, alt: str) -> go.Figure:
    """Make it fit any page and say in words what it shows; nothing can be dragged, zoomed or hidden."""
    figure.update_layout(
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        margin={"l": 8, "r": figure.layout.margin.r or 12, "t": 28, "b": 44},
        dragmode=False,
        modebar={"remove": ["sendChartToCloud"]},
        legend={"itemclick": False, "itemdoubleclick": False, "bgcolor": "rgba(0, 0, 0, 0)"},
        meta={"alt": alt},
    )
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure


def _label(d: taxonomy.Diagnosis, extra: str = "") -> str:
    return f"{d.name} <b>{d.code}</b> {extra}<span style='color:{d.group_colour}'>{d.mark}</span> "


def _undefined(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _number(value: float | None, digits: int = 2) -> str:
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else UNDEFINED
