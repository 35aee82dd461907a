"""For whom a model is how good, and where the gap to the others is larger than chance makes it."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from cadlib.summary import ECE_NOTE
from cadlib.ui.figures_of import Shown

COLUMNS = {"balanced_accuracy": "Balanced accuracy", "malignant_auc": "AUC malignant"}
MORE = {"sensitivity": "Sensitivity", "specificity": "Specificity"}
WORSE, BETTER = "▼", "△"


def subgroups(shown: Shown, told: Callable[..., str]) -> None:
    """Draw a row a subgroup: figures with their intervals by `told`, marked where they are not those of the rest."""
    st.subheader("Subgroups", anchor=False)
    parts = {"all": shown.figures, **shown.figures["subgroups"]}
    found = {(gap["group"], gap["figure"]): gap for gap in shown.figures.get("gaps", [])}
    st.table([_row(name, part, found, told) for name, part in parts.items()], hide_index=True)
    if "gaps" in shown.figures:
        marked = sum(gap["beyond_chance"] for gap in found.values())
        st.caption(
            f"{WORSE} worse and {BETTER} better than all other images by more than chance: {marked} of {len(found)} "
            "gaps tested. With Holm's steps over all of them, the chance of even one false mark is at most 5 %. A gap "
            "is over the diagnoses that both sides have, with 10 lesions of each or more."
        )
    else:
        st.caption("Which gaps are larger than chance is told where a data set is evaluated: choose one above.")
    st.caption(ECE_NOTE)


def _row(name: str, part: dict[str, Any], found: dict[Any, dict[str, Any]], told: Callable[..., str]) -> dict[str, str]:
    def marked(figure: str) -> str:
        gap = found.get((name, figure))
        if gap is None or not gap["beyond_chance"]:
            return ""
        return f" {WORSE if gap['subgroup'] < gap['rest'] else BETTER}"

    def gap_of(figure: str) -> str:
        gap = found.get((name, figure))
        if gap is None:
            return "–"
        return told(gap["subgroup"] - gap["rest"], gap["interval"]) + marked(figure)

    ends = part["intervals"]
    return {
        "Images": name,
        "n": f"{part['n']:,}",
        "Diagnoses": str(part["n_classes"]),
        **{text: told(part[key], ends[key]) + marked(key) for key, text in COLUMNS.items()},
        "AUC melanoma": told(part["auc"]["MEL"], ends["auc"]["MEL"]),
        "ECE": told(part["ece"], ends["ece"]),
        **({f"{text}, gap": gap_of(key) for key, text in MORE.items()} if found else {}),
    }
