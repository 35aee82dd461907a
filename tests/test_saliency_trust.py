import math
from types import SimpleNamespace

import numpy as np
import pytest

from cadlib.images import LesionImage, read_image
from cadlib.images.preprocess import InputSpec, to_pixels
from cadlib.images.synthetic import demo_lesions
from cadlib.model.calibration import NO_BIAS, probabilities
from cadlib.saliency.agreement import agreement
from cadlib.saliency.heatmap import METHODS, Heatmap, activation_map, explain, surface
from cadlib.saliency.trust import LEAST_FAITHFUL, LEAST_STABLE, Trust, trust
from cadlib.ui import about_the_map, trust_tile

CELLS = 8
SIDE = 64
MAP = Heatmap(np.zeros((2, 2), np.float32), "MEL", "grad-cam", 0.3149, (0, 0, 2, 2))
GOOD = Trust(LEAST_FAITHFUL + 0.01, LEAST_STABLE + 0.01)


class DarknessReader:
    """Replaces a Model: a dark cell is evidence for a melanoma at its position, in every orientation."""

    views = 1
    record = SimpleNamespace(
        members=(SimpleNamespace(backbone="toy"),),
        model_id="darkness 0.0.0",
        input=InputSpec(SIDE, "bicubic", (0.5,) * 3, (0.25,) * 3, symmetric=True),
    )

    def see(self, pixels: np.ndarray, views: int | None = None) -> SimpleNamespace:
        dark = (
            1 - pixels.reshape(len(pixels), CELLS, SIDE // CELLS, CELLS, -1).mean(axis=(2, 4)) / 255
        )
        evidence = np.zeros((len(pixels), 8, CELLS, CELLS), np.float32)
        evidence[:, 0] = dark / CELLS
        return SimpleNamespace(evidence=evidence, logits=evidence.sum(axis=(2, 3)))

    def calibrated(self, logits: np.ndarray, _short_side_px: int) -> np.ndarray:
        return probabilities(logits, 1.0, NO_BIAS)


class CornerTalker(DarknessReader):
    """Always finds the evidence in the upper left corner, for every image and orientation."""

    def see(self, pixels: np.ndarray, views: int | None = None) -> SimpleNamespace:
        outputs = super().see(pixels)
        outputs.evidence[:, 0] = 0
        outputs.evidence[:, 0, :3, :3] = 1
        return outputs


@pytest.fixture
def image() -> LesionImage:
    pixels = np.full((SIDE, SIDE, 3), 220, np.uint8)
    pixels[8:32, 16:40] = 30
    return LesionImage(pixels, sha256="0" * 64, format="PIL", notes=())


def test_a_network_that_turns_with_the_picture_has_a_stable_and_faithful_map(image):
    model = DarknessReader()
    rating = trust(model, image, explain(model, image, "MEL"), "MEL")
    assert rating.stability == pytest.approx(1)
    assert rating.faithfulness > LEAST_FAITHFUL
    assert rating.readable


def test_a_map_that_stays_in_its_corner_is_not_to_be_read(image):
    model = CornerTalker()
    rating = trust(model, image, explain(model, image, "MEL"), "MEL")
    assert rating.stability < LEAST_STABLE
    assert not rating.readable
    assert "changes when the image is rotated or mirrored" in rating.sentence


def test_a_diagnosis_without_evidence_is_not_to_be_read(image):
    model = DarknessReader()
    rating = trust(model, image, explain(model, image, "NV"), "NV")
    assert math.isnan(rating.faithfulness)
    assert math.isnan(rating.stability)
    assert rating.sentence.startswith("Do not interpret this map: no region stands out")


def test_nearly_no_random_map_is_readable(model):
    rng = np.random.default_rng(0)
    readable = []
    for lesion in demo_lesions()[:4]:
        image = read_image(lesion.png())
        prediction = model.predict(image)
        code, _ = prediction.ranking()[0]
        usual = activation_map(model, image, prediction, code)
        raw = model.see(to_pixels(image, model.record.input)[None]).evidence[0, 0]
        for _ in range(5):
            values = surface(rng.permutation(raw.ravel()).reshape(raw.shape), model.record, views=1)
            random_map = Heatmap(values, code, "grad-cam", float(values.max()), usual.box)
            readable.append(trust(model, image, random_map, code).readable)
    assert sum(readable) <= 2


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.key)
def test_every_method_is_judged_against_its_own_maps_of_the_turned_picture(model, method):
    image = read_image(demo_lesions()[0].png())
    rating = trust(model, image, explain(model, image, "MEL", method.key), "MEL")
    assert -1 <= rating.faithfulness <= 1
    assert -1 <= rating.stability <= 1


def test_agreement_is_the_correlation_over_the_places():
    values = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    assert agreement(values, 3 * values + 1) == pytest.approx(1)
    assert agreement(values, -values) == pytest.approx(-1)
    assert math.isnan(agreement(values, np.ones_like(values)))


@pytest.mark.parametrize(
    ("poor", "reason"),
    [
        (Trust(LEAST_FAITHFUL, 0.9), "hardly more than hiding random ones."),
        (Trust(0.9, LEAST_STABLE), "it changes when the image is rotated or mirrored."),
        (Trust(0.9, math.nan), "it changes when the image is rotated or mirrored."),
        (Trust(-1.0, -1.0), "random ones and it changes when the image is rotated or mirrored."),
        (
            Trust(math.nan, 0.9),
            "no region stands out, or no region changes the result.",
        ),
    ],
)
def test_a_poor_map_has_a_warning_with_the_reason(poor, reason):
    assert not poor.readable
    assert poor.sentence.startswith("Do not interpret this map: ")
    assert poor.sentence.endswith(reason)
    assert "**do not interpret**" in trust_tile(MAP, poor)


def test_a_map_above_both_limits_may_be_read():
    assert GOOD.readable
    assert "Do not interpret" not in GOOD.sentence
    assert "can be interpreted" in trust_tile(MAP, GOOD)


def test_the_line_under_a_map_names_method_diagnosis_peak_and_both_metrics():
    line = "Grad-CAM for Melanoma · peak 0.31 · faithfulness 0.72 · stability −0.10"
    assert about_the_map(MAP, Trust(0.72, -0.1)) == line
    assert trust_tile(MAP, GOOD).startswith("peak 0.31")
    assert about_the_map(MAP, Trust(math.nan, 0.5)).endswith(
        "faithfulness not defined · stability 0.50"
    )
    assert about_the_map(MAP, None).endswith("faithfulness … · stability …")
    assert (
        trust_tile(MAP, None).count("\n")
        == trust_tile(MAP, GOOD).count("\n")
        == trust_tile(MAP, Trust(0.0, 0.0)).count("\n")
    )
