import numpy as np
import pytest
import timm
import torch
from torch import nn

from cadlib.engine import Engine
from cadlib.errors import ModelInvalid, TrainingFailed
from cadlib.export import to_onnx
from cadlib.network import build, saliency_layer
from cadlib.preprocess import InputSpec

SPEC = InputSpec(64, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    found = build("test_efficientnet", SPEC.size_px)
    nn.init.normal_(found.get_classifier().weight, std=0.1)
    return found


@pytest.fixture(scope="module")
def graph(network):
    return to_onnx(network, saliency_layer(network), SPEC)


@pytest.mark.parametrize("n", [1, 3, 32])
def test_the_graph_gives_what_the_network_gives_for_any_number_of_pictures(network, graph, n):
    pixels = torch.randn(n, 3, 64, 64)
    seen = Engine(graph).run(pixels.numpy())
    with torch.inference_mode():
        expected = network.eval()(pixels).numpy()
    assert np.allclose(seen.logits, expected, atol=1e-5)
    assert seen.logits.shape == (n, 8)
    assert len(seen.features) == len(seen.evidence) == n


def test_the_places_of_the_evidence_add_up_to_the_logits(network, graph):
    seen = Engine(graph).run(torch.randn(2, 3, 64, 64).numpy())
    bias = network.get_classifier().bias.detach().numpy()
    assert np.allclose(seen.evidence.sum(axis=(2, 3)) + bias, seen.logits, atol=1e-5)


def test_the_graph_names_no_place_on_this_machine(graph):
    assert b".py" not in graph
    assert str(torch.__path__[0]).encode() not in graph


def test_the_network_is_left_as_it_was(network, graph):
    assert not network.get_submodule(saliency_layer(network))._forward_hooks
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_network_whose_heatmaps_would_not_be_exact_is_refused():
    network = timm.create_model("test_resnet", num_classes=8)
    network.global_pool.pool = nn.AdaptiveMaxPool2d(1)
    with pytest.raises(TrainingFailed, match="averages its last feature map"):
        to_onnx(network, saliency_layer(network), SPEC)


def test_a_network_that_gives_no_number_is_refused(network):
    from copy import deepcopy

    broken = deepcopy(network)
    broken.get_classifier().bias.data[0] = float("nan")
    with pytest.raises(TrainingFailed, match="nan off"):
        to_onnx(broken, saliency_layer(broken), SPEC)


@pytest.mark.parametrize("broken", [b"", b"no graph"])
def test_what_is_no_graph_is_refused(broken):
    with pytest.raises(ModelInvalid, match="cannot be run"):
        Engine(broken)


def test_a_graph_that_lacks_an_output_is_refused(graph):
    import onnx

    model = onnx.load_from_string(graph)
    del model.graph.output[1]
    with pytest.raises(ModelInvalid, match="lacks"):
        Engine(model.SerializeToString())
