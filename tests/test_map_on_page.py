"""The map as a page draws it: what it says, and what is chosen without a mouse. A real browser draws the lasso."""

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


def drawn():
    import streamlit as st

    from cadlib import ui

    told = st.session_state
    st.session_state["found"] = ui.image_map(
        told["table"], told["xy"], told["column"], "map", told["label"]
    )


def shown(
    column: str = "diagnosis", table: pd.DataFrame = TABLE, xy: np.ndarray = PLACES, label: str = ""
) -> AppTest:
    app = AppTest.from_function(drawn, default_timeout=60)
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
    return any(
        not isinstance(one["marker"]["opacity"], float)
        for one in json.loads(chart(app).spec)["data"]
    )


def take_part(app: AppTest, number: int) -> list[str]:
    app.selectbox(key="map-part").set_value(number)
    return run(app).session_state["found"]


def test_the_map_starts_with_a_description_and_no_selection():
    app = shown()
    assert app.session_state["found"] is None
    assert chart(app).alt == (
        "Map of 300 images, similar ones close together, by diagnosis: "
        "▲ MEL 75, ● NV 150, not given 75. No axis has a unit."
    )
    assert "The axes have no unit" in app.caption[0].value
    assert not app.button


def test_a_lasso_and_a_box_can_be_drawn_and_no_button_sends_anything_away():
    proto = chart(shown())
    names = {proto.SelectionMode.Name(mode) for mode in proto.selection_mode}
    assert names == {"LASSO", "BOX"}
    assert "sendChartToCloud" in json.loads(proto.spec)["layout"]["modebar"]["remove"]


@pytest.mark.parametrize(
    ("column", "said"),
    [("age_approx", "age approx 240, not given 60"), ("width_px", "width px 300")],
)
def test_a_column_of_numbers_of_any_kind_is_drawn(column, said):
    assert f"by {column.replace('_', ' ')}: {said}." in chart(shown(column)).alt


def test_the_label_goes_before_the_name_of_the_column():
    assert (
        "by Age (years): Age (years) 240, not given 60."
        in chart(shown("age_approx", label="Age (years)")).alt
    )


def test_the_parts_hold_every_image_once_and_say_what_most_of_theirs_are():
    app = shown()
    options = app.selectbox(key="map-part").options
    assert len(options) == imagemap.PARTS
    parts = [take_part(app, number) for number in range(imagemap.PARTS)]
    assert sorted(image for part in parts for image in part) == TABLE["image"].tolist()
    assert [len(part) for part in parts] == sorted(map(len, parts), reverse=True)
    first = TABLE[TABLE["image"].isin(parts[0])]["diagnosis"]
    most = first.value_counts()
    said = f"Region 1: {len(first)} images · {100 * most.iloc[0] / len(first):.0f} % "
    assert options[0].startswith(said)


def test_a_part_that_is_chosen_is_shown_on_the_map_and_cleared_by_the_button():
    app = shown()
    assert not dimmed(app)
    before = chart(app).id
    chosen = take_part(app, 2)
    assert dimmed(app)
    assert f"**{len(chosen)} images selected**" in app.markdown[0].value
    app.button(key="map-clear").click()
    run(app)
    assert app.session_state["found"] is None
    assert app.selectbox(key="map-part").value is None
    assert not dimmed(app)
    assert chart(app).id != before  # or the browser would keep a lasso that it had


def test_the_choice_outlives_another_colour():
    app = shown()
    chosen = take_part(app, 0)
    app.session_state["column"] = "age_approx"
    run(app)
    assert app.session_state["found"] == chosen
    assert dimmed(app)
    assert "median 40" in app.markdown[0].value


def test_a_filter_takes_images_away_and_gives_them_back():
    app = shown()
    chosen = take_part(app, 0)
    kept = ~TABLE["image"].isin(chosen[:3]).to_numpy()
    for rows, expected in (
        (kept, chosen[3:]),
        (~TABLE["image"].isin(chosen).to_numpy(), []),
        (kept | True, chosen),
    ):
        app.session_state["table"], app.session_state["xy"] = TABLE[rows], PLACES[rows]
        assert run(app).session_state["found"] == expected


def test_an_unchanged_map_is_not_drawn_again(monkeypatch):
    app = shown()
    before = chart(app).id
    monkeypatch.setattr(imagemap, "map_of", None)  # whoever calls it now fails
    assert chart(run(app)).id == before


def test_a_large_set_is_sampled_with_a_note(monkeypatch):
    monkeypatch.setattr(imagemap, "DRAWN_AT_MOST", 100)
    app = shown()
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

    found = record.read_record(record.find_model("isic2019"))
    st.session_state["found"] = ui.map_places(
        st.session_state["table"], found, st.session_state["name"]
    )


def test_the_places_of_a_data_set_come_from_what_the_model_sees(
    drawn_dataset, tmp_path, monkeypatch, model
):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    app = AppTest.from_function(places, default_timeout=60)
    app.session_state["table"], app.session_state["name"] = drawn_dataset.table, str(tmp_path)
    assert run(app).session_state["found"] is None  # it is made behind the page
    wait_for(str(tmp_path))
    found = run(app).session_state["found"]
    seen = model_outputs(model, drawn_dataset.table, lambda *_: None)
    np.testing.assert_array_equal(found, project(seen.features))


def test_an_image_that_cannot_be_read_has_no_place_and_the_others_have(
    drawn_dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    spoilt = tmp_path / "spoilt.jpg"
    spoilt.write_bytes(b"no picture")
    table = drawn_dataset.table.copy()
    table.loc[3, "path"] = str(spoilt)
    app = AppTest.from_function(places, default_timeout=60)
    app.session_state["table"], app.session_state["name"] = table, f"{tmp_path} spoilt"
    run(app)
    wait_for(f"{tmp_path} spoilt")
    found = run(app).session_state["found"]
    assert np.isnan(found).all(axis=1).nonzero()[0].tolist() == [3]
    assert np.isfinite(np.delete(found, 3, axis=0)).all()


def test_a_failed_map_shows_the_reason_and_a_retry(drawn_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    app = AppTest.from_function(places, default_timeout=60)
    app.session_state["table"], app.session_state["name"] = (
        drawn_dataset.table[:3],
        f"{tmp_path} few",
    )
    run(app)
    wait_for(f"{tmp_path} few")
    assert "at least 10 images for a map but got 3" in run(app).error[0].value
    app.session_state["table"] = drawn_dataset.table
    app.button(key="draw-map").click().run()
    wait_for(f"{tmp_path} few")
    assert run(app).session_state["found"].shape == (len(drawn_dataset.table), 2)
