"""Draws age, sex and site of a patient, and what they changed."""

from functools import partial

import streamlit as st

from cadlib.images.patient import COARSE_SITES, MAX_AGE_YEARS, SEXES, SITES, PatientFacts
from cadlib.model.record import ModelRecord
from cadlib.ui.session import Case, facts_of, remember_facts
from cadlib.ui.text import about_the_facts, about_the_header, plain


def patient(case: Case, record: ModelRecord) -> None:
    """Draw the fields for patient data and what they changed; say so if the model takes none."""
    facts = facts_of(case)
    if record.evidence is None:
        header = f" {about_the_header(facts)}" if facts.known else ""
        model = plain(f"{record.name} {record.version}")
        st.caption(f"Age, sex and site: {model} uses the image only.{header}")
        return
    st.markdown("**Patient data**")
    _draw_fields(case, facts)
    if facts.site in COARSE_SITES:
        finer = ", ".join(COARSE_SITES[facts.site])
        st.caption(f"The site {facts.site} is not used: the model uses only {finer}.")
    # Patient data are drawn only beside a result.
    assert case.assessment is not None
    st.caption(about_the_facts(case.assessment.prediction))


def _draw_fields(case: Case, facts: PatientFacts) -> None:
    """Draw the fields for age, sex and site, with the values that are known so far."""
    age_key, sex_key, site_key = _field_keys(case.key)
    # Set as state: a preset given to the widget could not be cleared, and would be lost after a
    # visit to another page.
    st.session_state.setdefault(age_key, facts.age_years)
    st.session_state.setdefault(sex_key, facts.sex)
    st.session_state.setdefault(site_key, facts.site)
    save = partial(_save, case.key)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Age (years)",
            0.0,
            float(MAX_AGE_YEARS),
            None,
            1.0,
            "%.0f",
            age_key,
            on_change=save,
            placeholder="not set",
        )
        st.selectbox("Sex", SEXES, None, key=sex_key, on_change=save, placeholder="not set")
        st.selectbox(
            "Anatomical site",
            (*SITES, *COARSE_SITES),
            None,
            key=site_key,
            on_change=save,
            placeholder="not set",
        )


def _field_keys(case_key: str) -> tuple[str, str, str]:
    """Return the keys of the fields for age, sex and site of a case."""
    short = case_key[:8]
    return f"age-{short}", f"sex-{short}", f"site-{short}"


def _save(case_key: str) -> None:
    age_key, sex_key, site_key = _field_keys(case_key)
    state = st.session_state
    remember_facts(case_key, PatientFacts(state[age_key], state[sex_key], state[site_key]))
