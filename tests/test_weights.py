import numpy as np
import pytest
from safetensors.numpy import load, save

from cadlib.errors import ModelInvalid
from cadlib.model import weights


def random_array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def large() -> weights.State:
    return {
        "linear": random_array(2_000, 3_200),
        "kernel": random_array(4, 3, 7, 7)
        * np.array([1e-6, 1, 1e3, 0], np.float32).reshape(4, 1, 1, 1),
        "bias": random_array(5),
        "count": np.array(7),
    }


def test_a_small_network_is_stored_to_the_bit():
    state = {"linear": random_array(8, 16), "bias": random_array(8), "count": np.array(3)}
    restored = weights.unpack(weights.pack(state))
    assert restored.keys() == state.keys()
    assert all(np.array_equal(restored[name], state[name]) for name in state)


def test_a_large_network_is_stored_in_a_quarter_of_its_size():
    state = large()
    full = sum(array.nbytes for array in state.values())
    assert full > weights.FULL_PRECISION_BYTES
    assert len(weights.pack(state)) < 0.26 * full


def test_no_value_is_off_by_more_than_half_a_step_of_its_row():
    state = large()
    restored = weights.unpack(weights.pack(state))
    assert restored.keys() == state.keys()
    for name in ("linear", "kernel"):
        n_rows = len(state[name])
        rows = state[name].reshape(n_rows, -1)
        errors = (restored[name] - state[name]).reshape(n_rows, -1)
        step = np.abs(rows).max(axis=1, keepdims=True) / 127
        assert (np.abs(errors) <= step * 0.5001).all()
    assert np.array_equal(restored["bias"], state["bias"])
    assert restored["count"] == 7


def test_storing_weights_twice_gives_the_same_bytes():
    """So a model measured on its stored weights is the model that is loaded."""
    restored = weights.unpack(weights.pack(large()))
    restored_twice = weights.unpack(weights.pack(restored))
    assert all(
        np.allclose(restored[name], restored_twice[name], rtol=1e-6, atol=0) for name in restored
    )


def small() -> weights.State:
    return {
        "kernel": random_array(16, 3, 5, 5),
        "bias": random_array(16),
        "count": np.array(3),
    }


def test_halved_weights_take_half_the_space():
    full = weights.pack(small())
    assert len(weights.halve(full)) < 0.6 * len(full)


def test_a_halved_value_changes_by_at_most_one_part_in_2048():
    state = small()
    restored = weights.unpack(weights.halve(weights.pack(state)))
    assert restored["kernel"].dtype == np.float32
    assert np.allclose(restored["kernel"], state["kernel"], rtol=1 / 2048, atol=1e-7)
    assert not np.array_equal(restored["kernel"], state["kernel"])


def test_halving_leaves_biases_and_counts_exact():
    state = small()
    restored = weights.unpack(weights.halve(weights.pack(state)))
    assert np.array_equal(restored["bias"], state["bias"])
    assert restored["count"] == 3


@pytest.mark.parametrize("state", [small(), large()], ids=["small", "in eight bits"])
def test_halving_twice_changes_nothing_more(state: weights.State):
    halved = weights.halve(weights.pack(state))
    assert weights.halve(halved) == halved


@pytest.mark.parametrize("value", [1e5, np.nan, -np.inf])
def test_a_value_that_float16_cannot_hold_is_refused(value: float):
    state = small()
    state["kernel"][0, 0, 0, 0] = value
    with pytest.raises(ModelInvalid, match="values of kernel up to 65,504"):
        weights.halve(weights.pack(state))


def test_bytes_that_are_no_safetensors_file_are_refused():
    with pytest.raises(ModelInvalid, match="to be a safetensors file"):
        weights.unpack(b"not this")


def test_a_missing_scale_is_refused():
    stored = load(weights.pack(large()))
    del stored["linear.scale"]
    with pytest.raises(ModelInvalid, match="scale for each row of linear"):
        weights.unpack(save(stored))
