"""Do the colours stay apart for those who see fewer of them? Simulated after Machado, Oliveira and Fernandes (2009)."""

import tomllib
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

with (
    warnings.catch_warnings(),
    np.printoptions(),
):  # it changes how numpy writes numbers, everywhere
    warnings.simplefilter("ignore")  # it misses libraries that are not asked for here
    import colour

from cadlib.report.charts import RUN_COLOURS
from cadlib.saliency.heatmap import COLOURS
from cadlib.taxonomy import BENIGN_COLOUR, MALIGNANT_COLOUR

DEFICIENCIES = ("Protanomaly", "Deuteranomaly", "Tritanomaly")
THEME = tomllib.loads((Path(__file__).parents[1] / ".streamlit" / "config.toml").read_text())[
    "theme"
]
BACKGROUNDS = {mode: THEME[mode]["backgroundColor"] for mode in ("light", "dark")}
APART = 20
"""CIEDE2000: twenty times the difference that is just visible side by side."""
LEAST_CONTRAST = 3
"""WCAG 2.2, 1.4.11: contrast of a graphical object against adjacent colours."""


def linear(hexadecimal: str) -> np.ndarray:
    """Return linear RGB, 0 to 1, of #RRGGBB."""
    return colour.cctf_decoding(
        np.array([int(hexadecimal[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    )


def simulated(rgb: np.ndarray, deficiency: str | None) -> np.ndarray:
    """Return linear RGB as a person without one type of cone sees it."""
    if deficiency is None:
        return rgb
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that of blue cones is the paper's own approximation
        matrix = colour.blindness.matrix_cvd_Machado2009(deficiency, 1.0)
    return np.clip(rgb @ matrix.T, 0, 1)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = colour.RGB_to_XYZ(rgb, "sRGB", apply_cctf_decoding=False)
    return colour.XYZ_to_Lab(
        xyz, colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"]
    )


def luminance(rgb: np.ndarray) -> float:
    return float(rgb @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_malignant_and_benign_stay_apart(deficiency):
    pair = [
        lab(simulated(linear(colour_code), deficiency))
        for colour_code in (MALIGNANT_COLOUR, BENIGN_COLOUR)
    ]
    assert colour.delta_E(*pair, method="CIE 2000") > APART


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_two_runs_of_training_stay_apart(deficiency):
    pair = [lab(simulated(linear(colour_code), deficiency)) for colour_code in RUN_COLOURS]
    assert colour.delta_E(*pair, method="CIE 2000") > APART


@pytest.mark.parametrize("mode", BACKGROUNDS)
@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_marks_and_accent_stand_out_from_the_page(mode, deficiency):
    page = luminance(simulated(linear(BACKGROUNDS[mode]), deficiency))
    for colour_code in (MALIGNANT_COLOUR, BENIGN_COLOUR, *RUN_COLOURS, THEME[mode]["primaryColor"]):
        low, high = sorted((page, luminance(simulated(linear(colour_code), deficiency))))
        assert (high + 0.05) / (low + 0.05) > LEAST_CONTRAST, colour_code


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_a_hotter_place_of_a_heatmap_is_never_darker(deficiency):
    levels = colour.cctf_decoding(COLOURS[::16] / 255)
    lightness = [lab(simulated(level, deficiency))[0] for level in levels]
    assert all(after > before for before, after in pairwise(lightness))


def test_the_simulation_makes_red_and_green_alike():
    """Or the tests above would hold of any colours."""
    red = linear("#B36B00")
    green = linear("#7A8500")
    apart = {}
    for deficiency in (None, *DEFICIENCIES):
        simulated_red = lab(simulated(red, deficiency))
        simulated_green = lab(simulated(green, deficiency))
        apart[deficiency] = colour.delta_E(simulated_red, simulated_green, method="CIE 2000")
    assert min(apart["Protanomaly"], apart["Deuteranomaly"]) < APART / 2 < apart[None]
