"""Age, sex and site of a picture's patient: asked for where the model takes them, and what they changed."""

from functools import partial

import streamlit as st

from cadlib.images.patient import COARSE_SITES, MAX_AGE_YEARS, SEXES, SITES, PatientFacts
from cadlib.model.record import ModelRecord
from cadlib.ui.session import Case, facts_of, know
from cadlib.ui.text import about_the_facts, about_the_header, plain


def patient(case: Case, record: ModelRecord) -> None:
    """Ask for what is known of the patient and say what it changed; where the model takes nothing, say that."""
    held, key = facts_of(case), case.key[:8]
    if record.evidence is None:
        header = f" {about_the_header(held)}" if held.known else ""
        model = plain(f"{record.name} {record.version}")
        st.caption(f"Age, sex and site: {model} uses the image only.{header}")
        return
    keep = partial(_keep, case.key)
    st.markdown("**Patient data**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        # A value in the state, not as default, can be taken back; and it is still there after a look at another page.
        for name, value in (("age", held.age_years), ("sex", held.sex), ("site", held.site)):
            st.session_state.setdefault(f"{name}-{key}", value)
        st.number_input(
            "Age (years)",
            0.0,
            float(MAX_AGE_YEARS),
            None,
            1.0,
            "%.0f",
            f"age-{key}",
            on_change=keep,
        )
        for name, terms in (("sex", SEXES), ("site", (*SITES, *COARSE_SITES))):
            st.selectbox(
                name.title(),
                terms,
                None,
                key=f"{name}-{key}",
                on_change=keep,
                placeholder="not set",
            )
    if held.site in COARSE_SITES:
        finer = ", ".join(COARSE_SITES[held.site])
        st.caption(f"The site {held.site} is not used: the model uses only {finer}.")
    assert case.assessment is not None
    st.caption(about_the_facts(case.assessment.prediction))


def _keep(key: str) -> None:
    age, sex, site = (st.session_state[f"{name}-{key[:8]}"] for name in ("age", "sex", "site"))
    know(key, PatientFacts(age, sex, site))
