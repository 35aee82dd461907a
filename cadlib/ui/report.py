"""All that the Performance page shows as one file, to be kept or passed on."""

import streamlit as st

from cadlib.ui.clinic import operating_point, prevalence
from cadlib.ui.metrics_source import Shown
from cadlib.ui.model_comparison import OTHER, chosen_comparison
from cadlib.ui.models import model_card, model_metrics


def report(shown: Shown) -> None:
    """Draw the button of the report, which is rendered when somebody asks for it."""
    name, data = shown.record.name, shown.figures["data"]["name"]
    point, share, other = operating_point(shown.record), prevalence(), st.session_state.get(OTHER)

    def rendered() -> str:
        from cadlib.report import Subject, render  # noqa: PLC0415 - only who asks for a report waits for its packages

        own, card = model_metrics(name) or {}, model_card(name)
        subject = Subject(
            shown.record,
            shown.figures,
            shown.part,
            shown.role,
            shown.flattered,
            shown.evaluated,
            own,
            card,
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
