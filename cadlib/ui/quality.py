"""How the pages say whether a picture can be read and is known, and hold back an answer that cannot rest on it."""

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.novelty import NOT_CHECKED, Novelty
from cadlib.quality import QualityReport
from cadlib.synthetic import is_demo
from cadlib.ui.pictures import photograph

SAID = {"good": "✓", "poor": "! read with care", "unreadable": "✕ not readable"}


def shown(found: Assessment) -> bool:
    """Tell whether an answer may be seen unasked: where it can rest on the picture, and on the project's drawn lesions.

    Those are there to be seen with their answer, though some of them look like no skin.
    """
    return found.answerable or is_demo(found.image.pixels)


def about_the_kind(novelty: Novelty | None) -> str:
    """Say whether a picture is of a kind that the model knows, and how near it is to the limit."""
    if novelty is None:
        return f"{NOT_CHECKED}: `python -m cadlib index` lets the model tell."
    looks = "looks like" if novelty.known else "does not look like"
    return f"It {looks} the pictures that the model was trained on: {novelty.score:.2f}, where 1 is the limit."


def withheld(found: Assessment, name: str) -> bool:
    """Tell whether an answer stays hidden: on a picture that cannot be read or is not known, until the reader asks.

    Such a picture is drawn with what is wrong with it, and with the switch that shows the answer.
    """
    if shown(found):
        return False
    reasons = "" if found.quality.readable else found.quality.sentence
    if found.novelty and not found.novelty.known:
        reasons = f"{found.novelty.sentence} {reasons}"
    said = f"No answer can rest on this picture. {reasons}"
    st.warning(said, icon=":material/visibility_off:")
    if st.toggle("Show the answer all the same", key=f"anyway-{found.image.key}"):
        return False
    left, right = st.columns(2, gap="medium")
    left.image(photograph(found.image), width="stretch", alt=f"The picture {name}")
    with right:
        st.caption(about_the_kind(found.novelty))
        quality(found.quality)
    return True


def quality(report: QualityReport) -> None:
    """Draw what is wrong with a picture in a line, and every figure that was measured on request."""
    wrong = len(report.flagged)
    checks = f"{len(report.findings) - wrong} of {len(report.findings)} checks of the picture passed"
    with st.expander(
        f"{checks}. {report.sentence}".strip(), icon=":material/warning:" if wrong else ":material/check:"
    ):
        rows = [
            f"|{one.name}|{SAID[one.severity]}|{round(one.figure, 4):.4g}|{one.limit:.4g}|" for one in report.findings
        ]
        st.markdown("\n".join(["|Check|Found|Figure|Limit|", "|-|-|-:|-:|", *rows]))
