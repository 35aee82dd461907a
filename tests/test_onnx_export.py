from copy import deepcopy

import numpy as np
import onnx
import pytest
import timm
import torch
from msgspec import structs
from torch import nn

from cadlib.errors import ModelInvalid, TrainingFailed
from cadlib.images.preprocess import InputSpec
from cadlib.model import weights
from cadlib.model.engine import WEIGHT, Engine
from cadlib.network.backbones import arrays_of, build, saliency_layer
from cadlib.network.onnx_export import to_onnx

SPEC = InputSpec(64, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), symmetric=True)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    small_network = build("test_efficientnet", SPEC.size_px)
    nn.init.normal_(small_network.get_classifier().weight, std=0.1)
    return small_network


@pytest.fixture(scope="module")
def graph(network):
    return to_onnx(network, saliency_layer(network), SPEC)


@pytest.fixture(scope="module")
def engine(network, graph):
    return Engine(graph, arrays_of(network))


@pytest.mark.parametrize("n", [1, 3, 32])
def test_the_graph_gives_the_outputs_of_the_network_for_any_batch_size(network, engine, n):
    pixels = torch.randn(n, 3, 64, 64)
    outputs = engine.run(pixels.numpy())
    with torch.inference_mode():
        expected = network.eval()(pixels).numpy()
    assert np.allclose(outputs.logits, expected, atol=1e-5)
    assert outputs.logits.shape == (n, 8)
    assert len(outputs.features) == len(outputs.evidence) == n


def test_the_places_of_the_evidence_add_up_to_the_logits(network, engine):
    outputs = engine.run(torch.randn(2, 3, 64, 64).numpy())
    bias = network.get_classifier().bias.detach().numpy()
    assert np.allclose(outputs.evidence.sum(axis=(2, 3)) + bias, outputs.logits, atol=1e-5)


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
    invalid = deepcopy(network)
    invalid.get_classifier().bias.data[0] = float("nan")
    with pytest.raises(TrainingFailed, match="nan off"):
        to_onnx(invalid, saliency_layer(invalid), SPEC)


@pytest.mark.parametrize("invalid", [b"", b"no graph"])
def test_refuses_a_file_that_is_not_a_graph(invalid):
    with pytest.raises(ModelInvalid, match="cannot be run"):
        Engine(invalid, {})


def test_refuses_a_graph_without_an_output(network, graph):
    model = onnx.load_from_string(graph)
    del model.graph.output[1]
    with pytest.raises(ModelInvalid, match="is missing; write the model again"):
        Engine(model.SerializeToString(), arrays_of(network))


def test_the_graph_holds_no_weights(network, graph):
    state = {name: array for name, array in arrays_of(network).items() if array.ndim}
    assert len(graph) < 0.1 * sum(array.nbytes for array in state.values())
    external = {
        tensor.name
        for tensor in onnx.load_from_string(graph).graph.initializer
        if tensor.data_location
    }
    assert external == {WEIGHT + name for name in state}


def test_other_weights_give_another_answer(network, graph, engine):
    pixels = torch.randn(1, 3, 64, 64).numpy()
    doubled = {
        name: 2 * array if "conv_stem" in name else array
        for name, array in arrays_of(network).items()
    }
    assert (
        np.abs(Engine(graph, doubled).run(pixels).logits - engine.run(pixels).logits).max() > 1e-3
    )


def test_weights_of_another_network_are_refused(graph):
    other_weights = arrays_of(build("test_resnet", SPEC.size_px))
    with pytest.raises(ModelInvalid, match="not those of its network"):
        Engine(graph, other_weights)


def test_a_transformer_answers_from_its_stored_weights():
    torch.manual_seed(0)
    transformer = build("test_vit", 160)
    nn.init.normal_(transformer.get_classifier().weight, std=0.1)
    graph = to_onnx(transformer, saliency_layer(transformer), structs.replace(SPEC, size_px=160))
    state = weights.unpack(weights.pack(arrays_of(transformer)))
    pixels = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        expected = transformer.eval()(pixels).numpy()
    assert np.allclose(Engine(graph, state).run(pixels.numpy()).logits, expected, atol=1e-4)
