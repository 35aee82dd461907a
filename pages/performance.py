"""How good the model is, in figures that were measured, each with the number of images behind it."""

import streamlit as st

from cadlib import figures, own_figures, summary, ui
from cadlib.errors import CadError
from cadlib.taxonomy import DIAGNOSES

ROLE = {
    "validation": "Model, calibration and thresholds were chosen on these images.",
    "test": "None of these images had a part in training, in calibration or in the thresholds.",
}


def told(value: float | None, interval: list[float] | None = None) -> str:
    """Return two digits, with the interval where there is one, or that the figure is not defined."""
    if value is None:
        return figures.UNDEFINED
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})" if interval else f"{value:.2f}"


def headline(measured: dict) -> None:
    """Draw the four figures that a reader asks for first, each with its interval and its n."""
    n, by_class, intervals = measured["n"], measured["n_by_class"], measured["intervals"]
    malignant = sum(by_class[d.code] for d in DIAGNOSES if d.malignant)
    melanoma, classes = by_class["MEL"], measured["n_classes"]
    balanced, area, error = (measured[name] for name in ("balanced_accuracy", "malignant_auc", "ece"))
    rows = (
        ("Balanced accuracy", balanced, intervals["balanced_accuracy"], f"n = {n:,}, {classes} diagnoses"),
        ("AUC malignant", area, intervals["malignant_auc"], f"n = {malignant:,} of {n:,}"),
        ("AUC melanoma", measured["auc"]["MEL"], intervals["auc"]["MEL"], f"n = {melanoma:,} of {n:,}"),
        ("Calibration error", error, intervals["ece"], f"n = {n:,}; ECE, 0 is best"),
    )
    with st.grid(4, min_column_width=180):
        for name, value, interval, over in rows:
            with st.container(border=True, gap=None):
                st.metric(name, told(value))
                between = f"95 % {interval[0]:.2f} to {interval[1]:.2f}, " if interval else ""
                st.caption(between + over)


def damage(found: dict | None, name: str) -> None:
    """Draw what damaged and turned pictures cost, or say how that is measured."""
    st.subheader("Across damage", anchor=False)
    if found is None:
        st.info(f"Not measured; `python -m cadlib robustness --model {name} --data DIR --into-model` measures it.")
        return
    names = {"balanced_accuracy": "balanced accuracy", "malignant_auc": "AUC malignant"}
    merit = st.segmented_control(
        "Figure", list(names), default="balanced_accuracy", format_func=names.get, key="merit", required=True
    )
    ui.chart(figures.damage_chart(found, merit), key="damage")
    rate = found["flips"]["rate"]["mean"]
    flipped = figures.UNDEFINED if rate is None else f"{100 * rate:.1f} %"
    st.caption(f"n = {found['n']:,}. Flipped or turned by quarters, the first diagnosis changes in {flipped} of them.")


record = ui.page("Performance")
if not record:
    st.stop()

try:
    measured = ui.model_metrics()
except CadError as error:
    st.error(ui.plain(str(error)))
    st.stop()
if measured is None:
    st.info("This model has no metrics.json; measure it with `python -m cadlib evaluate`.")
else:
    damaged = measured.get("robustness")
    if "validation" in measured:
        splits = {"test": measured, "validation": measured["validation"]}
        measured = splits[st.segmented_control("Split", [*splits], default="test", key="split", required=True)]
    data = measured["data"]
    st.markdown(
        f"{record.name} {record.version}, {ui.plain(record.validation_claim)}: on the {data['split']} split of "
        f"{ui.plain(data['name'])}, {measured['n']:,} labelled images of {measured['n_lesions']:,} lesions. "
        f"{ROLE[data['split']]} In brackets: 95 % intervals over lesions; too few lesions have none."
    )
    headline(measured)
    with st.grid(2, min_column_width=420, gap="medium") as grid:
        with grid.cell():
            st.subheader("ROC", anchor=False)
            auc = {**measured["auc"], "malignant": measured["malignant_auc"]}
            ui.chart(figures.roc_chart(measured["roc"], auc, own_figures.operating_points(measured)), key="roc")
        with grid.cell():
            st.subheader("Confusion matrix", anchor=False)
            unit = st.segmented_control("Cells", ["percent", "images"], default="percent", key="unit", required=True)
            ui.chart(figures.confusion_chart(measured["confusion_matrix"], unit == "percent"), key="confusion")
        with grid.cell():
            st.subheader("By diagnosis", anchor=False)
            ui.chart(figures.per_class_chart(measured), key="per-class")
        with grid.cell():
            st.subheader("Reliability", anchor=False)
            ui.chart(figures.reliability_chart(measured["reliability"]), key="reliability")
    st.subheader("Subgroups", anchor=False)
    groups = {"all": measured, **measured["subgroups"]}
    st.table(
        [
            {
                "Images": name,
                "n": f"{part['n']:,}",
                "Diagnoses": str(part["n_classes"]),
                "Balanced accuracy": told(part["balanced_accuracy"], part["intervals"]["balanced_accuracy"]),
                "AUC malignant": told(part["malignant_auc"], part["intervals"]["malignant_auc"]),
                "AUC melanoma": told(part["auc"]["MEL"], part["intervals"]["auc"]["MEL"]),
                "ECE": told(part["ece"], part["intervals"]["ece"]),
            }
            for name, part in groups.items()
        ],
        hide_index=True,
    )
    st.caption(summary.ECE_NOTE)
    damage(damaged, record.name)

st.subheader("Model card", anchor="model-card")
with st.expander(f"{record.name} {record.version}", expanded=True, key="card"):
    st.markdown(ui.model_card())
