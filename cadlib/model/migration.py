"""Rewrites a model folder in the current format.

Weights, metrics and answers stay.

A folder is compared with its manifest first. A folder of format version 6 has one network, of which
model.json says everything at its top level. Its answers for drawn lesions are compared with its
golden ones before it is rewritten.

The card and the golden answers of a folder of the current version are rewritten, to follow changes
of the code that writes them.
"""

import hashlib
from pathlib import Path
from typing import Any

from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import shown
from cadlib.model import card, golden, manifest, metrics_file
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    FORMAT_VERSION,
    GOLDEN_FILE,
    METRICS_FILE,
    NEIGHBOURS_FILE,
    NOVELTY_FILE,
    RECORD_FILE,
    ModelRecord,
    read_json,
    record_from_json,
    write_folder,
)

FORMER_VERSION = 6
_RUN_FIELDS = ("git_commit", "config", "seed", "epochs", "seconds")
_MEMBER_FIELDS = ("backbone", "saliency_layer", "weights_sha256", "onnx_sha256")


def migrate(folder: Path, *, accept_changes: bool = False) -> tuple[ModelRecord, list[str]]:
    """Rewrite a model folder; return its record and the accepted changes.

    With `accept_changes`, changes by hand become part of the model, which gets another id where
    they decide answers. Without it, raise ModelInvalid for a changed folder. Also raise it for one
    that cannot be read. May raise OSError.
    """
    path = folder / RECORD_FILE
    raw = read_json(path)
    version = raw.get("format_version")
    _check_version(version, path)
    is_former = version == FORMER_VERSION
    changes = _changes(folder)
    if changes and not accept_changes:
        differences = "; ".join(changes)
        raise ModelInvalid(
            f"Expected the model in {folder} as it was written, but {differences}. "
            "Restore the folder. If you made these changes yourself, "
            "--accept-changes makes them part of the model."
        )
    contents = _read_contents(folder)
    if is_former:
        raw = _from_former(raw, path)
    record = record_from_json(raw, path)
    if accept_changes:
        record = record_from_json(_with_hashes(raw, contents), path)
    model = Model.assemble(record, contents, folder)
    if is_former and not accept_changes:
        _compare_answers(model, folder)
    _rewrite(model, contents)
    # Loading checks the new folder.
    model = Model.load(folder)
    return model.record, changes


def _rewrite(model: Model, contents: dict[str, bytes]) -> None:
    """Write a model folder with current golden answers and a current card."""
    # `write_folder` writes model.json from the record.
    files = {name: data for name, data in contents.items() if name != RECORD_FILE}
    files[GOLDEN_FILE] = golden.golden_json(model).encode()
    if METRICS_FILE in files:
        path = model.folder / METRICS_FILE
        metrics = metrics_file.parse_metrics(files[METRICS_FILE], path, model.record.name)
        text = card.render(model.record, metrics)
        files[CARD_FILE] = text.encode()
    write_folder(model.folder, model.record, files)


def _check_version(version: Any, path: Path) -> None:
    if version not in (FORMER_VERSION, FORMAT_VERSION):
        raise ModelInvalid(
            f"Expected {path} to be of format version {FORMER_VERSION} or {FORMAT_VERSION}, "
            f"but found {shown(version)}. "
            "Migrate it with the version of cadlib that follows the one that wrote it."
        )


def _read_contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a model folder, by name."""
    contents: dict[str, bytes] = {}
    for name in manifest.FILES:
        path = folder / name
        if not path.is_file():
            continue
        contents[name] = path.read_bytes()
    missing = [name for name in manifest.NEEDED_FILES if name not in contents]
    if missing:
        names = ", ".join(missing)
        raise ModelInvalid(f"Expected {names} in {folder}, but found none. Restore the folder.")
    return contents


def _changes(folder: Path) -> list[str]:
    try:
        return [str(change) for change in manifest.find_changes(folder)]
    except ModelInvalid as error:
        return [str(error)]


def _from_former(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a model.json of the former version as one of the current version.

    Its only network reads one view, and its crop is not symmetric.
    """
    former = dict(raw)
    try:
        training = dict(former.pop("training"))
        run = {name: training.pop(name) for name in _RUN_FIELDS}
        member = {name: former.pop(name) for name in _MEMBER_FIELDS}
        spec = {**former.pop("input"), "symmetric": False}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"Expected {path} to have all fields of format version {FORMER_VERSION}, "
            f"but found none that can be used: {error}. Restore the file."
        ) from error
    return {
        **former,
        "format_version": FORMAT_VERSION,
        "members": [{**member, "fold": None, "run": run}],
        "views": 1,
        "average": "logits",
        "balanced_rule": None,
        "input": spec,
        "training": training,
    }


def _with_hashes(raw: dict[str, Any], contents: dict[str, bytes]) -> dict[str, Any]:
    """Return a model.json with the current hashes of the files."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    changed = dict(raw)
    members = []
    for number, member in enumerate(raw["members"]):
        network = {
            "weights_sha256": hashes[manifest.weights_file(number)],
            "onnx_sha256": hashes[manifest.onnx_file(number)],
        }
        members.append({**member, **network})
    changed["members"] = members
    for key, name in (("neighbours", NEIGHBOURS_FILE), ("novelty", NOVELTY_FILE)):
        facts = changed.get(key)
        if not facts:
            continue
        sha256 = hashes.get(name, facts["sha256"])
        changed[key] = {**facts, "sha256": sha256}
    return changed


def _compare_answers(model: Model, folder: Path) -> None:
    """Raise ModelInvalid where a model answers otherwise than its golden answers say."""
    differences = golden.drift(model, folder)
    if differences:
        raise ModelInvalid(
            f"Expected the answers of {folder / GOLDEN_FILE}, but {differences[0]}. "
            "Restore the folder, or install the library versions of requirements.txt."
        )
