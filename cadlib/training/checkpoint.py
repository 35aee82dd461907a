"""Saves and restores a running training as one safetensors file.

It holds tensors, and a JSON header for everything else. No pickle is used. A new file is written
under another name and renamed, so that a crash or a full disk leaves the previous checkpoint
intact. The header has a checksum over tensors and facts. The previous checkpoint stays beside the
new one, in case a disk damages a file later.
"""

import hashlib
import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cadlib.errors import TrainingFailed

Tensors = dict[str, torch.Tensor]

_FACTS = "checked facts"
_SHA256 = "sha256"
_FACTS_WITHOUT_CHECKSUM = "facts"
"""The only key of the header of earlier versions.

It differs from today's key, so that a damaged checksum key is not taken for a missing checksum.
"""


def save(
    path: Path,
    parts: dict[str, Tensors],
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    *,
    keep_previous: bool = True,
) -> None:
    """Write named state_dicts, the optimizer's moments and JSON facts.

    With `keep_previous` the file at `path` is kept as the previous checkpoint; without it, it is
    replaced, as a checkpoint of another run has to be. Raise TrainingFailed when the new one cannot
    be written.
    """
    tensors = _named_tensors(parts, optimizer)
    aside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = {name: _contiguous(tensor) for name, tensor in tensors.items()}
        text = json.dumps(facts)
        metadata = {_FACTS: text, _SHA256: _checksum(stored, text)}
        save_file(stored, aside, metadata=metadata)
        _keep_previous(path, keep_previous)
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        raise TrainingFailed(
            f"The checkpoint {path} could not be written ({error}); the one before it is whole. "
            "Make room on the disk and go on with --resume."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _named_tensors(parts: dict[str, Tensors], optimizer: torch.optim.Optimizer) -> Tensors:
    """Return all tensors of a checkpoint by their names in the file."""
    named: Tensors = {}
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            named[f"{part}/{name}"] = tensor
    state = optimizer.state_dict()["state"]
    for index, moments in state.items():
        for moment, value in moments.items():
            # The number of steps may be a plain number.
            tensor = torch.as_tensor(value)
            named[f"optimizer/{index}/{moment}"] = tensor
    return named


def _contiguous(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as safetensors stores it; a network with the channels last is not."""
    return tensor.detach().cpu().contiguous()


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the one at `path`."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def read_facts(path: Path) -> dict[str, Any]:
    """Return the JSON facts of a checkpoint.

    Raise TrainingFailed when it is missing, unreadable or damaged. A checkpoint of an earlier
    version has no checksum: it is accepted with a warning.
    """
    facts, _ = _read(path)
    return facts


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """Return facts and tensors of a checkpoint, and raise as `read_facts`."""
    try:
        metadata, tensors = _read_file(path)
        has_checksum = set(metadata) != {_FACTS_WITHOUT_CHECKSUM}
        text = metadata[_FACTS if has_checksum else _FACTS_WITHOUT_CHECKSUM]
        checksum = metadata[_SHA256] if has_checksum else ""
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise TypeError("its facts are no JSON object")
    except FileNotFoundError as error:
        raise TrainingFailed(
            f"Expected a checkpoint to resume from in {path}, but there is none; "
            "start without --resume."
        ) from error
    except (
        OSError,
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        RecursionError,
    ) as error:
        raise TrainingFailed(
            f"Expected a checkpoint to resume from in {path}, but it cannot be read ({error}). "
            f"{_remedy(path)}"
        ) from error
    # A checkpoint of an earlier version cannot be checked, but can still be resumed.
    if not has_checksum:
        warnings.warn(
            f"The checkpoint {path} was written by an earlier version, without a checksum: "
            "a damaged one would not be noticed. The next one has a checksum.",
            stacklevel=2,
        )
    elif checksum != _checksum(tensors, text):
        raise TrainingFailed(
            f"Expected the checkpoint {path} as it was written, "
            "but its checksum is another: the file is damaged. "
            f"{_remedy(path)}"
        )
    return facts, tensors


def _read_file(path: Path) -> tuple[dict[str, str], Tensors]:
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
        tensors = {}
        for name in file.keys():  # noqa: SIM118 - this file is not iterable
            tensors[name] = file.get_tensor(name)
    return metadata, tensors


def _remedy(path: Path) -> str:
    """Return what to do where the checkpoint at `path` is damaged."""
    before = previous(path)
    if not before.exists():
        return "There is no checkpoint before it: start again with --overwrite, without --resume."
    return (
        f"Rename {before.name} to {path.name} and give --resume, "
        "which goes on from the checkpoint before it."
    )


def _checksum(tensors: Tensors, text: str) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors, and of the facts' text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        shape = tuple(tensor.shape)
        # The zeros separate: no two checkpoints give the same text by chance.
        description = f"\0{name}\0{tensor.dtype}\0{shape}\0"
        digest.update(description.encode())
        flat = tensor.reshape(-1)
        # As bytes, because numpy does not have every type of torch.
        values = flat.view(torch.uint8).numpy()
        digest.update(values.tobytes())
    return digest.hexdigest()


def _keep_previous(path: Path, keep: bool) -> None:
    """Give the checkpoint that is about to be replaced a second name.

    It is not kept on a disk that does not support links.
    """
    before = previous(path)
    # os.link does not replace a file.
    before.unlink(missing_ok=True)
    if keep:
        with suppress(OSError):
            os.link(path, before)


def restore(
    path: Path,
    parts: dict[str, torch.nn.Module],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Load the tensors of a checkpoint into modules and optimizer, in place.

    Raise TrainingFailed as `read_facts`.
    """
    _, tensors = _read(path)
    for part, module in parts.items():
        state = _below(tensors, f"{part}/")
        module.load_state_dict(state)
    optimizer_tensors = _below(tensors, "optimizer/")
    moments = _moments(optimizer_tensors)
    # The settings of the parameter groups are those of the new optimizer.
    optimizer_state = optimizer.state_dict()
    optimizer_state["state"] = moments
    optimizer.load_state_dict(optimizer_state)


def _moments(tensors: Tensors) -> dict[int, Tensors]:
    """Return the optimizer's tensors by the number of their parameter, and by name."""
    moments: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        number, moment = key.split("/")
        of_parameter = moments.setdefault(int(number), {})
        of_parameter[moment] = tensor
    return moments


def _below(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    below = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            below[name.removeprefix(prefix)] = tensor
    return below
