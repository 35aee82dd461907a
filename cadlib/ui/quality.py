"""Draws image quality and image type, and hides unreliable results."""

import streamlit as st

from cadlib import command_hints
from cadlib.assessment import Assessment
from cadlib.images.quality import LIMITS, QualityCheck, QualityReport
from cadlib.images.synthetic import is_demo
from cadlib.model.novelty import NOT_CHECKED, Novelty
from cadlib.ui.image_views import photograph
from cadlib.ui.models import default_model
from cadlib.ui.text import apart

SEVERITY_TEXTS = {"good": "✓", "poor": "! interpret with care", "unreadable": "✕ not interpretable"}


def shown(assessment: Assessment) -> bool:
    """Return whether a result is shown without a request of the reader.

    That is so if it can be reliable, and for the project's synthetic lesions. Those exist to be
    seen with their results, though some of them do not look like skin.
    """
    return assessment.answerable or is_demo(assessment.image.pixels)


def about_the_kind(novelty: Novelty | None) -> str:
    """Return whether an image is similar to the training images, and how near the limit is."""
    if novelty is None:
        command = command_hints.index(default_model())
        return f"{NOT_CHECKED}. Add one: `{command}`."
    score = f"(novelty {apart(novelty.score, 1, '.2f')}, limit 1)"
    if not novelty.known:
        return f"Image type: not similar to the training images {score}."
    return (
        f"Image type: similar to the training images {score}. "
        "This does not mean that the diagnosis is one of the eight."
    )


def withheld(assessment: Assessment, name: str) -> bool:
    """Return whether a result stays hidden.

    That is so for an image that cannot be interpreted, or is not similar to the training images.
    Such an image is drawn with its problems, and with the switch that shows the result.
    """
    is_hidden = warn_if_unreliable(assessment)
    if not is_hidden:
        return False
    left, right = st.columns(2, gap="medium")
    jpeg = photograph(assessment.image)
    left.image(jpeg, width="stretch", alt=f"Image {name}")
    with right:
        st.caption(about_the_kind(assessment.novelty))
        quality(assessment.quality)
    return True


def warn_if_unreliable(assessment: Assessment) -> bool:
    """Draw the warning of an image without a reliable result, with a switch that shows the result.

    Return whether the result stays hidden.
    """
    if shown(assessment):
        return False
    st.warning(assessment.warning, icon=":material/visibility_off:")
    requested = st.toggle("Show the result anyway", key=f"anyway-{assessment.image.key}")
    return not requested


def quality(report: QualityReport) -> None:
    """Draw the problems of an image in a line, and the value of every check on request."""
    total = len(report.checks)
    passed = total - len(report.flagged)
    summary = f"Image quality: {passed} of {total} checks passed. {report.sentence}"
    icon = ":material/warning:" if report.flagged else ":material/check:"
    lines = ["|Check|Result|Value|Limit|", "|-|-|-:|-|"]
    for check in report.checks:
        severity = SEVERITY_TEXTS[check.severity]
        value = value_text(check)
        limit = limit_text(check)
        lines.append(f"|{check.name}|{severity}|{value}|{limit}|")
    with st.expander(summary.strip(), icon=icon):
        st.markdown("\n".join(lines))


def value_text(check: QualityCheck) -> str:
    """Return the value of a check with at most four digits; more if it looks like its limit."""
    text = f"{round(check.measurement, 4):.4g}"
    # Four digits are enough where they differ from the limit.
    if float(text) != check.limit:
        return text
    return apart(check.measurement, check.limit, ".4g")


def limit_text(check: QualityCheck) -> str:
    """Return the limit of a check with its direction: "at least 0.034 (✕ below 0.018)".

    It is the same whether an image passes the check or not; ✕ is where the result is hidden.
    """
    limit = next(limit for limit in LIMITS if limit.name == check.name)
    passes = "at least" if limit.below else "at most"
    text = f"{passes} {limit.poor:.4g}"
    if limit.unreadable is None:
        return text
    hidden = "below" if limit.below else "above"
    return f"{text} (✕ {hidden} {limit.unreadable:.4g})"
