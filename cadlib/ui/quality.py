"""How the pages say whether a picture can be read, and hold back an answer that cannot rest on it."""

import pandas as pd
import streamlit as st

from cadlib.assessment import Assessment
from cadlib.quality import QualityReport
from cadlib.ui.pictures import photograph

SAID = {"good": "✓", "poor": "! read with care", "unreadable": "✕ not readable"}


def withheld(found: Assessment, name: str) -> bool:
    """Tell whether an answer stays hidden: on a picture that cannot be read, until the reader asks for it.

    Such a picture is drawn with what is wrong with it, and with the switch that shows the answer.
    """
    if found.quality.readable:
        return False
    said = f"No answer can rest on this picture. {found.quality.sentence}"
    st.warning(said, icon=":material/visibility_off:")
    if st.toggle("Show the answer all the same", key=f"anyway-{found.image.sha256[:8]}"):
        return False
    left, right = st.columns(2, gap="medium")
    left.image(photograph(found.image), width="stretch", alt=f"The picture {name}")
    with right:
        quality(found.quality)
    return True


def quality(report: QualityReport) -> None:
    """Draw what is wrong with a picture in a line, and every figure that was measured on request."""
    wrong = len(report.flagged)
    checks = f"{len(report.findings) - wrong} of {len(report.findings)} checks of the picture passed"
    with st.expander(
        f"{checks}. {report.sentence}".strip(), icon=":material/warning:" if wrong else ":material/check:"
    ):
        rows = [(one.name, SAID[one.severity], one.figure, one.limit) for one in report.findings]
        table = pd.DataFrame(rows, columns=["Check", "Found", "Figure", "Limit"])
        st.dataframe(table, hide_index=True, width="stretch", height="content")
