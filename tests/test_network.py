import pytest
import torch
from timm.layers import DropPath

from cadlib.errors import TrainingFailed
from cadlib.network import backbones

LITE0 = "tf_efficientnet_lite0"
DINOV2 = "vit_small_patch14_dinov2"


def test_has_eight_outputs():
    assert backbones.build("test_efficientnet", 64)(torch.zeros(2, 3, 64, 64)).shape == (2, 8)


def test_an_unknown_backbone_is_refused_with_near_names():
    with pytest.raises(TrainingFailed, match="resnet18"):
        backbones.build("resnet18x", 64)


def test_stochastic_depth_leaves_out_later_blocks_more_often():
    built = backbones.build(LITE0, 128, drop_path_rate=0.2)
    rates = [module.drop_prob for module in built.modules() if isinstance(module, DropPath)]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] <= 0.2


def test_refuses_stochastic_depth_for_a_network_without_it():
    assert backbones.build("densenet121", 128, drop_path_rate=0)
    with pytest.raises(TrainingFailed, match="--drop-path-rate 0"):
        backbones.build("densenet121", 128, drop_path_rate=0.2)


@pytest.mark.parametrize(
    "backbone", [LITE0, "test_efficientnet", "resnet10t", "mobilenetv4_conv_small", DINOV2]
)
def test_the_saliency_layer_returns_the_input_of_the_pooling(backbone):
    built = backbones.build(backbone, 112).eval()
    maps = []
    layer = built.get_submodule(backbones.saliency_layer(built))
    layer.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    with torch.inference_mode():
        built(torch.rand(1, 3, 112, 112))
    assert maps[0].ndim == 4
    assert maps[0].shape[2] > 1


def test_a_network_that_no_heatmap_can_be_made_for_is_refused():
    with pytest.raises(TrainingFailed, match="images of any size"):
        backbones.saliency_layer(backbones.build("swin_tiny_patch4_window7_224", 224))


def test_finding_the_saliency_layer_leaves_the_network_as_it_was():
    built = backbones.build("test_efficientnet", 128).train()
    backbones.saliency_layer(built)
    assert built.training
    assert not any(module._forward_hooks for module in built.modules())


def test_the_class_activation_map_of_a_transformer_adds_up_to_its_logits():
    built = backbones.build(DINOV2, 56).eval()
    head = built.get_classifier()
    torch.nn.init.normal_(head.weight)
    maps = []
    built.get_submodule(backbones.saliency_layer(built)).register_forward_hook(
        lambda _m, _i, output: maps.append(output)
    )
    with torch.inference_mode():
        logits = built(torch.rand(2, 3, 56, 56))
        evidence = torch.einsum("kc,nchw->nkhw", head.weight, maps[0])
    assert evidence.shape == (2, 8, 4, 4)
    torch.testing.assert_close(evidence.mean(dim=(2, 3)) + head.bias, logits, atol=1e-4, rtol=1e-4)


def test_a_side_that_is_no_multiple_of_the_patches_is_refused_with_the_next_that_are():
    with pytest.raises(TrainingFailed, match="choose 168 or 182"):
        backbones.build(DINOV2, 176)
    backbones.check_side(backbones.build("test_efficientnet", 64), 177)


def test_a_transformer_leaves_out_patches_in_training_alone():
    built = backbones.build(DINOV2, 56, patch_drop_rate=0.5)
    n_tokens = []
    built.get_submodule("attn_pool.map").register_forward_hook(
        lambda _m, _i, output: n_tokens.append(output[0, 0].numel())
    )
    with torch.no_grad():
        built.train()(torch.zeros(1, 3, 56, 56))
        built.eval()(torch.zeros(1, 3, 56, 56))
    assert n_tokens == [8, 16]


def test_a_network_without_patches_is_refused_when_some_are_to_be_left_out():
    with pytest.raises(TrainingFailed, match="--patch-drop-rate 0"):
        backbones.build(LITE0, 64, patch_drop_rate=0.5)
