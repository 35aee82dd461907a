"""Shows the curves of one or two training runs, live while they run."""

import streamlit as st

from cadlib import ui
from cadlib.errors import CadError
from cadlib.report import charts
from cadlib.training import monitor

LOOK_EVERY_S = 2
HOW_TO_START = """
**No run in `{folder}` yet.** Start one with this command; its curves appear here during training:

```text
python -m cadlib train --data DIR --name NAME
```

`DIR` is a folder with ISIC 2019; the Data set page shows how to download it. Runs are saved in
`runs/` in the folder where you run the command. For another folder, enter it above or set
`CADLIB_RUNS`. `tensorboard --logdir {folder}` shows the same curves.
"""
TENSORBOARD = """
The curves come from TensorBoard files; TensorBoard shows them too: `tensorboard --logdir {folder}`.
Validation uses the averaged weights, which become the model, on images without augmentation.
Training uses augmented images and dropout, so its loss can be higher. ★ marks the epoch with the
highest balanced accuracy. The saved model is from the last epoch.
"""
FOLDERS = (
    "A folder below the one that `CADLIB_RUNS` names, else below `runs/`. The server's operator "
    "can allow any folder with `CADLIB_LOCAL_FOLDERS=1`."
)


def readings(names: list[str]) -> list[monitor.RunReading]:
    """Read these runs; draw the reason for each that cannot be read."""
    read = []
    for name in names:
        try:
            read.append(ui.run_reading(folders[name], name))
        except CadError as error:
            st.error(ui.plain(str(error)))
    return read


def running(runs: list[monitor.RunReading]) -> bool:
    """Return whether one of these runs is still training."""
    states = [reading.state for reading in runs]
    return monitor.State.RUNNING in states


def curves(names: list[str], live: bool) -> None:
    """Draw the curves of one run or two."""
    runs = readings(names)
    if live and not running(runs):
        # The run has ended. The whole page is drawn again, which also ends the refreshing.
        st.rerun()
    if not runs:
        return
    with st.container(gap="xsmall"):
        for reading in runs:
            st.markdown(f"**{ui.plain(reading.name)}** {ui.about_the_run(reading)}")
    with st.grid(3, min_column_width=300, gap="small") as grid:
        for tag in charts.TRAINING_CHARTS:
            figure = charts.training_chart(runs, tag)
            with grid.cell():
                ui.chart(figure, key=f"curve-{tag}")


def differing(first: monitor.RunReading, second: monitor.RunReading) -> None:
    """Draw a table of the settings in which two runs differ."""
    st.subheader("Differences", anchor=False)
    rows = []
    for name, (value, other_value) in monitor.differences((first, second)).items():
        row = {
            "Setting": name,
            first.name: ui.setting(value),
            second.name: ui.setting(other_value),
        }
        rows.append(row)
    if rows:
        st.table(ui.plain_rows(rows), hide_index=True)
    else:
        st.caption("None: both runs have the same settings, images and code.")


ui.page("Training")
folder_place, run_place, other_place, refresh_place = st.columns(
    [3, 3, 3, 2], vertical_alignment="bottom"
)
usual = str(monitor.runs_dir())
typed = folder_place.text_input("Runs folder", placeholder=usual, key="runs", help=FOLDERS).strip()
folder = typed or usual
refresh_place.button("Refresh", key="again", icon=":material/refresh:", width="stretch")
try:
    folders = ui.run_folders(typed)
except CadError as error:
    st.error(ui.plain(str(error)))
    st.stop()
if not folders:
    st.info(HOW_TO_START.format(folder=folder), icon=":material/model_training:")
    st.stop()
chosen = run_place.selectbox("Run", list(folders), key="run")
others = [name for name in folders if name != chosen]
other = other_place.selectbox("Compare with", others, index=None, placeholder="none", key="other")
chosen_runs = [chosen]
if other:
    chosen_runs.append(other)
read_runs = readings(chosen_runs)
live = running(read_runs)
# A fragment draws its part again by itself, here only while a run is training.
draw_curves = st.fragment(curves, run_every=LOOK_EVERY_S if live else None)
draw_curves([reading.name for reading in read_runs], live)
st.caption(TENSORBOARD.format(folder=folder))
if len(read_runs) == 2:
    differing(*read_runs)
with st.expander(f"All runs: {len(folders)}", key="all"):
    rows = [ui.run_row(reading) for reading in readings(list(folders))]
    st.table(ui.plain_rows(rows), hide_index=True)
