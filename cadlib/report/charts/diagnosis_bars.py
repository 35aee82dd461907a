"""Bars by diagnosis: the probabilities of one image, the images of a data set."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from cadlib import taxonomy
from cadlib.metrics.operating_point import two_digits
from cadlib.metrics.partial_labels import GROUPS
from cadlib.report.charts.style import GREY, GRID, UNIT, finish, list_rows, row_label

IN_SET: Final = " ◆"
_HATCH: Final = {
    "shape": "/",
    "fillmode": "overlay",
    "fgcolor": "rgba(255, 255, 255, 0.45)",
    "size": 7,
}
_OTHER_LABELS: Final = {
    "malignant": ("malignant, no diagnosis", "Malignant, no diagnosis ", taxonomy.MALIGNANT_COLOUR, _HATCH),
    "benign": ("benign, no diagnosis", "Benign, no diagnosis ", taxonomy.BENIGN_COLOUR, {"shape": ""}),
    taxonomy.UNKNOWN: (
        "none of these", f"None of these <b>{taxonomy.UNKNOWN}</b> ", GREY.format(0.6), {"shape": ""},
    ),
}  # fmt: skip
"""Labels that are no diagnosis of the eight -> words, label of the row, colour and pattern of the bar."""


def confidence_chart(probabilities: ArrayLike, likely: Collection[str] = ()) -> go.Figure:
    """Draw the probabilities of one image, (8,) in taxonomy order, as bars ranked from the top.

    `likely` are the codes of its prediction set, whose bars have a mark.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if (
        values.shape != (len(taxonomy.CODES),)
        or not (np.isfinite(values) & (values >= 0) & (values <= 1)).all()
    ):
        raise ValueError(
            f"Expected `probabilities` to be {len(taxonomy.CODES)} numbers from 0 to 1 but got {values.tolist()}."
        )
    # A stable sort keeps equal probabilities in taxonomy order, as Prediction.ranking does.
    ranked = [taxonomy.DIAGNOSES[i] for i in np.argsort(-values, kind="stable")]
    by_code = dict(zip(taxonomy.CODES, values.tolist(), strict=True))
    texts = {d.code: two_digits(by_code[d.code]) + IN_SET * (d.code in likely) for d in ranked}
    inside = {d.code: ", in the set" * (d.code in likely) for d in ranked}
    said = [f"{d.name} ({d.group}) {two_digits(by_code[d.code])}{inside[d.code]}" for d in ranked]
    figure = _bars(ranked, by_code, texts, "probability %{text}")
    figure.update_xaxes(title_text="Probability", **UNIT)
    return finish(figure, f"Probability by diagnosis, highest first: {', '.join(said)}.")


def class_counts_chart(counts: Mapping[str, int]) -> go.Figure:
    """Draw the number of images by diagnosis code, in taxonomy order; a code that is missing counts 0.

    The key UNK adds a row for images that are none of the eight, "malignant" and "benign" one for images without a
    diagnosis. Raises ValueError for any other key.
    """
    if strange := [
        code for code in counts if code not in (*taxonomy.CODES, taxonomy.UNKNOWN, *GROUPS.values())
    ]:
        raise ValueError(
            f"Expected the keys of `counts` to be ISIC 2019 codes but got {', '.join(strange)}."
        )
    numbers: dict[str, float] = {code: int(counts.get(code, 0)) for code in taxonomy.CODES}
    texts = {code: f"{number:,.0f}" for code, number in numbers.items()}
    rest = {name: int(counts.get(name, 0)) for name in _OTHER_LABELS}
    # Eight rows of 0 would bury the labels that there are.
    shown = taxonomy.DIAGNOSES if any(numbers.values()) or not any(rest.values()) else ()
    figure = _bars(shown, numbers, texts, "%{text} images")
    said = [f"{d.name} {texts[d.code]}" for d in shown]
    for name, number in rest.items():
        if not number:
            continue
        words, label, colour, pattern = _OTHER_LABELS[name]
        figure.add_bar(
            x=[number], y=[label], text=[f"{number:,}"], orientation="h", name=words,
            showlegend=name not in GROUPS.values(),
            marker={"color": colour, "pattern": pattern, "line": {"width": 0}}, textposition="outside",
            cliponaxis=False, hovertemplate="%{y}%{text} images<extra></extra>",
        )  # fmt: skip
        list_rows(figure, [*figure.layout.yaxis.categoryarray, label])
        said.append(f"{words} {number:,}")
    longest = max(*numbers.values(), *rest.values(), 1)
    figure.update_xaxes(
        title_text="Images", range=[0, longest * 1.02], nticks=6, tickformat=",d", **GRID
    )
    total = sum(numbers.values()) + sum(rest.values())
    return finish(figure, f"Images by diagnosis, {total:,.0f} in all: {', '.join(said)}.")


def _bars(
    rows: Sequence[taxonomy.Diagnosis],
    lengths: Mapping[str, float],
    texts: Mapping[str, str],
    hover: str,
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
            y=[row_label(d) for d in members],
            orientation="h",
            name=legend,
            marker={
                "color": colour,
                "pattern": _HATCH if malignant else {"shape": ""},
                "line": {"width": 0},
            },
            text=[texts[d.code] for d in members],
            textposition="outside",
            textangle=0,
            cliponaxis=False,
            hovertemplate=f"%{{y}}{hover}<extra></extra>",
        )
    list_rows(figure, [row_label(d) for d in rows])
    figure.update_layout(bargap=0.32, margin={"r": 52})
    return figure
