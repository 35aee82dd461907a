"""weights.safetensors: the tensors of a network as bytes, in eight bits where they would be too large.

A matrix or kernel of a large network is kept as int8 rows with one float32 scale each, its largest absolute value
over 127, under its name and `NAME.scale` (symmetric quantisation by channel: Krishnamoorthi, Quantizing deep
convolutional networks for efficient inference, arXiv 1806.08342, 2018). They are only stored so: the network computes
in float32, and its figures are measured on what was stored.
"""

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from cadlib.errors import ModelInvalid

FULL_PRECISION_BYTES = 25 * 1000 * 1000
"""Networks up to this size are stored in float32."""
SCALE = ".scale"

State = dict[str, Tensor]


def pack(state: State) -> bytes:
    """Return a state_dict as the bytes of a safetensors file."""
    large = sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > FULL_PRECISION_BYTES
    stored: State = {}
    for name, tensor in state.items():
        if large and tensor.ndim > 1 and tensor.is_floating_point():
            rows = tensor.float().flatten(1)
            scale = rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / 127
            stored[name] = (rows / scale).round().to(torch.int8).reshape(tensor.shape)
            stored[name + SCALE] = scale.flatten()
        else:
            stored[name] = tensor
    return save({name: tensor.contiguous() for name, tensor in stored.items()})


def unpack(data: bytes) -> State:
    """Return the state_dict of such a file, in float32; raise ModelInvalid for what is none."""
    try:
        stored = load(data)
    except safetensors.SafetensorError as error:
        raise ModelInvalid(f"The weights are no safetensors file: {error}. Restore the folder.") from error
    state: State = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.int8:
            if (scale := stored.get(name + SCALE)) is None or scale.shape != tensor.shape[:1]:
                raise ModelInvalid(f"Expected a scale for each row of {name} but there is none. Restore the folder.")
            state[name] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
        elif not name.endswith(SCALE):
            state[name] = tensor
    return state
