"""Shows the images of a data set, with filters, map and data review."""

import streamlit as st

from cadlib import ui
from cadlib.data.dataset import DatasetReport
from cadlib.errors import CadError
from cadlib.report import charts
from cadlib.ui import browse

SYNTHETIC = "Synthetic lesions, drawn by this project"
HOW_TO_GET_IT = """
**No data set yet.** `python -m cadlib download --to DIR` downloads ISIC 2019 from
<https://challenge.isic-archive.com/data/#2019> (25,331 labelled images, 9 GB, and as much again
while unpacking). `--sample 20` downloads 20 images per class from the ISIC Archive instead. Start
the server with `CADLIB_DATA=DIR`. Until then the images are *synthetic*: drawn by this project, not
real skin, and no evidence of performance.
"""
FOLDERS = (
    "A folder below the one that `CADLIB_DATA` names. The server's operator can allow any folder "
    "with `CADLIB_LOCAL_FOLDERS=1`."
)


def choose_folder() -> tuple[str, str]:
    """Return the folder of the data set, and what stands before its labels: "synthetic " or ""."""
    listed = ui.dataset_folders()
    if not listed and not st.session_state.get("folder"):
        st.info(HOW_TO_GET_IT, icon=":material/download:")
    left, right = st.columns(2)
    selected = left.selectbox(
        "Data set",
        [*listed, SYNTHETIC],
        key="dataset",
        on_change=browse.forget_facets,
        kwargs={"folder": ""},
    )
    typed = right.text_input(
        "Other folder",
        placeholder="ISIC_2019",
        key="folder",
        on_change=browse.forget_facets,
        disabled=not ui.may_name_a_folder(),
        help=FOLDERS,
    )
    typed = typed.strip()
    if typed:
        return ui.typed_folder(typed), ""
    if selected == SYNTHETIC:
        return ui.synthetic_folder(), "synthetic "
    return selected, ""


def draw_report(report: DatasetReport) -> None:
    """Draw how many images are usable, and each type of problem with examples and advice."""
    n_types = len(report.mismatches)
    types = "1 type" if n_types == 1 else f"{n_types} types"
    summary = f"{report.usable:,} of {report.images:,} images usable · {types} of problem"
    with st.expander(summary, key="report"):
        for mismatch in report.mismatches:
            kind_of_problem = ui.plain(mismatch.kind)
            examples = ui.plain(", ".join(mismatch.examples))
            st.markdown(f"**{mismatch.count:,}** {kind_of_problem}: {examples}")
            st.caption(ui.plain(mismatch.advice))
    if report.channel_order.warning:
        st.warning(report.channel_order.warning, icon=":material/swap_horiz:")


def draw_counts() -> None:
    """Draw how many of the images have which label."""
    counts = browse.label_counts(catalogue, rows)
    if counts:
        ui.chart(charts.class_counts_chart(counts), key="counts")
    else:
        st.caption("None of these images has a label.")


record = ui.page("Data set")
try:
    folder, kind = choose_folder()
    dataset = ui.dataset(folder)
except CadError as error:
    st.error(ui.plain(str(error)))
    st.stop()
draw_report(dataset.report)

catalogue = browse.catalogue_of(dataset, record)
filters, images = st.columns([1, 3], gap="medium")
with filters:
    subset, within = browse.chosen_subset(catalogue)
    query, answer = browse.facets(catalogue, within)
    if record:
        browse.ask_about_all(dataset, record, catalogue)
with images:
    header = st.container(
        horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"
    )
    views = ["Images", "Class counts", "Data review"]
    if record:
        # The map uses the features of a model.
        views.insert(1, "Map")
    view = header.segmented_control("View", views, default="Images", key="view", required=True)
    rows = answer.rows
    selection = browse.query_words(query, subset)
    on_map = None
    if view == "Map":
        on_map = browse.mapped(dataset, record, catalogue, answer)
    if on_map is not None:
        rows = on_map
        selection = f"{selection}; selected on the map"
    with header:
        browse.save_selection(dataset, catalogue, rows, selection)
    if view == "Data review":
        ui.suspects(dataset, folder, record)
    elif view == "Class counts":
        draw_counts()
    elif view == "Images" or on_map is not None:
        browse.matching_images(catalogue, rows, kind)
