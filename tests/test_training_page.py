"""The Training page as its reader meets it, in Streamlit's own test runner, on curves as training writes them."""

import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cadlib.report.charts import TRAINING_CHARTS
from cadlib.training import monitor
from cadlib.training.monitor import CURVES_FOLDER
from cadlib.training.run import Curves
from tests.page_content import words

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of runs that the page opens."""
    monkeypatch.setenv("CADLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def app(folder):
    return AppTest.from_file(str(ROOT / "menu.py"), default_timeout=120)


def opened(app):
    """Open the page by way of menu.py, as a click in the menu does."""
    page = app.switch_page("pages/training.py").run()
    assert not page.exception
    return page


def charts(page):
    """Return the alt text of each chart."""
    return [chart.proto.alt for chart in page.get("plotly_chart")]


def begun(folder, name, **settings):
    """Begin a run of four epochs of ten steps."""
    facts = {
        "settings": {"batch_size": 8, "learning_rate": 1e-3, "seed": 0, **settings},
        "steps": 40,
        "steps_per_epoch": 10,
        "host": monitor.socket.gethostname(),
    }
    return Curves(folder / name / CURVES_FOLDER, facts, 0)


def trained(curves, *metrics_of_epochs):
    """Train for as many epochs as there are pairs of validation loss and balanced accuracy."""
    for epoch, (loss, accuracy) in enumerate(metrics_of_epochs, start=1):
        curves.write(10 * epoch, {monitor.LOSS: loss, monitor.SPEED: 80.0})
        curves.write(
            10 * epoch, {monitor.VALIDATION_LOSS: loss, monitor.BALANCED_ACCURACY: accuracy}
        )
    return curves


def write(folder, name, *metrics_of_epochs, **settings):
    with closing(begun(folder, name, **settings)) as curves:
        trained(curves, *metrics_of_epochs)


def test_the_page_without_a_run_explains_training(app, folder):
    text = words(opened(app))
    assert "python -m cadlib train --data DIR --name NAME" in text
    assert f"tensorboard --logdir {folder}" in text


def test_a_stopped_run_is_drawn_with_its_best_epoch_and_how_to_go_on(app, folder):
    write(folder, "mine", (2.0, 0.25), (1.0, 0.75), (1.5, 0.5))
    page = opened(app)
    assert "Stopped: epoch 3 of 4" in words(page)
    assert "--resume" in words(page)
    assert f"tensorboard --logdir {folder}" in words(page)
    assert len(charts(page)) == len(TRAINING_CHARTS)
    assert charts(page)[0] == (
        "Validation loss by epoch, of 4: mine from 2 at epoch 1 to 1.5 at epoch 3, 1.000 at its best epoch, 2."
    )
    assert "Learning rate by epoch, of 4: mine has no point yet." in charts(page)


def test_compares_two_runs_in_shared_charts_and_a_table_of_settings(app, folder):
    write(folder, "slow", (2.0, 0.25), (1.5, 0.5), (1.0, 0.625), (1.0, 0.625))
    write(folder, "fast", (1.0, 0.5), learning_rate=0.003)
    page = opened(app)
    page.selectbox(key="run").select("slow").run()
    page.selectbox(key="other").select("fast").run()
    assert not page.exception
    assert "Finished: 4 epochs" in words(page)
    assert re.search("slow from 0.25 .*; fast from 0.5 at epoch 1", charts(page)[1])
    table = page.table[0].value
    assert table.to_dict("records") == [
        {"Setting": "learning_rate", "slow": "0.001", "fast": "0.003"}
    ]
    rows = page.table[1].value.set_index("Run")
    assert rows.loc["slow", "Best balanced accuracy"] == "0.625 at epoch 3"
    assert rows.loc["fast", "State"] == "stopped"


def test_two_equal_runs_have_no_table_of_differences(app, folder):
    for name in ("one", "another"):
        write(folder, name, (1.0, 0.5))
    page = opened(app)
    page.selectbox(key="other").select_index(0).run()
    assert "None: both runs have the same settings" in words(page)
    assert len(page.table) == 1


def test_a_running_run_shows_its_remaining_time(app, folder):
    with closing(begun(folder, "mine")) as curves:
        trained(curves, (1.0, 0.5))
        page = opened(app)
        assert "Running: epoch 1 of 4, about 0:00:03 left without validation." in words(
            page
        )  # 30 steps of 8 at 80 a s
        trained(curves, *[(1.0, 0.5)] * 4)
    assert "Finished: 4 epochs" in words(page.run())


def test_a_run_of_another_machine_is_not_called_running(app, folder, monkeypatch):
    write(folder, "mine", (1.0, 0.5))
    monkeypatch.setattr(monitor.socket, "gethostname", lambda: "another")
    assert "State unknown: epoch 1 of 4" in words(opened(app))


def test_reports_unreadable_curves_and_shows_the_others(app, folder):
    write(folder, "good", (1.0, 0.5))
    (folder / "bad" / CURVES_FOLDER).mkdir(parents=True)
    (folder / "bad" / CURVES_FOLDER / "events.out.tfevents.9999999999.host.1.0").write_bytes(
        b"nothing of the kind"
    )
    page = opened(app)
    assert "Expected the settings of a run" in words(page)
    page.selectbox(key="other").select("good").run()
    assert "good from 1 at epoch 1" in charts(page)[0]


def test_a_folder_below_that_of_runs_is_opened(app, folder):
    write(folder / "theirs", "one", (1.0, 0.5))
    page = opened(app)
    page.text_input(key="runs").input("theirs").run()
    assert page.selectbox(key="run").value == "one"


def test_another_folder_of_runs_is_refused(app, folder, tmp_path):
    write(folder, "mine", (1.0, 0.5))
    write(tmp_path / "elsewhere", "theirs", (1.0, 0.5))
    page = opened(app)
    page.text_input(key="runs").input(str(tmp_path / "elsewhere")).run()
    assert not page.exception
    assert "Expected a folder below CADLIB\\_RUNS" in page.error[0].value


def test_another_folder_of_runs_is_opened_where_the_operator_allows_it(
    app, folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("CADLIB_LOCAL_FOLDERS", "1")
    write(tmp_path / "elsewhere", "theirs", (1.0, 0.5))
    page = opened(app)
    page.text_input(key="runs").input(str(tmp_path / "elsewhere")).run()
    assert page.selectbox(key="run").value == "theirs"


def test_the_name_of_a_run_is_no_layout(app, folder):
    write(folder, "*b* <i>", (1.0, 0.5))
    page = opened(app)
    assert r"\*b\* \<i\>" in words(page)
    (trace, *_) = json.loads(page.get("plotly_chart")[0].proto.spec)["data"]
    assert trace["name"] == "*b* &lt;i&gt;"


def test_the_page_loads_no_torch(folder):
    write(folder, "mine", (1.0, 0.5))
    code = (
        "import sys; from streamlit.testing.v1 import AppTest;"
        "page = AppTest.from_file('menu.py', default_timeout=120);"
        "page.run().switch_page('pages/training.py').run(); assert not page.exception;"
        "assert 'Stopped' in str([m.value for m in page.markdown]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
