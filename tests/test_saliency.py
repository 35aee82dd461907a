import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import nn

from cadlib.errors import CadError
from cadlib.images import LesionImage, read_image
from cadlib.images.preprocess import InputSpec, to_array, to_pixels
from cadlib.images.synthetic import demo_lesions
from cadlib.model.calibration import NO_BIAS, Temperature
from cadlib.model.committee import Committee
from cadlib.model.engine import Seen
from cadlib.model.model import Model
from cadlib.network import backbones
from cadlib.network.backbones import network_of, saliency_layer
from cadlib.network.onnx_export import Seeing
from cadlib.saliency import gradients
from cadlib.saliency import heatmap as saliency
from cadlib.saliency.heatmap import METHODS, RISE, Heatmap, colour_scale, explain, overlay
from cadlib.taxonomy import CODES

ROOT = Path(__file__).parents[1]
SPEC = InputSpec(64, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), symmetric=True)
CAMS = [method for method in METHODS if method != RISE]
"""Methods that pytorch-grad-cam has too."""
CLASS_SPECIFIC = [method.key for method in METHODS if method.class_specific]


class Eager:
    """Stands in for an Engine: runs the network in torch, without a graph."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        self._network = network
        self._layer = layer

    def run(self, inputs: NDArray[np.float32]) -> Seen:
        with torch.no_grad():
            outputs = Seeing(deepcopy(self._network), self._layer)(torch.from_numpy(inputs))
        return Seen(*(values.numpy() for values in outputs))

    def feature_maps(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        seeing = Seeing(deepcopy(self._network), self._layer)
        with torch.no_grad():
            seeing(torch.from_numpy(inputs))
        return seeing._tap.feature_map.numpy()

    @property
    def head(self) -> NDArray[np.float32]:
        return self._network.get_classifier().weight.detach().numpy()  # type: ignore[operator,union-attr]


def model_of(network: nn.Module, layer: str) -> Model:
    network.eval()
    record = SimpleNamespace(
        members=(SimpleNamespace(backbone="toy", saliency_layer=layer),),
        input=SPEC,
        temperature=Temperature(1.0, 1.0),
        bias=NO_BIAS,
        model_id="tiny 0.0.0",
    )
    model = Model(record, Committee([Eager(network, layer)]), Path())  # type: ignore[arg-type]
    backbones._NETWORKS[model] = network.requires_grad_(False)
    return model


def tensor_of(image: LesionImage) -> torch.Tensor:
    return torch.from_numpy(to_array(to_pixels(image, SPEC), SPEC))


def image_of(width_px: int, height_px: int, seed: int = 0) -> LesionImage:
    pixels = np.random.default_rng(seed).integers(0, 200, (height_px, width_px, 3), dtype=np.uint8)
    pixels.setflags(write=False)
    return LesionImage(pixels, sha256="0" * 64, format="PIL", notes=())


def heatmap_of(
    values: NDArray[np.float32], box: tuple[int, int, int, int] = (20, 0, 84, 64)
) -> Heatmap:
    return Heatmap(
        values, diagnosis="MEL", method="grad-cam", raw_peak=float(values.max()), box=box
    )


def one_hot_pixel() -> Heatmap:
    values = np.zeros((64, 64), np.float32)
    values[40, 10] = 3.0
    return heatmap_of(values)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=8)
    # Untrained norms let the features fade to 1e-4; a few passes bring them to a natural size.
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.randn(8, 3, 64, 64))
        network.get_classifier().weight.abs_()  # something speaks for each diagnosis
    return model_of(network, saliency_layer(network))


@pytest.fixture(scope="module")
def shipped() -> Model:
    """Return the model of the repository, loaded once."""
    return Model.load("isic2019")


@pytest.fixture(scope="module")
def image() -> LesionImage:
    return image_of(104, 64)


class PooledConvolution(nn.Module):
    """A convolution, global average pooling and a linear head: here Grad-CAM is known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 8, stride=8)
        self.head = nn.Linear(6, 8)

    def get_classifier(self) -> nn.Linear:
        return self.head

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.features(pixels).mean((2, 3)))
        return out


@pytest.fixture(scope="module")
def pooled() -> Model:
    torch.manual_seed(1)
    return model_of(PooledConvolution(), "features")


def class_activation_map(model: Model, image: LesionImage, target: int) -> torch.Tensor:
    """Zhou et al., Learning Deep Features for Discriminative Localization (CVPR 2016), eq. 2, as a mean."""
    network = network_of(model)
    with torch.no_grad():
        features = network.features(tensor_of(image))  # type: ignore[operator]
        weights = network.head.weight[target]  # type: ignore[union-attr,index]
        return torch.einsum("c,nchw->nhw", weights, features) / features[0, 0].numel()


def enlarged(coarse: torch.Tensor) -> NDArray[np.float32]:
    resized = nn.functional.interpolate(coarse.clamp(min=0)[None], (64, 64), mode="bilinear")
    return resized[0, 0].numpy()


@pytest.mark.parametrize("method", ["grad-cam", "hirescam"])
@pytest.mark.parametrize("code", CODES)
def test_equals_the_class_activation_map_of_a_pooled_linear_network(
    pooled: Model, image: LesionImage, method: str, code: str
) -> None:
    expected = enlarged(class_activation_map(pooled, image, CODES.index(code)))
    np.testing.assert_allclose(explain(pooled, image, code, method).values, expected, atol=1e-5)
    assert expected.max() > 1e-3


@pytest.mark.parametrize("code", CODES)
def test_the_map_that_comes_with_a_prediction_is_grad_cam(shipped: Model, code: str) -> None:
    model = shipped
    lesion = read_image(demo_lesions()[1].png())
    pixels = to_pixels(lesion, model.record.input)
    [gradient] = gradients.raw_maps(
        network_of(model), model.record, pixels, CODES.index(code), ["grad-cam"]
    )
    prediction = model.predict(lesion)
    np.testing.assert_allclose(prediction.evidence[CODES.index(code)], gradient, atol=1e-3)
    from_prediction = saliency.activation_map(model, lesion, prediction, code)
    explained = explain(model, lesion, code)
    np.testing.assert_allclose(from_prediction.values, explained.values, atol=1e-5)


@pytest.fixture(scope="module")
def pytorch_grad_cam(shipped: Model) -> list[tuple[NDArray[np.uint8], int, list[Any]]]:
    """Return network input, diagnosis and the maps of all methods, from one pass for each pair."""
    network = network_of(shipped)
    keys = [method.key for method in CAMS]
    rows = []
    for lesion in demo_lesions()[:4]:
        pixels = to_pixels(read_image(lesion.png()), shipped.record.input)
        for target in range(len(CODES)):
            maps = gradients.raw_maps(network, shipped.record, pixels, target, keys)
            rows.append((pixels, target, maps))
    return rows


@pytest.mark.parametrize("place", range(len(CAMS)), ids=[method.key for method in CAMS])
def test_each_formula_gives_the_map_of_pytorch_grad_cam(
    shipped: Model,
    pytorch_grad_cam: list[tuple[NDArray[np.uint8], int, list[Any]]],
    place: int,
) -> None:
    assert len(pytorch_grad_cam) == 4 * len(CODES)
    for pixels, target, maps in pytorch_grad_cam:
        reference = maps[place]
        [heatmap] = saliency.raw_maps(shipped, pixels[None], target, CAMS[place].key)
        assert heatmap.dtype == np.float32
        np.testing.assert_allclose(heatmap, reference, atol=1e-4 * max(1, np.abs(reference).max()))


def test_a_map_needs_no_torch() -> None:
    code = (
        "import sys; from cadlib import Model, read_image; from cadlib.saliency.heatmap import METHODS, explain; "
        "model, image = Model.load('isic2019'), read_image('docs/synthetic_lesion.png'); "
        "[explain(model, image, 'MEL', method.key) for method in METHODS]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.key)
def test_a_heatmap_holds_raw_values_over_the_square_the_network_saw(
    model: Model, image: LesionImage, method: saliency.Method
) -> None:
    heatmap = explain(model, image, "BCC", method.key)
    assert heatmap.values.shape == (64, 64)
    assert heatmap.values.dtype == np.float32
    assert heatmap.values.min() >= 0
    assert not heatmap.values.flags.writeable
    assert heatmap.raw_peak == heatmap.values.max() > 0
    assert heatmap.method == method.key
    assert heatmap.box == (20, 0, 84, 64)
    assert heatmap.diagnosis == ("BCC" if method.class_specific else None)


@pytest.mark.parametrize("method", ["grad-cam", "hirescam", "layercam"])
def test_twice_the_evidence_gives_twice_the_peak(image: LesionImage, method: str) -> None:
    torch.manual_seed(1)
    network = PooledConvolution()
    single = explain(model_of(network, "features"), image, "NV", method)
    with torch.no_grad():
        network.head.weight *= 2
    doubled = explain(model_of(network, "features"), image, "NV", method)
    assert single.raw_peak > 0
    np.testing.assert_allclose(doubled.values, 2 * single.values, rtol=1e-5)


@pytest.mark.parametrize("method", CLASS_SPECIFIC)
def test_different_diagnoses_give_different_maps(
    model: Model, image: LesionImage, method: str
) -> None:
    maps = [explain(model, image, code, method).values for code in CODES]
    for first in range(len(maps)):
        for second in range(first):
            assert np.abs(maps[first] - maps[second]).max() > 1e-3 * maps[first].max()


def test_eigencam_is_the_same_for_every_diagnosis(model: Model, image: LesionImage) -> None:
    maps = [explain(model, image, code, "eigencam").values for code in ("MEL", "DF")]
    np.testing.assert_array_equal(*maps)


def test_eigencam_shows_the_side_of_the_first_component_that_reaches_farther(pooled: Model) -> None:
    for seed in range(6):
        image = image_of(64, 64, seed)
        with torch.no_grad():
            features = network_of(pooled).features(tensor_of(image))[0].flatten(1).T.numpy()  # type: ignore[operator]
        centred = features - features.mean(axis=0)
        component = centred @ np.linalg.svd(centred)[2][0]
        farther = max(component, -component, key=np.max).reshape(1, 8, 8)
        values = explain(pooled, image, "MEL", "eigencam").values
        np.testing.assert_allclose(
            values, enlarged(torch.from_numpy(farther)), rtol=1e-3, atol=1e-4
        )


def test_a_diagnosis_without_evidence_gives_a_map_of_zeros_and_an_untouched_picture(
    image: LesionImage,
) -> None:
    network = PooledConvolution()
    with torch.no_grad():
        network.features.weight.abs_()
        network.features.bias.fill_(100.0)
        network.head.weight.fill_(-1.0)
    for method in CLASS_SPECIFIC:
        heatmap = explain(model_of(network, "features"), image, "MEL", method)
        assert heatmap.raw_peak == 0.0
        assert not heatmap.values.any()
        np.testing.assert_array_equal(overlay(image, heatmap), image.pixels)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.key)
@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_damaged_weights_raise_instead_of_drawing(
    image: LesionImage, method: saliency.Method, damage: float
) -> None:
    network = PooledConvolution()
    with torch.no_grad():
        network.features.weight[0, 0, 0, 0] = damage
    with pytest.raises(CadError, match=r"tiny 0\.0\.0 gave NaN or infinity"):
        explain(model_of(network, "features"), image, "MEL", method.key)


def test_rejects_an_unknown_method_and_an_unknown_code(pooled: Model, image: LesionImage) -> None:
    with pytest.raises(
        ValueError, match=r"grad-cam, grad-cam\+\+, .*eigencam, rise but got 'scorecam'"
    ):
        explain(pooled, image, "MEL", "scorecam")
    with pytest.raises(ValueError, match=r"MEL, NV.* but got 'UNK'"):
        explain(pooled, image, "UNK")


def test_leaves_no_hook_and_no_gradient_behind(image: LesionImage) -> None:
    model = model_of(PooledConvolution(), "features")
    explain(model, image, "MEL", "hirescam")
    assert not network_of(model).get_submodule("features")._forward_hooks
    assert all(weight.grad is None for weight in network_of(model).parameters())


def test_works_inside_inference_mode(pooled: Model, image: LesionImage) -> None:
    expected = explain(pooled, image, "MEL").values
    with torch.inference_mode():
        np.testing.assert_array_equal(explain(pooled, image, "MEL").values, expected)


def test_threads_that_explain_and_predict_at_once_do_not_disturb_each_other(model: Model) -> None:
    images = [image_of(64, 64, seed) for seed in range(8)]
    jobs = [(image, code) for image in images for code in ("MEL", "NV", "SCC")]
    serial = [explain(model, image, code).values for image, code in jobs]

    def explain_and_predict(job: tuple[LesionImage, str]) -> NDArray[np.float32]:
        image, code = job
        model.see(np.ascontiguousarray(image.pixels)[None])
        return explain(model, image, code).values

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(explain_and_predict, jobs))
    for alone, beside in zip(serial, together, strict=True):
        np.testing.assert_allclose(beside, alone, rtol=1e-4, atol=1e-6)


def test_a_hot_pixel_colours_only_the_square(image: LesionImage) -> None:
    cold = np.full((64, 64), 1e-9, np.float32)
    hot = overlay(image, one_hot_pixel(), peak=3.0)
    changed = np.abs(hot.astype(int) - overlay(image, heatmap_of(cold), peak=3.0)).any(axis=2)
    assert changed[40, 30]
    assert not changed[:, :20].any()
    assert not changed[:, 84:].any()
    assert changed.sum() <= 9


def test_the_picture_outside_the_square_stays_as_it_is_and_a_frame_marks_the_edge(
    image: LesionImage,
) -> None:
    picture = overlay(image, one_hot_pixel())
    outside = np.r_[0:20, 84:104]
    np.testing.assert_array_equal(picture[:, outside], image.pixels[:, outside])
    edge = np.concatenate(
        [picture[:, [20, 83]].reshape(-1, 3), picture[[0, 63], 20:84].reshape(-1, 3)]
    )
    assert (edge == saliency.FRAME_COLOUR).all()
    np.testing.assert_array_equal(picture[1:30, 21:83], image.pixels[1:30, 21:83])


@given(opacity=st.floats(0, 1))
def test_a_hot_value_blends_its_colour_by_the_opacity(opacity: float) -> None:
    image = image_of(104, 64)
    picture = overlay(image, heatmap_of(np.ones((64, 64), np.float32)), opacity)[1:63, 21:83]
    expected = (1 - opacity) * image.pixels[1:63, 21:83] + opacity * saliency.COLOURS[255]
    assert np.abs(picture - expected).max() <= 1.5


def test_opacity_0_returns_the_picture(image: LesionImage) -> None:
    np.testing.assert_array_equal(overlay(image, one_hot_pixel(), opacity=0), image.pixels)


def test_a_shared_peak_draws_a_faint_map_faintly(image: LesionImage) -> None:
    faint = heatmap_of(np.full((64, 64), 0.1, np.float32))
    own = overlay(image, faint, peak=None)[1:63, 21:83].astype(int)
    shared = overlay(image, faint, peak=1.0)[1:63, 21:83].astype(int)
    skin = image.pixels[1:63, 21:83]
    assert np.abs(shared - skin).mean() < 0.25 * np.abs(own - skin).mean()


def test_values_above_the_peak_are_drawn_hottest(image: LesionImage) -> None:
    ones = np.ones((64, 64), np.float32)
    at = overlay(image, heatmap_of(1 * ones), peak=1.0)
    above = overlay(image, heatmap_of(9 * ones), peak=1.0)
    np.testing.assert_array_equal(at, above)


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 300), (120, 90)), ((300, 400), (90, 120)), ((80, 64), (80, 64))]
)
def test_max_side_px_shrinks_and_never_enlarges(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = image_of(*size)
    heatmap = heatmap_of(np.ones((64, 64), np.float32), SPEC.crop_box(*size))
    for opacity in (0.0, 0.6):
        assert overlay(image, heatmap, opacity, max_side_px=120).shape == (
            expected[1],
            expected[0],
            3,
        )


@given(
    width=st.integers(64, 300),
    height=st.integers(64, 300),
    side=st.integers(1, 300),
    hot=st.integers(0, 63),
)
def test_any_picture_can_be_drawn_at_any_size(width: int, height: int, side: int, hot: int) -> None:
    values = np.zeros((64, 64), np.float32)
    values[hot, hot] = 1
    heatmap = heatmap_of(values, SPEC.crop_box(width, height))
    picture = overlay(image_of(width, height), heatmap, max_side_px=side)
    assert max(picture.shape[:2]) == min(side, max(width, height))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"opacity": 1.1}, "opacity"),
        ({"opacity": -0.1}, "opacity"),
        ({"opacity": float("nan")}, "opacity"),
        ({"peak": 0.0}, "peak"),
        ({"peak": -1.0}, "peak"),
        ({"peak": float("inf")}, "peak"),
        ({"peak": float("nan")}, "peak"),
        ({"max_side_px": 0}, "max_side_px"),
    ],
)
def test_rejects_a_value_that_cannot_be_drawn(
    image: LesionImage, arguments: dict[str, float], named: str
) -> None:
    with pytest.raises(ValueError, match=f"Expected `{named}`"):
        overlay(image, one_hot_pixel(), **arguments)  # type: ignore[arg-type]


def test_rejects_the_heatmap_of_a_larger_picture() -> None:
    with pytest.raises(ValueError, match="Expected the heatmap of this image, 70 × 64 px"):
        overlay(image_of(70, 64), one_hot_pixel())


def test_the_legend_runs_from_cold_to_hot() -> None:
    lying = colour_scale(300, 10)
    upright = colour_scale(10, 300)
    assert lying.shape == (10, 300, 3)
    assert upright.shape == (300, 10, 3)
    np.testing.assert_array_equal(lying[0, [0, -1]], saliency.COLOURS[[0, 255]])
    np.testing.assert_array_equal(upright[:, 0], lying[0, ::-1])


def test_the_colours_are_viridis() -> None:
    # Matplotlib comes with grad-cam; OpenCV's table differs from its own in roundings.
    viridis = colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_allclose(saliency.COLOURS.astype(int), viridis, atol=1)


def test_the_colours_grow_lighter_evenly() -> None:
    # Rec. 709 luma as a stand-in for lightness: jet falls and rises, an even map only rises.
    luma = saliency.COLOURS @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luma) > -0.5).all()
    assert luma[-1] - luma[0] > 150
