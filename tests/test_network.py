import pytest
import torch
from timm.layers import DropPath

from cadlib import network
from cadlib.errors import TrainingFailed

LITE0 = "tf_efficientnet_lite0"


def test_has_eight_outputs():
    assert network.build("test_efficientnet")(torch.zeros(2, 3, 64, 64)).shape == (2, 8)


def test_an_unknown_backbone_is_refused_with_near_names():
    with pytest.raises(TrainingFailed, match="resnet18"):
        network.build("resnet18x")


def test_stochastic_depth_leaves_out_later_blocks_more_often():
    built = network.build(LITE0, drop_path_rate=0.2)
    rates = [module.drop_prob for module in built.modules() if isinstance(module, DropPath)]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] <= 0.2


def test_a_network_without_stochastic_depth_is_refused_when_it_is_asked_for():
    assert network.build("densenet121", drop_path_rate=0)
    with pytest.raises(TrainingFailed, match="--drop-path-rate 0"):
        network.build("densenet121", drop_path_rate=0.2)


def test_packaged_weights_fill_everything_but_the_head():
    built = network.build(LITE0)
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    network.load_pretrained(built, LITE0)
    same = {
        name
        for name, tensor in built.state_dict().items()
        if torch.equal(tensor, before[name]) and not name.endswith("num_batches_tracked")
    }
    assert same == {"classifier.weight", "classifier.bias"}


def test_packaged_weights_keep_their_batch_norms_plausible():
    """Tensors put in the wrong place would give negative variances or exploding features."""
    built = network.build(LITE0)
    network.load_pretrained(built, LITE0)
    variances = [tensor for name, tensor in built.state_dict().items() if name.endswith("running_var")]
    assert all((tensor >= 0).all() for tensor in variances)
    with torch.inference_mode():
        features = built.eval().forward_features(torch.rand(1, 3, 192, 192) * 2 - 1)
    assert 0 < features.mean() < 6


def test_missing_packaged_weights_are_named(monkeypatch):
    monkeypatch.setitem(network.PACKAGED_WEIGHTS, LITE0, ("no_such_module", "no-such-package", "weights.pth"))
    with pytest.raises(TrainingFailed, match=r"no-such-package.*requirements-train"):
        network.load_pretrained(network.build(LITE0), LITE0)


@pytest.mark.parametrize("backbone", [LITE0, "test_efficientnet", "resnet10t", "mobilenetv4_conv_small"])
def test_the_saliency_layer_returns_what_is_pooled_into_the_head(backbone):
    built = network.build(backbone).eval()
    maps = []
    layer = built.get_submodule(network.saliency_layer(built))
    layer.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    with torch.inference_mode():
        built(torch.rand(1, 3, 128, 128))
    assert maps[0].ndim == 4
    assert maps[0].shape[2] > 1


def test_a_network_that_no_heatmap_can_be_made_for_is_refused():
    with pytest.raises(TrainingFailed, match="pictures of any size"):
        network.saliency_layer(network.build("vit_tiny_patch16_224"))


def test_finding_the_saliency_layer_leaves_the_network_as_it_was():
    built = network.build("test_efficientnet").train()
    network.saliency_layer(built)
    assert built.training
    assert not any(module._forward_hooks for module in built.modules())
