"""The state of a running training as one safetensors file: tensors, and a JSON header for the rest.

Written aside and renamed, so that a crash or a full disk leaves the previous checkpoint whole. No pickle. The header
has a checksum over all of it, and the checkpoint before stays beside it, for a disk that damages a file later.
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

_FACTS, _SHA256 = "checked facts", "sha256"
_FACTS_WITHOUT_CHECKSUM = "facts"
"""The only key of the header of earlier versions. It is another one than today's: a checksum whose key is damaged does
not look like none."""


def save(
    path: Path,
    parts: dict[str, Tensors],
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
    *,
    keep_previous: bool = True,
) -> None:
    """Write named state_dicts, the optimizer's moments and JSON facts; raise TrainingFailed when the disk refuses.

    What stands at `path` is kept as the checkpoint before, unless it is of another run.
    """
    flat = {
        f"{part}/{name}": tensor
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }
    for index, moments in optimizer.state_dict()["state"].items():
        flat |= {
            f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()
        }
    aside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in flat.items()}
        text = json.dumps(facts)
        save_file(contiguous, aside, metadata={_FACTS: text, _SHA256: _checksum(contiguous, text)})
        _keep_previous(path, keep_previous)
        aside.replace(path)
    except (OSError, SafetensorError) as error:
        raise TrainingFailed(
            f"The checkpoint {path} could not be written ({error}); the one before it is whole. "
            "Make room on the disk and go on with --resume."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Return where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def read_facts(path: Path) -> dict[str, Any]:
    """Return the JSON facts of a checkpoint; raise TrainingFailed when there is none, or it is broken or damaged.

    A checkpoint that an earlier version wrote has no checksum: it is taken with a warning.
    """
    facts, _ = _read(path)
    return facts


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """Return facts and tensors of a checkpoint whose checksum is right; raise TrainingFailed as `read_facts`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        has_checksum = set(metadata) != {_FACTS_WITHOUT_CHECKSUM}
        text = metadata[_FACTS if has_checksum else _FACTS_WITHOUT_CHECKSUM]
        checksum = metadata[_SHA256] if has_checksum else ""
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise TypeError("its facts are no JSON object")
    except FileNotFoundError as error:
        raise TrainingFailed(
            f"Expected a checkpoint to resume from in {path}, but there is none; start without --resume."
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
            f"Expected a checkpoint to resume from in {path}, but it cannot be read ({error}). {_remedy(path)}"
        ) from error
    if not has_checksum:
        warnings.warn(
            f"The checkpoint {path} was written by an earlier version, without a checksum: a damaged one would not be "
            "noticed. The next one has a checksum.",
            stacklevel=2,
        )
    elif checksum != _checksum(tensors, text):
        raise TrainingFailed(
            f"Expected the checkpoint {path} as it was written, but its checksum is another: the file is damaged. "
            f"{_remedy(path)}"
        )
    return facts, tensors


def _remedy(path: Path) -> str:
    before = previous(path)
    if not before.exists():
        return "There is no checkpoint before it: start without --resume, anew with --overwrite."
    return f"Rename {before.name} to {path.name} and give --resume, which goes on from the checkpoint before it."


def _checksum(tensors: Tensors, text: str) -> str:
    """Return the SHA-256 of the names, types, shapes and values of tensors, and of the facts as text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _keep_previous(path: Path, keep: bool) -> None:
    """Give the checkpoint that is about to be replaced a second name; do without on a disk that has no links."""
    before = previous(path)
    before.unlink(missing_ok=True)
    if keep:
        with suppress(OSError):
            os.link(path, before)


def restore(
    path: Path, parts: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Put the tensors of a checkpoint back into modules and optimizer, in place; raise TrainingFailed as above."""
    _, tensors = _read(path)
    for part, module in parts.items():
        prefix = f"{part}/"
        module.load_state_dict(
            {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
        )
    moments: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
