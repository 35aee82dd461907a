"""How good the model is, in figures that were measured, each with the number of images behind it."""

import streamlit as st

from cadlib import command_hints, ui
from cadlib.metrics import tables
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.report import charts
from cadlib.taxonomy import MALIGNANT_NOTE


def told(value: float | None, interval: list[float] | None = None) -> str:
    """Return two digits, with the interval where there is one, or that the figure is not defined."""
    if value is None:
        return charts.UNDEFINED
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})" if interval else f"{value:.2f}"


def ece_note(n: int, interval: list[float] | None) -> str:
    """Return what stands under a calibration error; its interval is that of the error without chance."""
    note = f"0 is best · n = {n:,}"
    if interval is None:
        return note
    return f"{note} · without the effect of chance: 95 % CI {interval[0]:.2f} to {interval[1]:.2f}"


def headline(measured: dict) -> None:
    """Draw the four figures that a reader asks for first, each with its interval and its n."""
    images, intervals = Counts.of(measured), measured["intervals"]
    n, malignant = images.diagnosed, images.malignant
    melanoma, classes = measured["n_by_class"]["MEL"], measured["n_classes"]
    balanced, area, error = (
        measured[name] for name in ("balanced_accuracy", "malignant_auc", "ece")
    )
    rows = (
        (
            "Balanced accuracy",
            balanced,
            intervals["balanced_accuracy"],
            f"n = {n:,} images, {classes} diagnoses",
        ),
        (
            "AUC, malignant or benign",
            area,
            intervals["malignant_auc"],
            f"{malignant:,} malignant of {images.n:,} images",
        ),
        (
            "AUC, melanoma or other",
            measured["auc"]["MEL"],
            intervals["auc"]["MEL"],
            f"{melanoma:,} melanoma of {n:,} images",
        ),
        ("Calibration error (ECE)", error, None, ece_note(n, intervals["ece"])),
    )
    if images.partial:
        error = measured["malignant_ece"]
        over = (
            f"ECE of the malignant probability · {ece_note(images.n, intervals['malignant_ece'])}"
        )
        rows = (*rows, ("Calibration error, malignant", error, None, over))
    with st.grid(4, min_column_width=180):
        for name, value, interval, over in rows:
            with st.container(border=True, gap=None, height="stretch"):
                st.metric(name, told(value))
                between = f"95 % CI {interval[0]:.2f} to {interval[1]:.2f} · " if interval else ""
                st.caption(between + over)


def damage(found: dict | None, name: str) -> None:
    """Draw what damaged and turned pictures cost, or say how that is measured."""
    st.subheader("Robustness to image degradation", anchor=False)
    if found is None:
        st.info(f"Not measured. Measure it: `{command_hints.robustness_into(name)}`.")
        return
    names = {"balanced_accuracy": "balanced accuracy", "malignant_auc": "AUC, malignant or benign"}
    merit = st.segmented_control(
        "Metric",
        list(names),
        default="balanced_accuracy",
        format_func=names.get,
        key="merit",
        required=True,
    )
    ui.chart(charts.damage_chart(found, merit), key="damage")
    rate = found["flips"]["rate"]
    views, images = (
        charts.UNDEFINED if rate[key] is None else ui.percent(rate[key]) for key in ("mean", "any")
    )
    st.caption(
        f"n = {found['n']:,} images, seven rotated or mirrored views each. The top diagnosis changes in {views} of "
        f"the views, and in at least one view for {images} of the images."
    )


def across(found: dict | None) -> None:
    """Draw what an archive that training never saw costs, where that was measured."""
    if found:
        st.subheader("Results on unseen archives", anchor=False)
        head, *rows = tables.across_rows(found)
        table = [dict(zip(head, row, strict=True)) for row in rows]
        st.table(ui.plain_rows(table), hide_index=True)


record = ui.page("Performance")
if not record:
    st.stop()
name, shown = ui.choose_figures()
if shown:
    measured = shown.figures
    claim = ui.plain(shown.record.validation_claim)
    st.markdown(
        f"{ui.plain(f'{shown.record.name} {shown.record.version}')} {shown.about} {claim[0].upper()}{claim[1:]}. "
        "Brackets: 95 % CI, resampled by lesion; not shown when there are too few lesions."
    )
    ui.report(shown)
    headline(measured)
    ui.threshold(shown)
    with st.grid(2, min_column_width=420, gap="medium") as grid:
        with grid.cell():
            ui.confusion(shown)
        with grid.cell():
            st.subheader("By diagnosis", anchor=False)
            if Counts.of(measured).diagnosed:
                ui.chart(charts.per_class_chart(measured), key="per-class")
                st.caption(MALIGNANT_NOTE)
            else:
                st.caption(NO_DIAGNOSIS_NOTE)
    ui.errors(shown)
    ui.subgroups(shown, told)
    ui.versus(shown)
    own = ui.model_metrics(name) or {}
    damage(own.get("robustness"), name)
    across(own.get("across_archives"))

st.subheader("Model card", anchor="model-card")
with st.expander(ui.plain(name), expanded=True, key="card"):
    st.html(ui.card_html(ui.model_card(name)))
