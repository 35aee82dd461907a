"""What this clinic has chosen, on every page, and what the model's threshold means for its patients."""

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.errors import ClinicInvalid
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, about_the_points, shown_name
from cadlib.metrics.predictive_values import PredictiveValues, at_prevalence
from cadlib.model.record import ModelRecord
from cadlib.report import charts
from cadlib.server.clinic_settings import LEAST, MOST, Clinic, read_clinic, save_clinic
from cadlib.ui.frame import chart
from cadlib.ui.text import about_the_patients, about_the_prevalence, plain

_POINT, _SHARE = "operating-point", "prevalence"
SAVED = "Saved in a file for this clinic: one setting for all users of this server."


def operating_point(record: ModelRecord) -> str:
    """Return the name of the clinic's operating point, the usual one where this model has no such point."""
    chosen = _clinic().operating_point
    return chosen if chosen in _points(record) else DEFAULT_OPERATING_POINT


def prevalence() -> float | None:
    """Return the share of malignant lesions that the clinic has named, None where it has not."""
    return _clinic().prevalence


def consequences(found: Assessment, record: ModelRecord) -> None:
    """Draw what threshold and probability mean at the clinic's prevalence, and let point and prevalence be chosen."""
    names, chosen, point = _points(record), _clinic(), found.decision.operating_point
    st.markdown("**In your clinic**")
    st.session_state.setdefault(_POINT, point.name)
    st.session_state.setdefault(_SHARE, chosen.prevalence and round(100 * chosen.prevalence, 6))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "Operating point",
            names,
            required=True,
            key=_POINT,
            on_change=_remember,
            format_func=shown_name,
            help=f"{about_the_points()} {SAVED}",
        )
        st.number_input(
            "Share of malignant lesions (%)",
            100 * LEAST,
            100 * MOST,
            None,
            0.5,
            "%.1f",
            key=_SHARE,
            on_change=_remember,
            placeholder="not set",
            width=200,
            help=f"Among all lesions examined in this clinic. {SAVED}",
        )
    if chosen.prevalence is None:
        st.caption(
            "Enter your clinic's share of malignant lesions to see what this threshold means for 100 patients. "
            "The share in the data set would mislead: it comes from specialist clinics."
        )
        return
    values = PredictiveValues(point, chosen.prevalence)
    chart(charts.hundred_patients(values), key="hundred")
    st.caption(about_the_patients(values, f"{point.split} images"))
    here = at_prevalence(
        found.prediction.malignant_probability, point.prevalence, chosen.prevalence
    )
    st.caption(
        about_the_prevalence(
            found.prediction.malignant_probability, here, point.prevalence, chosen.prevalence
        )
    )


def _points(record: ModelRecord) -> list[str]:
    return [point.name for point in record.operating_points]


def _clinic() -> Clinic:
    """Return what was chosen: in this session, else as the clinic's file has it, whose trouble is said once."""
    if "clinic" not in st.session_state:
        try:
            st.session_state["clinic"] = read_clinic()
        except ClinicInvalid as error:
            st.session_state["clinic"] = Clinic()
            st.toast(plain(str(error)), icon=":material/warning:")
    held: Clinic = st.session_state["clinic"]
    return held


def _remember() -> None:
    share = st.session_state[_SHARE]
    chosen = Clinic(st.session_state[_POINT], share and share / 100)
    st.session_state["clinic"] = chosen
    try:
        save_clinic(chosen)
    except ClinicInvalid as error:
        st.toast(plain(str(error)), icon=":material/warning:")
