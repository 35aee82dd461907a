"""Shows the measured performance of a model, with the number of images.

Every value has its interval where one is defined.
"""

from typing import Any

import streamlit as st

from cadlib import ui
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.report import charts
from cadlib.taxonomy import MALIGNANT_NOTE
from cadlib.ui.metrics_source import Shown


def by_diagnosis(measured: dict[str, Any]) -> None:
    """Draw sensitivity and specificity of each diagnosis."""
    st.subheader("By diagnosis", anchor=False)
    images = Counts.of(measured)
    if not images.diagnosed:
        st.caption(NO_DIAGNOSIS_NOTE)
        return
    figure = charts.per_class_chart(measured)
    ui.chart(figure, key="per-class")
    st.caption(MALIGNANT_NOTE)


def results(shown: Shown, name: str) -> None:
    """Draw all results of the selected model on the selected images."""
    record = shown.record
    claim = ui.plain(record.validation_claim)
    claim = claim[0].upper() + claim[1:]
    model = ui.plain(f"{record.name} {record.version}")
    st.markdown(
        f"{model} {shown.about} {claim}. "
        "Brackets: 95 % CI, resampled by lesion; not shown when there are too few lesions."
    )
    ui.report(shown)
    ui.headline(shown.figures)
    ui.threshold(shown)
    with st.grid(2, min_column_width=420, gap="medium") as grid:
        with grid.cell():
            ui.confusion(shown)
        with grid.cell():
            by_diagnosis(shown.figures)
    ui.errors(shown)
    ui.subgroups(shown)
    ui.versus(shown)
    own = ui.model_metrics(name) or {}
    ui.robustness(own.get("robustness"), name)
    ui.unseen_archives(own.get("across_archives"))


record = ui.page("Performance")
if not record:
    st.stop()
name, shown = ui.choose_figures()
if shown:
    results(shown, name)

st.subheader("Model card", anchor="model-card")
with st.expander(ui.plain(name), expanded=True, key="card"):
    st.html(ui.card_html(ui.model_card(name)))
