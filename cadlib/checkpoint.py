"""The state of a running training as one safetensors file: tensors, and a JSON header for the rest.

Written aside and renamed, so that a crash or a full disk leaves the previous checkpoint whole. No pickle.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cadlib.errors import TrainingFailed

Tensors = dict[str, torch.Tensor]


def save(path: Path, parts: dict[str, Tensors], optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> None:
    """Write named state_dicts, the optimizer's moments and JSON facts; raise TrainingFailed when the disk refuses."""
    flat = {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        flat |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    aside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in flat.items()}
        save_file(contiguous, aside, metadata={"facts": json.dumps(facts)})
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        raise TrainingFailed(
            f"The checkpoint {path} could not be written ({error}); the one before it is whole. "
            "Make room on the disk and go on with --resume."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def read_facts(path: Path) -> dict[str, Any]:
    """Return the JSON facts of a checkpoint; raise TrainingFailed when there is none or it is broken."""
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            return facts
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingFailed(
            f"Expected a checkpoint to resume from in {path} but it cannot be read ({error}); start without --resume."
        ) from error


def restore(path: Path, parts: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """Put the tensors of a checkpoint back into modules and optimizer, in place."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    for part, module in parts.items():
        prefix = f"{part}/"
        module.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        )
    moments: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
