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


class _BarGroup(NamedTuple):
    """How the bars of malignant or of benign diagnoses are drawn."""

    malignant: bool
    legend: str
    colour: str
    pattern: dict[str, Any]


_BAR_GROUPS: Final = (
    _BarGroup(True, f"{taxonomy.MALIGNANT_MARK} malignant", taxonomy.MALIGNANT_COLOUR, _HATCH),
    _BarGroup(False, f"{taxonomy.BENIGN_MARK} benign", taxonomy.BENIGN_COLOUR, _PLAIN),
)


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
    order = np.argsort(-values, kind="stable")
    ranked = [taxonomy.DIAGNOSES[number] for number in order]
    by_code = dict(zip(taxonomy.CODES, values.tolist(), strict=True))
    bar_texts = {}
    alt_texts = []
    for d in ranked:
        bar_text = two_digits(by_code[d.code])
        alt_text = f"{d.name} ({d.group}) {bar_text}"
        if d.code in likely:
            bar_text += IN_SET
            alt_text += ", in the prediction set"
        bar_texts[d.code] = bar_text
        alt_texts.append(alt_text)
    figure = _bars(ranked, by_code, bar_texts, "probability %{text}")
    figure.update_xaxes(title_text="Probability", **UNIT)
    return finish(figure, f"Probability by diagnosis, highest first: {', '.join(alt_texts)}.")


def _check_probabilities(values: NDArray[np.float64]) -> None:
    """Raise ValueError for anything but 8 numbers from 0 to 1."""
    n_classes = len(taxonomy.CODES)
    has_shape = values.shape == (n_classes,)
    # A comparison with NaN is false, so NaN is refused as well.
    in_range = (values >= 0) & (values <= 1)
    if has_shape and in_range.all():
        return
    raise ValueError(
        f"Expected `probabilities` to be {n_classes} numbers from 0 to 1 but got {values.tolist()}."
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
    n_diagnosed = sum(numbers.values())
    n_others = sum(others.values())
    # Eight rows of 0 would hide the other labels.
    diagnoses = () if n_others and not n_diagnosed else taxonomy.DIAGNOSES
    figure = _bars(diagnoses, numbers, texts, "%{text} images")
    alt_texts = [f"{d.name} {texts[d.code]}" for d in diagnoses]
    alt_texts += _add_other_bars(figure, others)
    # At least 1: an axis from 0 to 0 has no width.
    longest = max(*numbers.values(), *others.values(), 1)
    figure.update_xaxes(
        # A little room, so that the longest bar does not touch the edge.
        title_text="Images",
        range=[0, longest * 1.02],
        nticks=6,
        tickformat=",d",
        **GRID,
    )
    total = n_diagnosed + n_others
    return finish(figure, f"Images by diagnosis, {total:,} in all: {', '.join(alt_texts)}.")


def _counts_of(counts: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """Return the count of each name, 0 for a missing one."""
    return {name: int(counts.get(name, 0)) for name in names}


def _check_codes(counts: Mapping[str, int]) -> None:
    """Raise ValueError for a key that is none of the labels."""
    allowed = {*taxonomy.CODES, taxonomy.UNKNOWN, *GROUPS.values()}
    strange = [code for code in counts if code not in allowed]
    if strange:
        keys = ", ".join(strange)
        raise ValueError(f"Expected the keys of `counts` to be ISIC 2019 codes but got {keys}.")


def _add_other_bars(figure: go.Figure, numbers: Mapping[str, int]) -> list[str]:
    """Draw a bar for each label outside the eight diagnoses that has images; return its text."""
    texts = []
    for name, number in numbers.items():
        if not number:
            continue
        label = _OTHER_LABELS[name]
        # Malignant and benign are in the legend already.
        in_legend = name not in GROUPS.values()
        _add_other_bar(figure, label, number, in_legend=in_legend)
        texts.append(f"{label.words} {number:,}")
    return texts


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
    # The rows so far keep their order, and the new one is the last.
    list_rows(figure, [*figure.layout.yaxis.categoryarray, label.row])


def _bars(
    rows: Sequence[taxonomy.Diagnosis],
    lengths: Mapping[str, float],
    texts: Mapping[str, str],
    hover: str,
) -> go.Figure:
    """Draw one bar a diagnosis, the first row on top; the legend explains malignant and benign."""
    figure = go.Figure()
    for group in _BAR_GROUPS:
        members = [d for d in rows if d.malignant is group.malignant]
        marker = {"color": group.colour, "pattern": group.pattern, "line": {"width": 0}}
        figure.add_bar(
            x=[lengths[d.code] for d in members],
            y=[row_label(d) for d in members],
            orientation="h",
            name=group.legend,
            marker=marker,
            text=[texts[d.code] for d in members],
            textposition="outside",
            textangle=0,
            cliponaxis=False,
            hovertemplate=f"%{{y}}{hover}<extra></extra>",
        )
    list_rows(figure, [row_label(d) for d in rows])
    # The number after the longest bar lies outside of the axis, and needs the room.
    figure.update_layout(bargap=0.32, margin={"r": 52})
    return figure
