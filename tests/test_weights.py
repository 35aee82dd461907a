import pytest
import torch
from safetensors.torch import load, save

from cadlib import weights
from cadlib.errors import ModelInvalid


def large() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "linear": torch.randn(2_000, 3_200, generator=generator),
        "kernel": torch.randn(4, 3, 7, 7, generator=generator) * torch.tensor([1e-6, 1, 1e3, 0]).view(4, 1, 1, 1),
        "bias": torch.randn(5, generator=generator),
        "count": torch.tensor(7),
    }


def test_a_small_network_is_stored_to_the_bit():
    state = {"linear": torch.randn(8, 16), "bias": torch.randn(8), "count": torch.tensor(3)}
    restored = weights.unpack(weights.pack(state))
    assert restored.keys() == state.keys()
    assert all(torch.equal(restored[name], state[name]) for name in state)


def test_a_large_network_takes_a_quarter_of_the_room():
    state = large()
    full = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert full > weights.FULL_PRECISION_BYTES
    assert len(weights.pack(state)) < 0.26 * full


def test_no_value_is_off_by_more_than_half_a_step_of_its_row():
    state = large()
    restored = weights.unpack(weights.pack(state))
    assert restored.keys() == state.keys()
    for name in ("linear", "kernel"):
        step = state[name].flatten(1).abs().amax(dim=1, keepdim=True) / 127
        assert ((restored[name] - state[name]).flatten(1).abs() <= step * 0.5001).all()
    assert torch.equal(restored["bias"], state["bias"])
    assert restored["count"] == 7


def test_what_was_stored_once_is_stored_the_same_again():
    """So a model measured on its stored weights is the model that is loaded."""
    once = weights.unpack(weights.pack(large()))
    twice = weights.unpack(weights.pack(once))
    assert all(torch.allclose(once[name], twice[name], rtol=1e-6, atol=0) for name in once)


def test_bytes_that_are_no_safetensors_file_are_refused():
    with pytest.raises(ModelInvalid, match="no safetensors file"):
        weights.unpack(b"not this")


def test_a_missing_scale_is_refused():
    stored = load(weights.pack(large()))
    del stored["linear.scale"]
    with pytest.raises(ModelInvalid, match="scale for each row of linear"):
        weights.unpack(save(stored))
