"""How the pages say whether a picture can be read and is known, and hold back an answer that cannot rest on it."""

import streamlit as st

from cadlib import command_hints
from cadlib.assessment import Assessment
from cadlib.images.quality import LIMITS, Finding, QualityReport
from cadlib.images.synthetic import is_demo
from cadlib.model.novelty import NOT_CHECKED, Novelty
from cadlib.ui.models import default_model
from cadlib.ui.pictures import photograph
from cadlib.ui.text import apart

SAID = {"good": "✓", "poor": "! interpret with care", "unreadable": "✕ not interpretable"}


def shown(found: Assessment) -> bool:
    """Tell whether an answer may be seen unasked: where it can rest on the picture, and on the project's drawn lesions.

    Those are there to be seen with their answer, though some of them look like no skin.
    """
    return found.answerable or is_demo(found.image.pixels)


def about_the_kind(novelty: Novelty | None) -> str:
    """Say whether a picture is of a kind that the model knows, and how near it is to the limit."""
    if novelty is None:
        return f"{NOT_CHECKED}. Add a novelty detector: `{command_hints.index(default_model())}`."
    score = f"(novelty {apart(novelty.score, 1, '.2f')}, limit 1)"
    if not novelty.known:
        return f"Image type: not similar to the training images {score}."
    return (
        f"Image type: similar to the training images {score}. "
        "This does not mean that the diagnosis is one of the eight."
    )


def withheld(found: Assessment, name: str) -> bool:
    """Tell whether an answer stays hidden: on a picture that cannot be read or is not known, until the reader asks.

    Such a picture is drawn with what is wrong with it, and with the switch that shows the answer.
    """
    if not not_asked_for(found):
        return False
    left, right = st.columns(2, gap="medium")
    left.image(photograph(found.image), width="stretch", alt=f"Image {name}")
    with right:
        st.caption(about_the_kind(found.novelty))
        quality(found.quality)
    return True


def not_asked_for(found: Assessment) -> bool:
    """Draw the warning of an image on which no answer can rest, and return whether its answer stays hidden.

    The switch below the warning shows the answer.
    """
    if shown(found):
        return False
    st.warning(found.warning, icon=":material/visibility_off:")
    return not st.toggle("Show the result anyway", key=f"anyway-{found.image.key}")


def quality(report: QualityReport) -> None:
    """Draw what is wrong with a picture in a line, and every figure that was measured on request."""
    wrong = len(report.flagged)
    passed = len(report.findings) - wrong
    checks = f"Image quality: {passed} of {len(report.findings)} checks passed"
    with st.expander(
        f"{checks}. {report.sentence}".strip(),
        icon=":material/warning:" if wrong else ":material/check:",
    ):
        rows = [
            f"|{one.name}|{SAID[one.severity]}|{value_text(one)}|{limit_text(one)}|"
            for one in report.findings
        ]
        st.markdown("\n".join(["|Check|Result|Value|Limit|", "|-|-|-:|-|", *rows]))


def value_text(finding: Finding) -> str:
    """Return the value of a check with four digits at most, and more where it would look like its limit."""
    text = f"{round(finding.figure, 4):.4g}"
    return text if float(text) != finding.limit else apart(finding.figure, finding.limit, ".4g")


def limit_text(finding: Finding) -> str:
    """Return the limit of a check with its direction: "at least 0.034 (✕ below 0.018)".

    It is the same whether an image passes the check or not; ✕ is where the result is hidden.
    """
    limit = next(limit for limit in LIMITS if limit.name == finding.name)
    text = f"{'at least' if limit.below else 'at most'} {limit.poor:.4g}"
    if limit.unreadable is None:
        return text
    return f"{text} (✕ {'below' if limit.below else 'above'} {limit.unreadable:.4g})"
