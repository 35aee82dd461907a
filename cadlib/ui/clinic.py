"""Keeps the clinic's settings and draws what they mean for its patients."""

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.errors import ClinicInvalid
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, about_the_points, shown_name
from cadlib.metrics.predictive_values import PredictiveValues, at_prevalence
from cadlib.model.record import ModelRecord
from cadlib.report import charts
from cadlib.server.clinic_settings import LEAST, MOST, Clinic, read_clinic, save_clinic
from cadlib.ui.frame import chart
from cadlib.ui.text import about_the_patients, about_the_prevalence, patients_intervals, plain

_POINT = "operating-point"
_SHARE = "prevalence"
SAVED = "Saved in a file for this clinic: one setting for all users of this server."


def operating_point(record: ModelRecord) -> str:
    """Return the name of the clinic's operating point.

    It is the usual one if this model does not have the clinic's.
    """
    chosen = _clinic().operating_point
    if chosen in _points(record):
        return chosen
    return DEFAULT_OPERATING_POINT


def prevalence() -> float | None:
    """Return the clinic's share of malignant lesions, 0 to 1, None if it is not set."""
    return _clinic().prevalence


def consequences(assessment: Assessment, record: ModelRecord) -> None:
    """Draw what threshold and probability mean at the clinic's prevalence, and its settings."""
    settings = _clinic()
    point = assessment.decision.operating_point
    st.markdown("**In your clinic**")
    _draw_settings(record, point.name, settings.prevalence)
    if settings.prevalence is None:
        st.caption(
            "Enter your clinic's share of malignant lesions to see what this threshold means for "
            "100 patients. The share in the data set would mislead: it comes from specialist "
            "clinics."
        )
        return
    values = PredictiveValues(point, settings.prevalence)
    chart(charts.hundred_patients(values), key="hundred")
    sentences = about_the_patients(values, f"{point.split} images")
    st.caption(sentences, help=patients_intervals(values))
    measured = assessment.prediction.malignant_probability
    here = at_prevalence(measured, point.prevalence, settings.prevalence)
    st.caption(about_the_prevalence(measured, here, point.prevalence, settings.prevalence))


def _draw_settings(record: ModelRecord, point: str, share: float | None) -> None:
    """Draw the controls for the operating point and the share of malignant lesions."""
    percent = None
    if share is not None:
        # Rounded, because 100 * share can have digits that nobody entered.
        percent = round(100 * share, 6)
    # Set as state: a preset of the widget would be lost after a visit to another page.
    st.session_state.setdefault(_POINT, point)
    st.session_state.setdefault(_SHARE, percent)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "Operating point",
            _points(record),
            required=True,
            key=_POINT,
            on_change=_save,
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
            on_change=_save,
            placeholder="not set",
            width=200,
            help=f"Among all lesions examined in this clinic. {SAVED}",
        )


def _points(record: ModelRecord) -> list[str]:
    return [point.name for point in record.operating_points]


def _clinic() -> Clinic:
    """Return the settings of this session, at first those of the clinic's file.

    A file that cannot be read is reported once, and the settings are then empty.
    """
    if "clinic" not in st.session_state:
        try:
            st.session_state["clinic"] = read_clinic()
        except ClinicInvalid as error:
            st.session_state["clinic"] = Clinic()
            st.toast(plain(str(error)), icon=":material/warning:")
    settings: Clinic = st.session_state["clinic"]
    return settings


def _save() -> None:
    """Save the settings of the controls, in the session and in the clinic's file."""
    percent = st.session_state[_SHARE]
    share = None
    if percent is not None:
        share = percent / 100
    settings = Clinic(st.session_state[_POINT], share)
    # First in the session, where they apply even if the file cannot be written.
    st.session_state["clinic"] = settings
    try:
        save_clinic(settings)
    except ClinicInvalid as error:
        st.toast(plain(str(error)), icon=":material/warning:")
