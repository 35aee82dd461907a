"""Runs of training: the curves of one, live while it runs, or of two to compare."""

import streamlit as st

from cadlib import ui
from cadlib.errors import CadError
from cadlib.report import charts
from cadlib.training import monitor

LOOK_EVERY_S = 2
HOW_TO_START = """
**No run in `{folder}` yet.** Start one with this command; its curves appear here during training:

```sh
python -m cadlib train --data DIR --name NAME
```

`DIR` is a folder with ISIC 2019; the Data set page shows how to download it. Runs are saved in `runs/` in the folder
where you run the command. For another folder, enter it above or set `CADLIB_RUNS`. `tensorboard --logdir {folder}`
shows the same curves.
"""
TENSORBOARD = """
The curves come from TensorBoard files; TensorBoard shows them too: `tensorboard --logdir {folder}`. Validation uses the
averaged weights, which become the model, on images without augmentation. Training uses augmented images and dropout, so
its loss can be higher. ★ marks the epoch with the highest balanced accuracy. The saved model is from the last epoch.
"""
FOLDERS = (
    "A folder below the one that `CADLIB_RUNS` names, else below `runs/`. The server's operator can allow any folder "
    "with `CADLIB_LOCAL_FOLDERS=1`."
)


def readings(names: list[str]) -> list[monitor.RunReading]:
    """Read these runs, and say of those that cannot be read why."""
    found = []
    for name in names:
        try:
            found.append(ui.run_reading(folders[name], name))
        except CadError as error:
            st.error(ui.plain(str(error)))
    return found


def running(found: list[monitor.RunReading]) -> bool:
    return any(reading.state is monitor.State.RUNNING for reading in found)


def curves(names: list[str], live: bool) -> None:
    """Draw the curves of one run or two."""
    found = readings(names)
    if live and not running(found):
        st.rerun()  # the last look: what is around the curves says so too, and nobody looks again
    if not found:
        return
    with st.container(gap="xsmall"):
        for reading in found:
            st.markdown(f"**{ui.plain(reading.name)}** {ui.about_the_run(reading)}")
    with st.grid(3, min_column_width=300, gap="small") as grid:
        for tag in charts.TRAINING_CHARTS:
            with grid.cell():
                ui.chart(charts.training_chart(found, tag), key=f"curve-{tag}")


def differing(first: monitor.RunReading, second: monitor.RunReading) -> None:
    """Draw a table of the settings in which two runs differ."""
    st.subheader("Differences", anchor=False)
    found = monitor.differences((first, second))
    rows = [
        {"Setting": name, first.name: ui.setting(pair[0]), second.name: ui.setting(pair[1])}
        for name, pair in found.items()
    ]
    if rows:
        st.table(ui.plain_rows(rows), hide_index=True)
    else:
        st.caption("None: both runs have the same settings, images and code.")


ui.page("Training")
places = st.columns([3, 3, 3, 2], vertical_alignment="bottom")
usual = str(monitor.runs_dir())
typed = places[0].text_input("Runs folder", placeholder=usual, key="runs", help=FOLDERS).strip()
folder = typed or usual
places[3].button("Refresh", key="again", icon=":material/refresh:", width="stretch")
try:
    folders = ui.run_folders(typed)
except CadError as error:
    st.error(ui.plain(str(error)))
    st.stop()
if not folders:
    st.info(HOW_TO_START.format(folder=folder), icon=":material/model_training:")
    st.stop()
chosen = places[1].selectbox("Run", list(folders), key="run")
others = [name for name in folders if name != chosen]
other = places[2].selectbox("Compare with", others, index=None, placeholder="none", key="other")
found = readings([chosen, other] if other else [chosen])
live = running(found)
st.fragment(curves, run_every=LOOK_EVERY_S if live else None)(
    [reading.name for reading in found], live
)
st.caption(TENSORBOARD.format(folder=folder))
if len(found) == 2:
    differing(*found)
with st.expander(f"All runs: {len(folders)}", key="all"):
    rows = [ui.run_row(reading) for reading in readings(list(folders))]
    st.table(ui.plain_rows(rows), hide_index=True)
