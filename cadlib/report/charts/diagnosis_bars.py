"""Draws bars by diagnosis."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

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
_PLAIN: Final = {"shape": ""}


class _OtherLabel(NamedTuple):
    """How images with a label outside the eight diagnoses are drawn."""

    words: str
    row: str
    colour: str
    pattern: dict[str, Any]


_OTHER_LABELS: Final = {
    "malignant": _OtherLabel(
        "malignant, no diagnosis", "Malignant, no diagnosis ", taxonomy.MALIGNANT_COLOUR, _HATCH
    ),
    "benign": _OtherLabel(
        "benign, no diagnosis", "Benign, no diagnosis ", taxonomy.BENIGN_COLOUR, _PLAIN
    ),
    taxonomy.UNKNOWN: _OtherLabel(
        "none of these", f"None of these <b>{taxonomy.UNKNOWN}</b> ", GREY.format(0.6), _PLAIN
    ),
}


def confidence_chart(probabilities: ArrayLike, likely: Collection[str] = ()) -> go.Figure:
    """Draw the probabilities of one image, (8,) in taxonomy order, as bars ranked from the top.

    `likely` are the codes of its prediction set, whose bars have a mark. Raise ValueError for
    anything but 8 numbers from 0 to 1.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    _check_probabilities(values)
    # A stable sort keeps equal probabilities in taxonomy order, as Prediction.ranking does.
    ranked = [taxonomy.DIAGNOSES[i] for i in np.argsort(-values, kind="stable")]
    by_code = dict(zip(taxonomy.CODES, values.tolist(), strict=True))
    bar_texts = {}
    alt_texts = []
    for d in ranked:
        probability = two_digits(by_code[d.code])
        in_set = d.code in likely
        bar_texts[d.code] = f"{probability}{IN_SET}" if in_set else probability
        alt_text = f"{d.name} ({d.group}) {probability}"
        alt_texts.append(f"{alt_text}, in the prediction set" if in_set else alt_text)
    figure = _bars(ranked, by_code, bar_texts, "probability %{text}")
    figure.update_xaxes(title_text="Probability", **UNIT)
    return finish(figure, f"Probability by diagnosis, highest first: {', '.join(alt_texts)}.")


def _check_probabilities(values: NDArray[np.float64]) -> None:
    n_classes = len(taxonomy.CODES)
    in_range = np.isfinite(values) & (values >= 0) & (values <= 1)
    if values.shape != (n_classes,) or not in_range.all():
        raise ValueError(
            f"Expected `probabilities` to be {n_classes} numbers from 0 to 1 "
            f"but got {values.tolist()}."
        )


def class_counts_chart(counts: Mapping[str, int]) -> go.Figure:
    """Draw the number of images by diagnosis code, in taxonomy order; a missing code counts 0.

    The key UNK adds a row for images that are none of the eight, "malignant" and "benign" one for
    images without a diagnosis. Raise ValueError for any other key.
    """
    _check_codes(counts)
    numbers = _counts_of(counts, taxonomy.CODES)
    others = _counts_of(counts, _OTHER_LABELS)
    texts = {code: f"{number:,}" for code, number in numbers.items()}
    # Eight rows of 0 would hide the other labels.
    only_others = any(others.values()) and not any(numbers.values())
    diagnoses = () if only_others else taxonomy.DIAGNOSES
    figure = _bars(diagnoses, numbers, texts, "%{text} images")
    alt_texts = [f"{d.name} {texts[d.code]}" for d in diagnoses]
    for name, number in others.items():
        if number:
            label = _OTHER_LABELS[name]
            # Malignant and benign are in the legend already.
            _add_other_bar(figure, label, number, in_legend=name not in GROUPS.values())
            alt_texts.append(f"{label.words} {number:,}")
    longest = max(*numbers.values(), *others.values(), 1)
    figure.update_xaxes(
        title_text="Images", range=[0, longest * 1.02], nticks=6, tickformat=",d", **GRID
    )
    total = sum(numbers.values()) + sum(others.values())
    return finish(figure, f"Images by diagnosis, {total:,} in all: {', '.join(alt_texts)}.")


def _counts_of(counts: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """Return the count of each name, 0 for a missing one."""
    return {name: int(counts.get(name, 0)) for name in names}


def _check_codes(counts: Mapping[str, int]) -> None:
    allowed = {*taxonomy.CODES, taxonomy.UNKNOWN, *GROUPS.values()}
    strange = [code for code in counts if code not in allowed]
    if strange:
        raise ValueError(
            f"Expected the keys of `counts` to be ISIC 2019 codes but got {', '.join(strange)}."
        )


def _add_other_bar(figure: go.Figure, label: _OtherLabel, number: int, *, in_legend: bool) -> None:
    """Draw a bar of images without one of the eight diagnoses, below the others."""
    figure.add_bar(
        x=[number],
        y=[label.row],
        text=[f"{number:,}"],
        orientation="h",
        name=label.words,
        showlegend=in_legend,
        marker={"color": label.colour, "pattern": label.pattern, "line": {"width": 0}},
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}%{text} images<extra></extra>",
    )
    list_rows(figure, [*figure.layout.yaxis.categoryarray, label.row])


def _bars(
    rows: Sequence[taxonomy.Diagnosis],
    lengths: Mapping[str, float],
    texts: Mapping[str, str],
    hover: str,
) -> go.Figure:
    """Draw one bar a diagnosis, the first row on top; the legend explains malignant and benign."""
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
