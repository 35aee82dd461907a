"""Two models on the same images: which is better, by more than chance."""

from typing import TYPE_CHECKING

import streamlit as st

from cadlib import figures, record
from cadlib.comparison import Answers, Comparison, compare
from cadlib.errors import CadError
from cadlib.tables import figure_text
from cadlib.ui.figures_of import Shown, evaluation_of
from cadlib.ui.frame import chart
from cadlib.ui.text import plain

if TYPE_CHECKING:
    from cadlib.evaluated import Evaluated

WORDS = {
    "right": "First diagnosis right",
    "malignant referred": "Malignant, referred",
    "benign not referred": "Benign, not referred",
}


def versus(shown: Shown) -> None:
    """Let another model be chosen, evaluate it on the same images, and draw the differences."""
    st.subheader("Compared with another model", anchor=False)
    others = [name for name in record.list_models() if name != shown.record.name]
    if not others:
        st.caption("There is no other model in models/; `python -m cadlib train` makes one.")
        return
    other = st.selectbox("Other model", others, None, placeholder="none", key="other-model")
    if other is None:
        return
    if shown.evaluated is None or shown.data is None:
        st.caption("Two models are compared on the same images: choose a data set above.")
        return
    try:
        found = record.read_record(record.find_model(other))
        second = evaluation_of(found, shown.data)
    except CadError as error:
        st.error(plain(str(error)))
        return
    if second is not None:
        _draw(_compared(shown.key, second.name, shown.evaluated, second), shown.record.name, other)


def _draw(found: Comparison, first: str, second: str) -> None:
    chart(figures.comparison_chart(found, first, second), key="comparison")
    rows = [
        {
            "Figure": name,
            first: figure_text(part.first),
            second: figure_text(part.second),
            "Difference (95 % interval)": figure_text(part.difference, part.interval),
            "Better": {"first": first, "second": second}.get(part.better or "", "no more than chance"),
        }
        for name, part in ((text, found.figures[key]) for key, text in figures.FIGURE_NAMES.items())
    ]
    st.table(rows, hide_index=True)
    tests = [
        {
            "McNemar's test": WORDS[name],
            "n": f"{test.n:,}",
            f"Only {first}": f"{test.only_first:,}",
            f"Only {second}": f"{test.only_second:,}",
            "p exact": _p(test.exact),
            "p mid": _p(test.mid_p),
        }
        for name, test in found.tests.items()
    ]
    st.table(tests, hide_index=True)
    st.caption(
        f"n = {found.n:,} images of {found.n_lesions:,} lesions, both models on the same ones, each at its own "
        "operating point. Intervals are paired and drawn over lesions; the images of one lesion count together in p."
    )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


@st.cache_resource(max_entries=10, show_spinner="Comparing …")
def _compared(key: str, other: str, _first: "Evaluated", _second: "Evaluated") -> Comparison:  # noqa: ARG001
    both = _first.table["image"].isin(_second.table["image"]).to_numpy(bool)
    same = _second.table["image"].isin(_first.table["image"]).to_numpy(bool)
    one, two = _first.answers, _second.answers
    return compare(
        _first.labels[both],
        Answers(one.probabilities[both], one.threshold),
        Answers(two.probabilities[same], two.threshold),
        _first.groups[both],
    )
