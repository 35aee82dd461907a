"""Images as points: which colour, shape and name each has, and how much of a page the map is."""

import math

import numpy as np
import plotly.io
import pytest

from cadlib.report.charts.embedding_map import image_map
from cadlib.taxonomy import BENIGN_COLOUR, CODES, DIAGNOSES, MALIGNANT_COLOUR, diagnosis

N = 240
IMAGES = [f"ISIC_{number:07}" for number in range(N)]
PLACES = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)


def text_of(*values: str) -> np.ndarray:
    """Return N values, those given in turn."""
    return np.array(values)[np.arange(N) % len(values)]


def names(figure) -> list[str]:
    """Return the names in the order of the legend."""
    return [trace.name for trace in sorted(figure.data, key=lambda trace: trace.legendrank)]


def test_every_point_has_the_name_of_its_image_at_its_place():
    figure = image_map(PLACES, text_of("MEL", "NV", "DF"), "diagnosis", IMAGES)
    places = {}
    for trace in figure.data:
        for image, x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
            places[image] = (float(x), float(y))
    expected = [(float(x), float(y)) for x, y in PLACES]
    assert places == dict(zip(IMAGES, expected, strict=True))
    assert all("%{customdata}" in trace.hovertemplate for trace in figure.data)


def test_diagnoses_have_their_own_colours_and_the_shape_of_their_group():
    figure = image_map(PLACES, text_of(*CODES), "diagnosis", IMAGES)
    assert names(figure) == [f"{d.mark} {d.code} 30" for d in DIAGNOSES]
    for trace in figure.data:
        d = diagnosis(trace.name.split()[1])
        assert (trace.marker.color, trace.marker.symbol) == (
            d.colour,
            "triangle-up" if d.malignant else "circle",
        )


def test_malignant_and_benign_have_the_colours_of_all_charts():
    figure = image_map(PLACES, text_of("benign", "malignant", "benign"), "group", IMAGES)
    styles = {trace.name: (trace.marker.color, trace.marker.symbol) for trace in figure.data}
    assert styles == {
        "▲ malignant 80": (MALIGNANT_COLOUR, "triangle-up"),
        "● benign 160": (BENIGN_COLOUR, "circle"),
    }


def test_other_values_have_a_colour_and_a_shape_each():
    figure = image_map(PLACES, text_of("back", "arm", "arm"), "site", IMAGES)
    assert names(figure) == ["arm 160", "back 80"]
    assert (
        len({trace.marker.color for trace in figure.data})
        == len({trace.marker.symbol for trace in figure.data})
        == 2
    )


def test_rare_values_share_one_colour():
    figure = image_map(
        PLACES, np.array([f"lesion {min(number, 15)}" for number in range(N)]), "lesion", IMAGES
    )
    assert len(figure.data) == 11
    assert names(figure)[0] == "lesion 15 225"
    assert names(figure)[-1] == "6 others 6"


@pytest.mark.parametrize("missing", ["", "not given", "UNK"])
def test_unknown_values_are_grey_hollow_and_last(missing):
    figure = image_map(PLACES, text_of("MEL", missing), "diagnosis", IMAGES)
    assert names(figure) == ["▲ MEL 120", "not given 120"]
    grey = next(trace for trace in figure.data if trace.name.startswith("not given"))
    assert grey.marker.symbol == "circle-open"
    assert grey.marker.color.startswith("rgba(128, 128, 128")


def test_rare_values_lie_on_top():
    figure = image_map(PLACES, text_of("MEL", "NV", "NV", "NV"), "diagnosis", IMAGES)
    assert [len(trace.x) for trace in figure.data] == [180, 60]


def test_numbers_have_an_even_scale_and_those_not_known_are_grey():
    ages = np.where(np.arange(N) % 4, 5.0 * np.arange(N), np.nan)
    figure = image_map(PLACES, ages, "age", IMAGES)
    with_age, without_age = figure.data
    np.testing.assert_array_equal(with_age.marker.color, ages[np.isfinite(ages)])
    assert with_age.marker.colorscale[0][1] == "#440154"  # viridis begins so
    assert with_age.marker.colorbar.title.text == "age"
    assert (without_age.name, without_age.marker.symbol) == ("not given 60", "circle-open")
    assert "%{marker.color" in with_age.hovertemplate


def test_numbers_of_which_none_is_known_are_all_grey():
    figure = image_map(PLACES, np.full(N, np.nan), "age", IMAGES)
    assert [trace.name for trace in figure.data] == ["not given 240"]


def test_unselected_points_are_dimmed():
    is_selected = np.arange(N) < 50
    figure = image_map(PLACES, text_of("MEL", "NV"), "diagnosis", IMAGES, is_selected)
    bright = {
        image for trace in figure.data for image in trace.customdata[trace.marker.opacity == 1]
    }
    assert bright == set(IMAGES[:50])
    assert {float(shine) for trace in figure.data for shine in trace.marker.opacity} == {
        1,
        float(np.float32(0.1)),
    }


def test_no_axis_is_drawn_and_both_have_one_scale():
    figure = image_map(PLACES, text_of("MEL"), "diagnosis", IMAGES)
    assert not figure.layout.xaxis.visible
    assert not figure.layout.yaxis.visible
    assert figure.layout.yaxis.scaleanchor == "x"
    assert figure.layout.dragmode == "lasso"


def test_the_range_holds_all_images_even_when_a_kind_is_hidden():
    figure = image_map(PLACES, text_of("MEL", "NV"), "diagnosis", IMAGES)
    for axis, values in ((figure.layout.xaxis, PLACES[:, 0]), (figure.layout.yaxis, PLACES[:, 1])):
        assert axis.range[0] < values.min() < values.max() < axis.range[1]


def test_the_words_say_how_many_there_are_of_each():
    figure = image_map(PLACES, text_of("NV", "MEL", "NV"), "diagnosis", IMAGES)
    assert figure.layout.meta["alt"] == (
        "Map of 240 images, similar ones close together, by diagnosis: ▲ MEL 80, ● NV 160. No axis has a unit."
    )


def test_a_value_from_a_file_is_text_and_no_markup():
    figure = image_map(PLACES, text_of("<a href='//x'>arm</a>"), "site", IMAGES)
    assert figure.data[0].name.startswith("&lt;a href=")


def test_a_large_map_is_less_than_a_photograph():
    """24,141 images, as many as ISIC 2019 has here: 30 bytes each, of which the name takes 15."""
    n = 24_141
    places = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    figure = image_map(
        places, np.resize(CODES, n), "diagnosis", [f"ISIC_{number:07}" for number in range(n)]
    )
    assert math.ceil(len(plotly.io.to_json(figure, validate=False)) / n) <= 30


@pytest.mark.parametrize(
    ("places", "values"), [(PLACES[:-1], text_of("MEL")), (PLACES, text_of("MEL")[:-1])]
)
def test_rejects_arrays_of_other_lengths(places, values):
    with pytest.raises(ValueError, match="of 240 images but got"):
        image_map(places, values, "diagnosis", IMAGES)
