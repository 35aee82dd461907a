"""The map on a page: its texts, and selection without a mouse. A real browser tests the lasso."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from cadlib import jobs
from cadlib.evaluation.embedding_map import project
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.ui import imagemap

N = 300
TABLE = pd.DataFrame(
    {
        "image": [f"ISIC_{number:07}" for number in range(N)],
        "diagnosis": pd.array(
            [("MEL", "NV", "NV", None)[number % 4] for number in range(N)], dtype="str"
        ),
        "age_approx": pd.array(
            [None if number % 5 == 0 else 40 for number in range(N)], dtype="Float64"
        ),
        "width_px": pd.array([100 + number for number in range(N)], dtype="Int64"),
    }
)
PLACES = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)


def draw_map():
    import streamlit as st

    from cadlib import ui

    state = st.session_state
    st.session_state["found"] = ui.image_map(
        state["table"], state["xy"], state["column"], "map", state["label"]
    )


def open_map(
    column: str = "diagnosis", table: pd.DataFrame = TABLE, xy: np.ndarray = PLACES, label: str = ""
) -> AppTest:
    app = AppTest.from_function(draw_map, default_timeout=60)
    for key, value in {"column": column, "table": table, "xy": xy, "label": label}.items():
        app.session_state[key] = value
    return run(app)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def chart(app: AppTest):
    (element,) = app.get("plotly_chart")
    return element.proto


def dimmed(app: AppTest) -> bool:
    traces = json.loads(chart(app).spec)["data"]
    return any(not isinstance(trace["marker"]["opacity"], float) for trace in traces)


def take_part(app: AppTest, number: int) -> list[str]:
    app.selectbox(key="map-part").set_value(number)
    return run(app).session_state["found"]


def test_the_map_starts_with_a_description_and_no_selection():
    app = open_map()
    assert app.session_state["found"] is None
    assert chart(app).alt == (
        "Map of 300 images, similar ones close together, by diagnosis: "
        "▲ MEL 75, ● NV 150, not given 75. No axis has a unit."
    )
    assert "The axes have no unit" in app.caption[0].value
    assert not app.button


def test_a_lasso_and_a_box_can_be_drawn_and_no_button_sends_anything_away():
    proto = chart(open_map())
    names = {proto.SelectionMode.Name(mode) for mode in proto.selection_mode}
    assert names == {"LASSO", "BOX"}
    assert "sendChartToCloud" in json.loads(proto.spec)["layout"]["modebar"]["remove"]


@pytest.mark.parametrize(
    ("column", "text"),
    [("age_approx", "age approx 240, not given 60"), ("width_px", "width px 300")],
)
def test_a_column_of_numbers_of_any_kind_is_drawn(column, text):
    assert f"by {column.replace('_', ' ')}: {text}." in chart(open_map(column)).alt


def test_the_label_goes_before_the_name_of_the_column():
    assert (
        "by Age (years): Age (years) 240, not given 60."
        in chart(open_map("age_approx", label="Age (years)")).alt
    )


def test_the_regions_hold_every_image_once_and_name_the_most_frequent_diagnosis():
    app = open_map()
    options = app.selectbox(key="map-part").options
    assert len(options) == imagemap.PARTS
    parts = [take_part(app, number) for number in range(imagemap.PARTS)]
    assert sorted(image for part in parts for image in part) == TABLE["image"].tolist()
    assert [len(part) for part in parts] == sorted(map(len, parts), reverse=True)
    first = TABLE[TABLE["image"].isin(parts[0])]["diagnosis"]
    most = first.value_counts()
    start = f"Region 1: {len(first)} images · {100 * most.iloc[0] / len(first):.0f} % "
    assert options[0].startswith(start)


def test_a_part_that_is_chosen_is_shown_on_the_map_and_cleared_by_the_button():
    app = open_map()
    assert not dimmed(app)
    before = chart(app).id
    selection = take_part(app, 2)
    assert dimmed(app)
    assert f"**{len(selection)} images selected**" in app.markdown[0].value
    app.button(key="map-clear").click()
    run(app)
    assert app.session_state["found"] is None
    assert app.selectbox(key="map-part").value is None
    assert not dimmed(app)
    # With the same id, the browser would keep its lasso.
    assert chart(app).id != before


def test_the_choice_outlives_another_colour():
    app = open_map()
    selection = take_part(app, 0)
    app.session_state["column"] = "age_approx"
    run(app)
    assert app.session_state["found"] == selection
    assert dimmed(app)
    assert "median 40" in app.markdown[0].value


def test_a_filter_removes_selected_images_and_restores_them():
    app = open_map()
    selection = take_part(app, 0)
    is_left = ~TABLE["image"].isin(selection[:3]).to_numpy()
    without_all = ~TABLE["image"].isin(selection).to_numpy()
    all_rows = np.ones(len(TABLE), bool)
    for rows, expected in ((is_left, selection[3:]), (without_all, []), (all_rows, selection)):
        app.session_state["table"] = TABLE[rows]
        app.session_state["xy"] = PLACES[rows]
        assert run(app).session_state["found"] == expected


def test_an_unchanged_map_is_not_drawn_again(monkeypatch):
    app = open_map()
    before = chart(app).id
    monkeypatch.setattr(imagemap, "map_of", None)  # A call fails from here on.
    assert chart(run(app)).id == before


def test_a_large_set_is_sampled_with_a_note(monkeypatch):
    monkeypatch.setattr(imagemap, "DRAWN_AT_MOST", 100)
    app = open_map()
    assert "Map of 100 images" in chart(app).alt
    assert "The map shows a random 100 of 300 images" in app.caption[0].value
    parts = [take_part(app, number) for number in range(imagemap.PARTS)]
    assert sum(map(len, parts)) == N


def wait_for(name):
    """Wait for the end of the work of that name."""
    deadline = time.monotonic() + 120
    while not jobs.find(name).ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def places():
    import streamlit as st

    from cadlib import ui
    from cadlib.model import record

    model_record = record.read_record(record.find_model("isic2019"))
    st.session_state["found"] = ui.map_places(
        st.session_state["table"], model_record, st.session_state["name"]
    )


def test_the_map_of_a_data_set_is_made_of_the_features_of_the_model(
    drawn_dataset, tmp_path, monkeypatch, model
):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    app = AppTest.from_function(places, default_timeout=60)
    app.session_state["table"] = drawn_dataset.table
    app.session_state["name"] = str(tmp_path)
    assert run(app).session_state["found"] is None  # it is made behind the page
    wait_for(str(tmp_path))
    positions = run(app).session_state["found"]
    outputs = model_outputs(model, drawn_dataset.table, lambda *_: None)
    np.testing.assert_array_equal(positions, project(outputs.features))


def test_only_an_unreadable_image_has_no_place_on_the_map(drawn_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    damaged = tmp_path / "spoilt.jpg"
    damaged.write_bytes(b"no picture")
    table = drawn_dataset.table.copy()
    table.loc[3, "path"] = str(damaged)
    app = AppTest.from_function(places, default_timeout=60)
    app.session_state["table"] = table
    app.session_state["name"] = f"{tmp_path} spoilt"
    run(app)
    wait_for(f"{tmp_path} spoilt")
    positions = run(app).session_state["found"]
    assert np.isnan(positions).all(axis=1).nonzero()[0].tolist() == [3]
    assert np.isfinite(np.delete(positions, 3, axis=0)).all()


def test_a_failed_map_shows_the_reason_and_a_retry(drawn_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    app = AppTest.from_function(places, default_timeout=60)
    app.session_state["table"] = drawn_dataset.table[:3]
    app.session_state["name"] = f"{tmp_path} few"
    run(app)
    wait_for(f"{tmp_path} few")
    assert "at least 10 images for a map but got 3" in run(app).error[0].value
    app.session_state["table"] = drawn_dataset.table
    app.button(key="draw-map").click().run()
    wait_for(f"{tmp_path} few")
    assert run(app).session_state["found"].shape == (len(drawn_dataset.table), 2)
