"""Lists the pages in the menu, in their order.

Each page draws its own frame with `cadlib.ui.page`.
"""

import streamlit as st

# `cadlib.ui.page` checks this to see that the menu has run.
st.session_state["menu"] = True

st.navigation(
    [
        # The first page answers at "/"; the second entry gives it an address of its own, /diagnose.
        st.Page("pages/diagnose.py", title="Diagnose", url_path="home", default=True),
        st.Page("pages/diagnose.py", title="Diagnose", url_path="diagnose", visibility="hidden"),
        st.Page("pages/work_list.py", title="Work list"),
        st.Page("pages/saliency.py", title="Saliency"),
        st.Page("pages/dataset.py", title="Data set"),
        st.Page("pages/performance.py", title="Performance"),
        st.Page("pages/training.py", title="Training"),
    ],
    position="top",
).run()
