"""A lasso drawn by a mouse in a real browser chooses the images inside it, and no other."""

import json
from itertools import pairwise

import numpy as np
import pytest

from tests.browser.conftest import serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCRIPT = """
import json

import numpy as np
import pandas as pd
import streamlit as st

from cadlib import ui

table = pd.read_json({table!r}, dtype={{"image": str, "diagnosis": str, "age_approx": float}})
column = st.radio("Colour", ["diagnosis", "age_approx"])
chosen = ui.image_map(table, table[["x", "y"]].to_numpy(np.float32), column, "map")
st.code(json.dumps(chosen), language=None)
"""
PIXELS = """([x, y]) => {
  const graph = document.querySelector(".js-plotly-plot");
  const { left, top } = graph.getBoundingClientRect();
  const { xaxis, yaxis } = graph._fullLayout;
  return [left + xaxis._offset + xaxis.d2p(x), top + yaxis._offset + yaxis.d2p(y)];
}"""
DIMMED = """() =>  // no chart stands there while a new one takes its place
  document.querySelector(".js-plotly-plot")?._fullData?.some((one) => one.marker.opacity?.length > 1)"""
CENTRES = {"MEL": (0.0, 0.0), "NV": (12.0, 2.0), "BCC": (5.0, 9.0)}
ROUND_MEL = ((-3.0, -2.0), (1.5, -3.0), (4.5, 0.5), (1.0, 3.5), (-2.5, 2.5))
ROUND_BOTH = ((-3.0, -3.0), (15.0, -2.5), (15.5, 5.0), (8.0, 5.5), (-3.0, 3.2))
NEAR_AN_EDGE = 0.1
"""In units of the map, three pixels: no image lies so near an edge, where a pixel would decide."""


def edges(corners: tuple[tuple[float, float], ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.array(start), np.array(end)) for start, end in pairwise([*corners, corners[0]])]


def inside(places: np.ndarray, corners: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return which points lie to the left of every edge of a convex polygon whose corners turn left."""
    is_inside = np.ones(len(places), dtype=bool)
    for start, end in edges(corners):
        along_x, along_y = end - start
        x, y = (places - start).T
        is_inside &= along_x * y - along_y * x > 0
    return is_inside


def near_an_edge(places: np.ndarray, corners: tuple[tuple[float, float], ...]) -> np.ndarray:
    near = np.zeros(len(places), dtype=bool)
    for start, end in edges(corners):
        share = np.clip((places - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        near |= (
            np.linalg.norm(places - start - share[:, None] * (end - start), axis=1) < NEAR_AN_EDGE
        )
    return near


@pytest.fixture(scope="module")
def points():
    """Return the ids, codes, positions and ages of 600 images around three centres."""
    rng = np.random.default_rng(3)
    codes = np.array(list(CENTRES))[np.arange(700) % 3]
    centres = np.array([CENTRES[code] for code in codes])
    places = (centres + rng.normal(0, 1.6, (700, 2))).astype(np.float32)
    # A point near an edge of a lasso may fall on either side.
    is_near = near_an_edge(places, ROUND_MEL) | near_an_edge(places, ROUND_BOTH)
    rows = np.flatnonzero(~is_near)[:600]
    ages = np.where(np.arange(600) % 7, 5.0 * (np.arange(600) % 17), np.nan)
    return [f"ISIC_{number:07}" for number in range(600)], codes[rows], places[rows], ages


@pytest.fixture(scope="module")
def address(points, tmp_path_factory):
    """Return the address of a page that has the map of the points and little else."""
    images, codes, places, ages = points
    rows = [
        {
            "image": image,
            "diagnosis": code,
            "x": float(x),
            "y": float(y),
            "age_approx": None if np.isnan(age) else age,
        }
        for image, code, (x, y), age in zip(images, codes, places, ages, strict=True)
    ]
    folder = tmp_path_factory.mktemp("map")
    (folder / "table.json").write_text(json.dumps(rows))
    (folder / "script.py").write_text(SCRIPT.format(table=str(folder / "table.json")))
    with serving(folder / "log.txt", str(folder / "script.py")) as address:
        yield address


@pytest.fixture
def selected_images(address, page):
    """Open that page; return a function that gives the images it lists as selected."""
    page.set_default_timeout(20_000)
    page.goto(address)
    ready(page)

    def selection() -> list[str] | None:
        page.locator("[data-test-script-state=notRunning]").wait_for()
        return json.loads(page.locator("[data-testid=stCode]").inner_text())

    return selection


def ready(page):
    page.locator(".js-plotly-plot .gl-canvas").first.wait_for()
    page.locator("[data-test-script-state=notRunning]").wait_for()
    page.wait_for_function(
        "document.querySelector('.js-plotly-plot')._fullLayout?.xaxis?._offset !== undefined"
    )


def draw_round(page, corners):
    """Draw a lasso by the mouse, corner to corner."""
    way = [page.evaluate(PIXELS, list(corner)) for corner in (*corners, corners[0])]
    page.mouse.move(*way[0])
    page.mouse.down()
    for place in way[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def names_inside(points, corners):
    images, _, places, _ = points
    return [
        image for image, is_inside in zip(images, inside(places, corners), strict=True) if is_inside
    ]


def test_a_lasso_chooses_exactly_the_images_inside_it(selected_images, page, points):
    assert selected_images() is None
    expected = names_inside(points, ROUND_MEL)
    assert 100 < len(expected) < 250
    draw_round(page, ROUND_MEL)
    page.get_by_text(f"{len(expected)} images selected").wait_for()
    assert selected_images() == expected

    # A second lasso, around points of two traces, replaces the first.
    expected = names_inside(points, ROUND_BOTH)
    code_of = dict(zip(*points[:2], strict=True))
    assert {code_of[image] for image in expected} >= {"MEL", "NV"}
    draw_round(page, ROUND_BOTH)
    page.get_by_text(f"{len(expected)} images selected").wait_for()
    assert selected_images() == expected


def test_the_choice_outlives_another_colour_and_is_cleared_by_the_button(
    selected_images, page, points
):
    expected = names_inside(points, ROUND_MEL)
    draw_round(page, ROUND_MEL)
    page.get_by_text(f"{len(expected)} images selected").wait_for()
    # The browser shows the selection by itself: the map was not sent again.
    assert page.evaluate(DIMMED) is False
    page.get_by_text("age_approx").click()
    page.wait_for_function(DIMMED)
    ready(page)
    assert selected_images() == expected
    page.get_by_role("button", name="Clear selection").click()
    page.get_by_text("images selected").wait_for(state="detached")
    ready(page)
    assert selected_images() is None
    assert page.evaluate(DIMMED) is False


def test_a_double_click_removes_a_lasso(selected_images, page, points):
    draw_round(page, ROUND_MEL)
    page.get_by_text("images selected").wait_for()
    ready(page)
    page.mouse.dblclick(*page.evaluate(PIXELS, [8.0, 4.0]))
    page.get_by_text("images selected").wait_for(state="detached")
    assert selected_images() is None


def test_a_kind_that_is_hidden_is_not_chosen(selected_images, page, points):
    page.locator(".legendtoggle").first.click()  # melanoma is the first of the legend
    page.wait_for_function(
        "document.querySelector('.js-plotly-plot').data.some((one) => one.visible === 'legendonly')"
    )
    expected = [image for image, code in zip(*points[:2], strict=True) if code != "MEL"]
    expected = [image for image in names_inside(points, ROUND_BOTH) if image in set(expected)]
    draw_round(page, ROUND_BOTH)
    page.get_by_text(f"{len(expected)} images selected").wait_for()
    assert selected_images() == expected


def test_a_part_is_chosen_without_a_mouse(selected_images, page, points):
    page.get_by_role("combobox", name="Map region").focus()
    page.keyboard.press("ArrowDown")
    page.get_by_role("option", name="Region 1: ", exact=False).wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("images selected").wait_for()
    page.wait_for_function(DIMMED)
    selection = selected_images()
    assert 0 < len(selection) < 300
    images, _, places, _ = points
    rows = np.isin(images, selection)
    middle = places[rows].mean(axis=0)
    near = np.linalg.norm(places - middle, axis=1)
    assert near[rows].max() < np.sort(near)[2 * rows.sum()]  # they lie together
