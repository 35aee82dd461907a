from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cadlib.errors import TrainingFailed
from cadlib.network import backbones, pretrained

LITE0 = "tf_efficientnet_lite0"
LITE1 = "tf_efficientnet_lite1"
LITE2 = "tf_efficientnet_lite2"
DINOV2 = "vit_small_patch14_dinov2"


@pytest.mark.parametrize(
    ("backbone", "head"),
    [(LITE0, "classifier"), (LITE1, "classifier"), (LITE2, "classifier"), (DINOV2, "head")],
)
def test_packaged_weights_fill_everything_but_the_head(backbone, head):
    built = backbones.build(backbone, 112)
    for parameter in built.parameters():
        torch.nn.init.constant_(parameter, 0.125)
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    backbones.load_pretrained(built, backbone, 112)
    unchanged = {
        name
        for name, tensor in built.state_dict().items()
        if torch.equal(tensor, before[name]) and not name.endswith("num_batches_tracked")
    }
    assert unchanged == {f"{head}.weight", f"{head}.bias"}


@pytest.mark.parametrize("backbone", [LITE0, LITE1, LITE2])
def test_packaged_weights_keep_their_batch_norms_plausible(backbone):
    """Tensors put in the wrong place would give negative variances or exploding features."""
    built = backbones.build(backbone, 192)
    backbones.load_pretrained(built, backbone, 192)
    variances = [
        tensor for name, tensor in built.state_dict().items() if name.endswith("running_var")
    ]
    assert all((tensor >= 0).all() for tensor in variances)
    with torch.inference_mode():
        features = built.eval().forward_features(torch.rand(1, 3, 192, 192) * 2 - 1)
    assert 0 < features.mean() < 6


def run_packaged_graph(picture):
    """Return the inputs of the first block and the outputs of the last, from the packaged graph."""
    package = pretrained.PACKAGES[DINOV2]
    graph = onnx.load(Path(find_spec(package.module).origin).parent / package.file)
    nodes = {node.name: node for node in graph.graph.node}
    tokens = nodes["/backbone/encoder/layer.0/norm1/ReduceMean"].input[0]
    normed = nodes["/backbone/layernorm/Add_1"].output[0]
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (tokens, normed))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run([tokens, normed], {"input_image": picture})


def test_the_transformer_computes_the_same_as_its_packaged_graph():
    """Query, key and value, or two blocks, swapped would still load."""
    picture = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    block_inputs, expected = run_packaged_graph(picture)

    built = backbones.build(DINOV2, 224).eval()
    backbones.load_pretrained(built, DINOV2, 224)
    with torch.inference_mode():
        computed = built.norm(built.blocks(torch.from_numpy(block_inputs)))
    np.testing.assert_allclose(computed.numpy(), expected, atol=2e-3)


def test_missing_packaged_weights_are_named():
    package = replace(pretrained.PACKAGES[LITE0], name="no-such-package", module="no_such_module")
    with pytest.raises(TrainingFailed, match=r"no-such-package.*requirements-train"):
        pretrained.load_packaged(backbones.build(LITE0, 64), package)


def test_weights_of_another_network_are_refused():
    with pytest.raises(TrainingFailed, match="tensors in efficientnet-lite0"):
        pretrained.load_packaged(
            backbones.build("test_efficientnet", 64), pretrained.PACKAGES[LITE0]
        )
