"""Shows the measured performance of a model, with the number of images.

Every value has its interval where one is defined.
"""

import streamlit as st

from cadlib import ui
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.metrics.summary_schema import Summary
from cadlib.report import charts
from cadlib.taxonomy import MALIGNANT_NOTE
from cadlib.ui.metrics_source import Shown


def by_diagnosis(metrics: Summary) -> None:
    """Draw sensitivity and specificity of each diagnosis."""
    st.subheader("By diagnosis", anchor=False)
    images = Counts.of(metrics)
    if not images.diagnosed:
        st.caption(NO_DIAGNOSIS_NOTE)
        return
    figure = charts.per_class_chart(metrics)
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
    ui.headline(shown.metrics)
    ui.threshold(shown)
    with st.grid(2, min_column_width=420, gap="medium") as grid:
        with grid.cell():
            ui.confusion(shown)
        with grid.cell():
            by_diagnosis(shown.metrics)
    ui.errors(shown)
    ui.subgroups(shown)
    ui.compare_models(shown)
    own = ui.model_metrics(name)
    ui.robustness(own.robustness if own else None, name)
    ui.unseen_archives(own.across_archives if own else None)


record = ui.page("Performance")
if not record:
    st.stop()
name, shown = ui.choose_metrics()
if shown:
    results(shown, name)

st.subheader("Model card", anchor="model-card")
with st.expander(ui.plain(name), expanded=True, key="card"):
    st.html(ui.card_html(ui.model_card(name)))
