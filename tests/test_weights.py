import numpy as np
import pytest
from safetensors.numpy import load, save

from cadlib.errors import ModelInvalid
from cadlib.model import weights


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def large() -> weights.State:
    return {
        "linear": drawn(2_000, 3_200),
        "kernel": drawn(4, 3, 7, 7) * np.array([1e-6, 1, 1e3, 0], np.float32).reshape(4, 1, 1, 1),
        "bias": drawn(5),
        "count": np.array(7),
    }


def test_a_small_network_is_stored_to_the_bit():
    state = {"linear": drawn(8, 16), "bias": drawn(8), "count": np.array(3)}
    restored = weights.unpack(weights.pack(state))
    assert restored.keys() == state.keys()
    assert all(np.array_equal(restored[name], state[name]) for name in state)


def test_a_large_network_takes_a_quarter_of_the_room():
    state = large()
    full = sum(array.nbytes for array in state.values())
    assert full > weights.FULL_PRECISION_BYTES
    assert len(weights.pack(state)) < 0.26 * full


def test_no_value_is_off_by_more_than_half_a_step_of_its_row():
    state = large()
    restored = weights.unpack(weights.pack(state))
    assert restored.keys() == state.keys()
    for name in ("linear", "kernel"):
        rows, off = (
            values.reshape(len(values), -1)
            for values in (state[name], restored[name] - state[name])
        )
        step = np.abs(rows).max(axis=1, keepdims=True) / 127
        assert (np.abs(off) <= step * 0.5001).all()
    assert np.array_equal(restored["bias"], state["bias"])
    assert restored["count"] == 7


def test_storing_weights_twice_gives_the_same_bytes():
    """So a model measured on its stored weights is the model that is loaded."""
    once = weights.unpack(weights.pack(large()))
    twice = weights.unpack(weights.pack(once))
    assert all(np.allclose(once[name], twice[name], rtol=1e-6, atol=0) for name in once)


def test_bytes_that_are_no_safetensors_file_are_refused():
    with pytest.raises(ModelInvalid, match="to be a safetensors file"):
        weights.unpack(b"not this")


def test_a_missing_scale_is_refused():
    stored = load(weights.pack(large()))
    del stored["linear.scale"]
    with pytest.raises(ModelInvalid, match="scale for each row of linear"):
        weights.unpack(save(stored))
