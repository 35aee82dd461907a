"""Writes a model folder anew in the current format; weights, metrics and answers stay.

A folder of format version 5 has no manifest, and golden answers without decisions. Before it is
written anew, its files are compared with the hashes of its model.json, and its answers for drawn
lesions with its golden figures: what was changed before is found as far as that version could tell.

A folder of the current version is compared with its manifest first. Its card and its golden answers
are written anew, after the code that writes them has changed.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import shown
from cadlib.model import card, golden, manifest
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    FORMAT_VERSION,
    GOLDEN_FILE,
    METRICS_FILE,
    NEIGHBOURS_FILE,
    NOVELTY_FILE,
    ONNX_FILE,
    RECORD_FILE,
    SPLIT_FILE,
    WEIGHTS_FILE,
    ModelRecord,
    read_json,
    record_from_json,
    write_folder,
)

FORMER_VERSION = 5


def migrate(folder: Path, *, accept_changes: bool = False) -> tuple[ModelRecord, list[str]]:
    """Write a model folder anew; return its record and the changes that were accepted.

    With `accept_changes` what was changed by hand becomes part of the model, which gets another id where it decides
    answers. Raise ModelInvalid for a folder that was changed, without it, and for one that cannot be read. May raise
    OSError.
    """
    path = folder / RECORD_FILE
    raw = read_json(path)
    version = raw.get("format_version")
    if version not in (FORMER_VERSION, FORMAT_VERSION):
        raise ModelInvalid(
            f"Expected {path} to be of format version {FORMER_VERSION} or {FORMAT_VERSION}, but found "
            f"{shown(version)}. Migrate it with the version of cadlib that follows the one that wrote it."
        )
    changes = _former_changes(folder, raw) if version == FORMER_VERSION else _changes(folder)
    if changes and not accept_changes:
        raise ModelInvalid(
            f"Expected the model in {folder} as it was written, but {'; '.join(changes)}. Restore the folder. If you "
            "made these changes yourself, --accept-changes makes them part of the model."
        )
    contents = {
        name: (folder / name).read_bytes() for name in manifest.FILES if (folder / name).is_file()
    }
    if missing := [name for name in manifest.NEEDED_FILES if name not in contents]:
        raise ModelInvalid(
            f"Expected {', '.join(missing)} in {folder}, but found none. Restore the folder."
        )
    raw = {**raw, "format_version": FORMAT_VERSION}
    if accept_changes:
        raw = _with_hashes(raw, contents)
    record = record_from_json(raw, path)
    model = Model.assemble(record, contents, folder)
    if version == FORMER_VERSION and not accept_changes:
        _compare_former_answers(model, contents[GOLDEN_FILE], folder / GOLDEN_FILE)
    contents[GOLDEN_FILE] = golden.golden_json(model).encode()
    if METRICS_FILE in contents:
        contents[CARD_FILE] = card.render(record, json.loads(contents[METRICS_FILE])).encode()
    write_folder(
        folder, record, {name: data for name, data in contents.items() if name != RECORD_FILE}
    )
    return Model.load(folder).record, changes


def _changes(folder: Path) -> list[str]:
    try:
        return list(map(str, manifest.find_changes(folder)))
    except ModelInvalid as error:
        return [str(error)]


def _former_changes(folder: Path, raw: dict[str, Any]) -> list[str]:
    """Compare a folder of the former version with the hashes of its model.json."""
    changes = []
    for name, sha256 in _hashes(raw).items():
        path = folder / name
        if sha256 is None:
            continue
        if not path.is_file():
            changes.append(f"{name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            changes.append(f"{name} changed")
    return changes


def _hashes(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the hashes that a model.json has of other files, None for a file that the model does not have."""
    return {
        WEIGHTS_FILE: raw.get("weights_sha256"),
        ONNX_FILE: raw.get("onnx_sha256"),
        SPLIT_FILE: (raw.get("training") or {}).get("split_sha256"),
        NEIGHBOURS_FILE: (raw.get("neighbours") or {}).get("sha256"),
        NOVELTY_FILE: (raw.get("novelty") or {}).get("sha256"),
    }


def _with_hashes(raw: dict[str, Any], contents: dict[str, bytes]) -> dict[str, Any]:
    """Return a model.json with the hashes of the files as they are now."""
    now = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    changed = {**raw, "weights_sha256": now[WEIGHTS_FILE], "onnx_sha256": now[ONNX_FILE]}
    for key, name in (("neighbours", NEIGHBOURS_FILE), ("novelty", NOVELTY_FILE)):
        if changed.get(key):
            changed[key] = {**changed[key], "sha256": now.get(name, changed[key]["sha256"])}
    return changed


def _compare_former_answers(model: Model, data: bytes, path: Path) -> None:
    """Raise ModelInvalid where a model answers otherwise than the golden figures of the former version."""
    former = json.loads(data)
    try:
        figures, tolerance = (
            former["probabilities"],
            min(float(former["tolerance"]), golden.TOLERANCE),
        )
        for answer in golden.golden_file(model).answers:
            if answer.name not in figures:
                continue
            for code, probability in answer.probabilities.items():
                before = float(figures[answer.name][code])
                if not abs(probability - before) <= tolerance:
                    raise ModelInvalid(
                        f"Expected the answers of {path}, but {answer.name} {code} was {before} and is {probability}. "
                        "Restore the folder, or install the library versions of requirements.txt."
                    )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"Expected {path} to have golden figures, but it cannot be read: {error}."
        ) from error
