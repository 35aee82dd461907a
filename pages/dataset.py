"""Browse labelled samples: what was found, facets with counts, a gallery, and one sample large."""

import streamlit as st

from cadlib import ui
from cadlib.errors import CadError
from cadlib.report import charts
from cadlib.ui import browse

SYNTHETIC = "Synthetic lesions, drawn by this project"
HOW_TO_GET_IT = """
**No data set yet.** `python -m cadlib download --to DIR` downloads ISIC 2019 from
<https://challenge.isic-archive.com/data/#2019> (25,331 labelled images, 9 GB, and as much again while unpacking).
`--sample 20` downloads 20 images per class from the ISIC Archive instead. Start the server
with `CADLIB_DATA=DIR`. Until then the images are *synthetic*: drawn by this project, not real skin, and no evidence of
performance.
"""
FOLDERS = (
    "A folder below the one that `CADLIB_DATA` names. The server's operator can allow any folder with "
    "`CADLIB_LOCAL_FOLDERS=1`."
)


def choose_folder() -> tuple[str, str]:
    """Return the folder of the data set, and what stands before its labels: "synthetic " for the drawn one."""
    known = ui.dataset_folders()
    if not known and not st.session_state.get("folder"):
        st.info(HOW_TO_GET_IT, icon=":material/download:")
    left, right = st.columns(2)
    forget = browse.forget_facets
    chosen = left.selectbox(
        "Data set", [*known, SYNTHETIC], key="dataset", on_change=forget, kwargs={"folder": ""}
    )
    typed = right.text_input(
        "Other folder",
        placeholder="ISIC_2019",
        key="folder",
        on_change=forget,
        disabled=not ui.may_name_a_folder(),
        help=FOLDERS,
    )
    if typed.strip():
        return ui.typed_folder(typed.strip()), ""
    return (ui.synthetic_folder(), "synthetic ") if chosen == SYNTHETIC else (chosen, "")


record = ui.page("Data set")
try:
    folder, kind = choose_folder()
    dataset = ui.dataset(folder)
except CadError as error:
    st.error(ui.plain(str(error)))
    st.stop()
report = dataset.report
types = "1 type" if len(report.findings) == 1 else f"{len(report.findings)} types"
summary = f"{report.usable:,} of {report.images:,} images usable · {types} of problem"
with st.expander(summary, key="report"):
    for found in report.findings:
        st.markdown(
            f"**{found.count:,}** {ui.plain(found.kind)}: {ui.plain(', '.join(found.examples))}"
        )
        st.caption(ui.plain(found.advice))
if report.channel_order.warning:
    st.warning(report.channel_order.warning, icon=":material/swap_horiz:")

catalogue = browse.catalogue_of(dataset, record)
filters, pictures = st.columns([1, 3], gap="medium")
with filters:
    subset, within = browse.chosen_subset(catalogue)
    query, answer = browse.facets(catalogue, within)
    if record:
        browse.ask_about_all(dataset, record, catalogue)
with pictures:
    header = st.container(
        horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"
    )
    views = ["Images", *["Map"] * bool(record), "Class counts", "Data review"]
    view = header.segmented_control("View", views, default="Images", key="view", required=True)
    rows, chosen = answer.rows, browse.said_of(query, subset)
    if view == "Map" and (lasso := browse.mapped(dataset, record, catalogue, answer)) is not None:
        rows, chosen = lasso, f"{chosen}; selected on the map"
    with header:
        browse.keep(dataset, catalogue, rows, chosen)
    if view == "Data review":
        ui.suspects(dataset, folder, record)
    elif view == "Class counts":
        if counts := browse.label_counts(catalogue, rows):
            ui.chart(charts.class_counts_chart(counts), key="counts")
        else:
            st.caption("None of these images has a label.")
    elif view == "Images" or rows is not answer.rows:
        browse.found(catalogue, rows, kind)
