"""Offers the content of the Performance page as one file."""

import streamlit as st

from cadlib.ui.clinic import operating_point, prevalence
from cadlib.ui.metrics_source import Shown
from cadlib.ui.model_comparison import OTHER, chosen_comparison
from cadlib.ui.models import model_card, model_metrics


def report(shown: Shown) -> None:
    """Draw the button that downloads the report, which is rendered only on a click."""
    name = shown.record.name
    data = shown.data_name
    # Read now, because a download runs outside of the page.
    point = operating_point(shown.record)
    share = prevalence()
    other = st.session_state.get(OTHER)

    def rendered() -> str:
        # Imported late: only a report needs these packages.
        from cadlib.report import Subject, render  # noqa: PLC0415

        subject = Subject(
            shown.record,
            shown.metrics,
            shown.part,
            shown.role,
            shown.flattered,
            shown.evaluated,
            model_metrics(name),
            model_card(name),
            share,
            point,
            chosen_comparison(shown, other),
        )
        return render(subject, "the Performance page")

    st.download_button(
        "Download report",
        rendered,
        f"{name}_on_{data}.html",
        "text/html",
        "download-report",
        icon=":material/download:",
        on_click="ignore",
        help="All results and charts of this page in one HTML file. It contains no images.",
    )
