"""Reads and writes weights.safetensors, the tensors of a network.

Large networks are stored in eight bits: a matrix or kernel is stored as int8 rows with one float32
scale each, its largest absolute value over 127, under its name and `NAME.scale` (symmetric
quantisation by channel: Krishnamoorthi, Quantizing deep convolutional networks for efficient
inference, arXiv 1806.08342, 2018). A committee has several networks, and stores their matrices and
kernels in float16. Only the file has fewer bits: the network computes in float32, and its metrics
are measured with the stored weights.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load, save

from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import one_line
from cadlib.model.manifest import WEIGHTS_FILE

FULL_PRECISION_BYTES = 25 * 1000 * 1000
"""Networks up to this size are stored in float32."""
SCALE = ".scale"

State = dict[str, NDArray[np.generic]]
"""A state_dict as arrays."""


def pack(state: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return a state_dict as the bytes of a safetensors file."""
    total_bytes = sum(array.nbytes for array in state.values())
    is_large = total_bytes > FULL_PRECISION_BYTES
    stored: State = {}
    for name, array in state.items():
        # Biases and counts are few and sensitive, so they stay exact.
        is_matrix = array.ndim > 1 and np.issubdtype(array.dtype, np.floating)
        if is_large and is_matrix:
            steps, scale = _quantised(array)
            stored[name] = steps
            stored[name + SCALE] = scale
        else:
            stored[name] = array
    return _file(stored)


def halve(data: bytes) -> bytes:
    """Return a weights file with its float32 matrices and kernels in float16.

    Each value keeps 11 significant bits, so it changes by at most one part in 2,048. Smaller ones
    than 6e-5 keep fewer bits. Raise ModelInvalid for bytes that are no such file, and for values
    that float16 cannot hold.
    """
    stored: State = {}
    for name, array in load_tensors(data, WEIGHTS_FILE).items():
        # Biases and the averages of batch normalisation are few and sensitive, so they stay exact.
        is_matrix = array.ndim > 1 and array.dtype == np.float32
        stored[name] = _half(name, array) if is_matrix else array
    return _file(stored)


def _half(name: str, array: NDArray[np.generic]) -> NDArray[np.float16]:
    """Return an array in float16."""
    # The overflow is an error of ours below.
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        largest = np.finfo(np.float16).max
        raise ModelInvalid(
            f"Expected values of {name} up to {largest:,}, but it has larger ones or no numbers. "
            "Train the network again."
        )
    return half


def _file(tensors: State) -> bytes:
    """Return tensors as the bytes of a safetensors file."""
    contiguous: State = {}
    for name, array in tensors.items():
        # ascontiguousarray gives a scalar a dimension, which the reshape removes.
        row_major = np.ascontiguousarray(array)
        contiguous[name] = row_major.reshape(array.shape)
    return save(contiguous)


def _quantised(array: NDArray[np.generic]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return an array as int8, in the same shape, and the scale of each row, (N,) float32."""
    exact = array.astype(np.float32)
    rows = exact.reshape(len(array), -1)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    # A row of zeros would otherwise have the scale 0.
    least = np.finfo(np.float32).tiny
    largest = np.maximum(largest, least)
    scale = largest / np.float32(127)
    steps = np.rint(rows / scale)
    quantised = steps.astype(np.int8)
    return quantised.reshape(array.shape), scale.ravel()


def load_tensors(
    data: bytes,
    what: str,
    remedy: str = "restore the folder",
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file.

    Raise ModelInvalid, with the name `what`, for anything else.
    """
    try:
        return dict(load(data))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise ModelInvalid(
            f"Expected {what} to be a safetensors file, but it cannot be read: {reason}; {remedy}."
        ) from error


def unpack(data: bytes) -> State:
    """Return the state_dict of such a file, in float32; raise ModelInvalid for anything else."""
    stored = load_tensors(data, WEIGHTS_FILE)
    state: State = {}
    for name, array in stored.items():
        # Only quantised rows are int8; their scales are a tensor of their own.
        if array.dtype == np.int8:
            scale = stored.get(name + SCALE)
            n_rows = array.shape[:1]
            if scale is None or scale.shape != n_rows:
                raise ModelInvalid(
                    f"Expected a scale for each row of {name} but there is none. "
                    "Restore the folder."
                )
            n_further_axes = array.ndim - 1
            further_axes = [1] * n_further_axes
            row_scales = scale.reshape(-1, *further_axes)
            quantised = array.astype(np.float32)
            state[name] = quantised * row_scales
        elif array.dtype == np.float16:
            state[name] = array.astype(np.float32)
        elif not name.endswith(SCALE):
            state[name] = array
    return state
