"""What was measured of a model: confusion, ROC, each diagnosis, reliability, damage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from cadlib import taxonomy
from cadlib.decision import OperatingPoint
from cadlib.figures.style import (
    GREY,
    GRID,
    UNDEFINED,
    UNIT,
    finish,
    list_rows,
    number_text,
    percent_text,
    row_label,
    undefined,
)
from cadlib.figures.thresholds import CHOSEN
from cadlib.trade_off import TradeOff


def confusion_chart(matrix: ArrayLike, normalise: bool = True, *, opens: bool = False) -> go.Figure:
    """Draw an (8, 8) confusion matrix of counts, rows the truth, columns the prediction.

    Colour always follows the fraction of the row, so that a rare class is as readable as a common one;
    `normalise` chooses whether a cell prints its percent of the row or its count. Hovering tells both. With `opens`
    each cell has a point, x the prediction and y the truth, for a page that opens what is clicked.
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
         f"{n:,} of {total:,} images, {percent_text(n, total)}"
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
    # The cells are opaque, so their figures need no colour from the page: white on dark, black on light.
    inks = ["black" if n / total >= 0.5 else "white" for _, _, n, total in cells]
    texts = [f"{100 * n / total:.0f}" if normalise else f"{n:,}" for _, _, n, total in cells]
    if opens:  # plotly gives what is not selected one colour, but not a span in it
        texts = [f"<span style='color:{ink}'>{text}</span>" for ink, text in zip(inks, texts, strict=True)]
    figure.add_scatter(
        x=[taxonomy.CODES[j] for _, j, _, _ in cells],
        y=[truths[i] for i, _, _, _ in cells],
        text=texts,
        textfont={"color": inks},
        unselected={"textfont": {"color": "white"}},
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )
    if opens:  # a heatmap's cells cannot be selected, points can
        figure.add_scatter(
            x=[taxonomy.CODES[j] for _, j, _, _ in cells],
            y=[truths[i] for i, _, _, _ in cells],
            customdata=[hover[i][j] for i, j, _, _ in cells],
            hovertemplate="%{customdata}<extra></extra>",
            mode="markers",
            marker={"symbol": "square", "size": 34, "color": "white", "opacity": 0},
            selected={"marker": {"opacity": 0.25}},
            unselected={"marker": {"opacity": 0}},
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
    said = [f"{truth.name} {percent_text(row[i], total)} of {total:,}" for i, (truth, row, total) in enumerate(rows)]
    alt = f"Confusion matrix of {counts.sum():,} images; recognised as itself: {', '.join(said)}."
    return finish(figure, alt)


def roc_chart(
    roc: Mapping[str, Mapping[str, Sequence[float | None]] | None],
    auc: Mapping[str, float | None],
    operating_points: Sequence[OperatingPoint | TradeOff] = (),
    chosen: TradeOff | None = None,
) -> go.Figure:
    """Draw the ROC curves of `summary.summarise`, one a code and a bold one for the key "malignant".

    Each curve is {"fpr": […], "tpr": […]} or None where it is not defined; `auc` has the same keys.
    Operating points are marked where they were measured, which need not be on these curves; so is the `chosen` one.
    """
    curves = [(d.code, d.code, d.colour, "dash" if d.malignant else "dot", 1.8) for d in taxonomy.DIAGNOSES]
    curves += [("malignant", "Malignant", taxonomy.MALIGNANT_COLOUR, "solid", 4.0)]  # last: on top of the others
    figure, said = go.Figure(), []
    images = [p.split if isinstance(p, OperatingPoint) else "these" for p in operating_points]
    for key, label, colour, dash, width in curves:
        if key not in roc:
            continue
        curve, area = roc[key], number_text(auc.get(key), 3)
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
    if operating_points:
        figure.add_scatter(
            x=[1 - point.specificity for point in operating_points],
            y=[point.sensitivity for point in operating_points],
            mode="markers",
            name="Operating points",
            text=[
                f"{p.name}, threshold {p.threshold:.3f}, on {of} images"
                for p, of in zip(operating_points, images, strict=True)
            ],
            marker={"symbol": "diamond", "size": 11, "color": taxonomy.MALIGNANT_COLOUR,
                    "line": {"color": "white", "width": 1.5}},
            hovertemplate="%{text}<br>sensitivity %{y:.2f}<br>1 − specificity %{x:.2f}<extra></extra>",
        )  # fmt: skip
        said += [
            f"{point.name} point at sensitivity {point.sensitivity:.2f}, specificity {point.specificity:.2f} "
            f"on {of} images"
            for point, of in zip(operating_points, images, strict=True)
        ]
    if chosen:
        figure.add_scatter(
            x=[1 - chosen.specificity], y=[chosen.sensitivity], mode="markers", marker=CHOSEN, name="This threshold",
            hovertemplate="sensitivity %{y:.2f}<br>1 − specificity %{x:.2f}<extra></extra>",
        )  # fmt: skip
        said.append(f"this threshold at sensitivity {chosen.sensitivity:.2f}, specificity {chosen.specificity:.2f}")
    figure.update_xaxes(title_text="1 − specificity", constrain="domain", **UNIT)
    figure.update_yaxes(title_text="Sensitivity", scaleanchor="x", constrain="domain", constraintoward="top", **UNIT)
    figure.update_layout(height=460, legend={"itemsizing": "trace"})
    return finish(figure, f"ROC curves, area under the curve: {', '.join(said)}.")


def per_class_chart(summary: Mapping[str, Any]) -> go.Figure:
    """Draw sensitivity and specificity by diagnosis from `summary.summarise`, with intervals and number of images."""
    counts = summary["n_by_class"]
    colours, grey = [d.group_colour for d in taxonomy.DIAGNOSES], GREY.format(1)
    labels = {d.code: row_label(d, f" n = {counts[d.code]:,} ") for d in taxonomy.DIAGNOSES}
    figure = go.Figure()
    for d in taxonomy.DIAGNOSES:
        ends = [summary[key][d.code] for key in ("sensitivity", "specificity")]
        if not any(map(undefined, ends)):
            figure.add_scatter(
                x=ends, y=[labels[d.code]] * 2, mode="lines", hoverinfo="skip", showlegend=False,
                line={"color": GREY.format(0.45), "width": 2},
            )  # fmt: skip
    for key, symbol in (("sensitivity", "circle"), ("specificity", "diamond-open")):
        values = {code: None if undefined(value) else value for code, value in summary[key].items()}
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
            if undefined(summary[key][code]):
                figure.add_annotation(
                    x=place, y=labels[code], text=f"{key} {UNDEFINED}", showarrow=False, xanchor="left"
                )
    figure.update_xaxes(title_text="Fraction of images", **UNIT)
    list_rows(figure, [labels[code] for code in taxonomy.CODES])
    said = [
        f"{d.name} sensitivity {number_text(summary['sensitivity'][d.code])}, "
        f"specificity {number_text(summary['specificity'][d.code])}, n {counts[d.code]:,}"
        for d in taxonomy.DIAGNOSES
    ]
    return finish(figure, f"Per diagnosis: {'; '.join(said)}.")


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the reliability diagram of `summary.summarise` above the number of predictions in each bin.

    A bin is {"low", "high", "n", "confidence", "accuracy"}; one without a prediction has no dot.
    """
    filled = [b for b in bins if not undefined(b["confidence"]) and not undefined(b["accuracy"])]
    colour = taxonomy.BENIGN_COLOUR
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="As sure as right", hoverinfo="skip",
        line={"color": GREY.format(0.7), "dash": "longdash", "width": 1},
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
        marker_color=GREY.format(0.55),
        hovertemplate="%{y:,} images<extra></extra>",
    )
    figure.update_layout(
        height=460,
        xaxis={"title": {"text": "Probability of the predicted diagnosis"}, "anchor": "y2", **UNIT},
        yaxis={"title": {"text": "Fraction right"}, "domain": [0.3, 1], **UNIT},
        yaxis2={
            "title": {"text": "Images"},
            "domain": [0, 0.22],
            "nticks": 3,
            "rangemode": "tozero",
            **GRID,
        },
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    said = [f"sure {b['confidence']:.2f}, right {b['accuracy']:.2f}, n {b['n']:,}" for b in filled]
    return finish(figure, f"Reliability diagram: {'; '.join(said) or UNDEFINED}.")


def damage_chart(robustness: Mapping[str, Any], merit: str) -> go.Figure:
    """Draw a figure of `robustness.measure` by damage and strength, the picture as it is in the first column.

    `merit` is "balanced_accuracy", "malignant_auc" or "accuracy". The colour is the fall from the first column.
    """
    clean, damages = robustness["clean"][merit], robustness["corruptions"]
    names, columns = list(damages), ["as it is", "1", "2", "3", "4", "5"]
    rows = [[clean, *(part[merit][key] for key in columns[1:])] for part in damages.values()]
    lost = [[None if undefined(value) or undefined(clean) else clean - value for value in row] for row in rows]
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
        text=["–" if undefined(value) else f"{value:.2f}" for _, _, value, _ in cells],
        textfont={"color": [
            GREY.format(1) if fall is None else "black" if fall > worst / 2 else "white" for *_, fall in cells
        ]},
        mode="text", hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(title_text="Strength of the damage", type="category", showgrid=False, ticks="")
    list_rows(figure, names)
    said = [f"{name} {number_text(row[1])} to {number_text(row[-1])}" for name, row in zip(names, rows, strict=True)]
    words = merit.replace("_", " ").replace("auc", "AUC")
    return finish(figure, f"{words}, {number_text(clean)} undamaged; from strength 1 to 5: {', '.join(said)}.")


def _whiskers(values: Sequence[float | None], bounds: Sequence[Sequence[float] | None]) -> dict[str, Any]:
    """Return the error bars from each value to its [low, high]; none where one of them is not defined."""
    reach = [
        (0.0, 0.0) if value is None or ends is None else (max(value - ends[0], 0.0), max(ends[1] - value, 0.0))
        for value, ends in zip(values, bounds, strict=True)
    ]
    low, high = zip(*reach, strict=True)
    colour = GREY.format(0.8)
    return {"symmetric": False, "arrayminus": low, "array": high, "thickness": 1.5, "width": 4, "color": colour}
