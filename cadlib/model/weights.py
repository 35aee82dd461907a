"""weights.safetensors: the tensors of a network as bytes, in eight bits where they would be too large.

A matrix or kernel of a large network is kept as int8 rows with one float32 scale each, its largest absolute value
over 127, under its name and `NAME.scale` (symmetric quantisation by channel: Krishnamoorthi, Quantizing deep
convolutional networks for efficient inference, arXiv 1806.08342, 2018). They are only stored so: the network computes
in float32, and its figures are measured on what was stored.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load, save

from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import one_line

FULL_PRECISION_BYTES = 25 * 1000 * 1000
"""Networks up to this size are stored in float32."""
SCALE = ".scale"

State = dict[str, NDArray[np.generic]]
"""A state_dict as arrays."""


def pack(state: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return a state_dict as the bytes of a safetensors file."""
    large = sum(array.nbytes for array in state.values()) > FULL_PRECISION_BYTES
    stored: State = {}
    for name, array in state.items():
        if large and array.ndim > 1 and np.issubdtype(array.dtype, np.floating):
            rows = array.astype(np.float32).reshape(len(array), -1)
            least = np.finfo(np.float32).tiny
            scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), least) / np.float32(127)
            stored[name] = np.rint(rows / scale).astype(np.int8).reshape(array.shape)
            stored[name + SCALE] = scale.ravel()
        else:
            stored[name] = array
    return save(
        {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in stored.items()}
    )


def load_tensors(
    data: bytes, what: str, remedy: str = "restore the folder"
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file; raise ModelInvalid, with the name of the file, for what is none."""
    try:
        return dict(load(data))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ModelInvalid(
            f"Expected {what} to be a safetensors file, but it cannot be read: {reason}; {remedy}."
        ) from error


def unpack(data: bytes) -> State:
    """Return the state_dict of such a file, in float32; raise ModelInvalid for what is none."""
    stored = load_tensors(data, "weights.safetensors")
    state: State = {}
    for name, array in stored.items():
        if array.dtype == np.int8:
            if (scale := stored.get(name + SCALE)) is None or scale.shape != array.shape[:1]:
                raise ModelInvalid(
                    f"Expected a scale for each row of {name} but there is none. Restore the folder."
                )
            state[name] = array.astype(np.float32) * scale.reshape(-1, *[1] * (array.ndim - 1))
        elif not name.endswith(SCALE):
            state[name] = array
    return state
