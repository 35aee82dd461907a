"""Draws the performance on degraded images and unseen archives."""

import streamlit as st

from cadlib import command_hints
from cadlib.metrics import tables
from cadlib.metrics.conditions_schema import AcrossArchives, Robustness
from cadlib.report import charts
from cadlib.ui.frame import chart
from cadlib.ui.harmless import plain_rows
from cadlib.ui.text import percent

MERITS = {
    "balanced_accuracy": "balanced accuracy",
    "malignant_auc": "AUC, malignant or benign",
}


def robustness(measured: Robustness | None, name: str) -> None:
    """Draw the performance on degraded and rotated images, or the command that measures it."""
    st.subheader("Robustness to image degradation", anchor=False)
    if measured is None:
        st.info(f"Not measured. Measure it: `{command_hints.robustness_into(name)}`.")
        return
    merit = st.segmented_control(
        "Metric",
        list(MERITS),
        default="balanced_accuracy",
        format_func=MERITS.__getitem__,
        key="merit",
        required=True,
    )
    # With `required`, a metric is always selected.
    assert merit is not None
    chart(charts.damage_chart(measured, merit), key="damage")
    rate = measured.flips.rate
    st.caption(
        f"n = {measured.n:,} images, seven rotated or mirrored views each. "
        f"The top diagnosis changes in {_rate_text(rate['mean'])} of the views, "
        f"and in at least one view for {_rate_text(rate['any'])} of the images."
    )


def _rate_text(rate: float | None) -> str:
    """Return a share, 0 to 1, in percent, or that it is not defined."""
    if rate is None:
        return charts.UNDEFINED
    return percent(rate)


def unseen_archives(archives: AcrossArchives | None) -> None:
    """Draw the performance on an archive that was excluded from training, if it was measured."""
    if not archives:
        return
    st.subheader("Results on unseen archives", anchor=False)
    head, *rows = tables.across_rows(archives)
    records = []
    for row in rows:
        cells = zip(head, row, strict=True)
        records.append(dict(cells))
    st.table(plain_rows(records), hide_index=True)
