"""Browse labelled samples: what was found, counts, filters, a gallery, and one sample large."""

from functools import reduce
from operator import and_

import streamlit as st

from cadlib import figures, ui
from cadlib.errors import CadError

PAGE_SIZE = 24
FACETS = {"diagnosis": "Diagnosis", "anatom_site_general": "Site", "sex": "Sex", "archive": "Archive"}
FACTS = {"age_approx": "age", "sex": "sex", "anatom_site_general": "site", "archive": "archive", "lesion_id": "lesion"}
AGES, MISSING = (0, 120), "not given"
SYNTHETIC = "synthetic lesions, drawn by this project"
HOW_TO_GET_IT = """
**No data set here yet.** `python -m cadlib download --to DIR` fetches ISIC 2019 (25,331 labelled pictures, 9 GB) from
<https://challenge.isic-archive.com/data/#2019>; with `--sample 20`, 20 pictures a class. Give DIR below, or set
`CADLIB_DATA` to it. Until then the pictures here are *synthetic*: drawn by this project, nobody's skin, no evidence.
"""


def forget(**instead: str) -> None:
    """Drop what was chosen in another data set, and set the widgets named `instead`."""
    st.session_state.update(instead)
    for key in [key for key in st.session_state if str(key).startswith(("facet-", "sample", "page"))]:
        del st.session_state[key]


def choose_folder() -> tuple[str, str]:
    """Return the folder of the data set, and what stands before its labels: "synthetic " for the drawn one."""
    known = ui.dataset_folders()
    if not known and not st.session_state.get("folder"):
        st.info(HOW_TO_GET_IT, icon=":material/download:")
    left, right = st.columns(2)
    chosen = left.selectbox("Data set", [*known, SYNTHETIC], key="dataset", on_change=forget, kwargs={"folder": ""})
    typed = right.text_input("Another folder", placeholder="/data/ISIC_2019", key="folder", on_change=forget)
    folder = typed.strip() or chosen
    return (ui.synthetic_folder(), "synthetic ") if folder == SYNTHETIC else (folder, "")


def narrow(table):
    """Draw the filters and return the rows that pass all; each counts the rows that pass the others."""
    everything, ages = table["image"].notna(), st.session_state.get("facet-age", AGES)
    passes = {"age": everything if ages == AGES else table["age_approx"].between(*ages).fillna(value=False)}
    for column in FACETS:
        chosen = st.session_state.get(f"facet-{column}")
        passes[column] = table[column].isin(chosen) if chosen else everything
    for column, label in FACETS.items():
        others = reduce(and_, (mask for name, mask in passes.items() if name != column))
        counts = table.loc[others, column].value_counts().to_dict()
        options = sorted(table[column].unique(), key=lambda value: (value == MISSING, value))
        if options != [MISSING]:
            shown = {value: f"{ui.plain(value)} {counts.get(value, 0):,}" for value in options}
            st.pills(label, options, selection_mode="multi", format_func=shown.get, key=f"facet-{column}", wrap=True)
    st.slider("Age (years)", *AGES, AGES, 5, key="facet-age")
    return table[reduce(and_, passes.values())]


def tile(row, kind: str) -> None:
    """Draw one sample of the gallery and the button, with its label, that opens it."""
    with st.container(gap="xsmall"):
        try:
            st.image(ui.thumbnail(row.path), width="stretch", alt=f"{row.image}, {row.diagnosis}")
        except (CadError, OSError) as error:
            st.caption(ui.plain(str(error)))
        label = f"{ui.mark(row.diagnosis)} {kind}{row.diagnosis}"
        if st.button(label, f"open-{row.image}", ui.plain(row.image), width="stretch"):
            st.session_state["sample"] = row.image


@st.dialog("Sample", width="medium", on_dismiss=lambda: st.session_state.pop("sample", None))
def sample(row, kind: str) -> None:
    """Show one sample large, with its label and metadata, and on request the model's answer."""
    st.markdown(f"{ui.mark(row.diagnosis)} **{kind}{ui.named(row.diagnosis)}** {ui.plain(row.image)}")
    try:
        if record and st.button("Ask the model", key="ask", icon=":material/neurology:", type="primary"):
            found = ui.assess_file(row.path)
            st.markdown(f"**{found.decision.sentence}** {found.quality.sentence}")
            heat = ui.heatmap(found, found.prediction.ranking()[0][0])
            ui.side_by_side(found.image, heat, row.image, drawn=bool(kind))
            ui.trust_line(st.empty(), heat, ui.trust(found, heat.diagnosis))
            ui.chart(figures.confidence_chart(found.prediction.probabilities), key="sample-confidence")
        else:
            st.image(ui.photograph_of(row.path), width="stretch", alt=f"The picture {row.image}")
    except (CadError, OSError) as error:
        st.error(ui.plain(str(error)))
    facts = {label: str(getattr(row, column)) for column, label in FACTS.items()}
    known = [f"{label} {value}" for label, value in facts.items() if value not in ("nan", "<NA>", MISSING)]
    st.caption(ui.plain(" · ".join([*known, f"{row.width_px} × {row.height_px} px"])))


record = ui.page("Dataset")
try:
    folder, kind = choose_folder()
    dataset = ui.dataset(folder)
except CadError as error:
    st.error(ui.plain(str(error)))
    st.stop()
report = dataset.report
summary = f"{report.usable:,} of {report.images:,} images usable · kinds of findings: {len(report.findings)}"
with st.expander(summary, key="report"):
    for found in report.findings:
        st.markdown(f"**{found.count:,}** {ui.plain(found.kind)}: {ui.plain(', '.join(found.examples))}")
        st.caption(ui.plain(found.advice))
filters, pictures = st.columns([1, 3], gap="medium")
with filters:
    table = narrow(dataset.table.fillna(dict.fromkeys(FACETS, MISSING)))
gallery, chart = pictures.tabs(["Pictures", "Counts by diagnosis"], key="view")
with chart:
    labelled = table.loc[table["diagnosis"] != MISSING, "diagnosis"]
    ui.chart(figures.class_counts_chart(labelled.value_counts().to_dict()), key="counts")
with gallery.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
    number = st.pagination(max(1, -(-len(table) // PAGE_SIZE)), key="page")
    st.caption(f"{len(table):,} pictures", width="content")
with gallery.grid("auto", min_column_width=120, gap="small"):
    for row in table.iloc[(number - 1) * PAGE_SIZE : number * PAGE_SIZE].itertuples():
        tile(row, kind)
for row in table[table["image"] == st.session_state.get("sample")].itertuples():
    sample(row, kind)
