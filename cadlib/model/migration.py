"""Rewrites a model folder in the current format.

Weights, metrics and answers stay.

A folder of format version 5 has no manifest, and golden answers without decisions. Before it is
rewritten, its files are compared with the hashes of its model.json, and its answers for drawn
lesions with its golden figures: earlier changes are detected as far as that version allows.

A folder of the current version is compared with its manifest first. Its card and its golden answers
are rewritten, to follow changes of the code that writes them.
"""

import hashlib
import json
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
    changes = _former_changes(folder, raw) if is_former else _changes(folder)
    if changes and not accept_changes:
        differences = "; ".join(changes)
        raise ModelInvalid(
            f"Expected the model in {folder} as it was written, but {differences}. "
            "Restore the folder. If you made these changes yourself, "
            "--accept-changes makes them part of the model."
        )
    contents = _read_contents(folder)
    raw = {**raw, "format_version": FORMAT_VERSION}
    if accept_changes:
        raw = _with_hashes(raw, contents)
    record = record_from_json(raw, path)
    model = Model.assemble(record, contents, folder)
    if is_former and not accept_changes:
        _compare_former_answers(
            model,
            contents[GOLDEN_FILE],
            folder / GOLDEN_FILE,
        )
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


def _former_changes(folder: Path, raw: dict[str, Any]) -> list[str]:
    """Compare a folder of the former version with the hashes of its model.json."""
    changes = []
    for name, sha256 in _hashes(raw).items():
        path = folder / name
        if sha256 is None:
            continue
        if not path.is_file():
            changes.append(f"{name} is missing")
            continue
        digest = hashlib.sha256(path.read_bytes())
        if digest.hexdigest() != sha256:
            changes.append(f"{name} changed")
    return changes


def _hashes(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the hashes of other files in a model.json, None for a file that is not part of it."""
    training = raw.get("training") or {}
    neighbours = raw.get("neighbours") or {}
    novelty = raw.get("novelty") or {}
    return {
        WEIGHTS_FILE: raw.get("weights_sha256"),
        ONNX_FILE: raw.get("onnx_sha256"),
        SPLIT_FILE: training.get("split_sha256"),
        NEIGHBOURS_FILE: neighbours.get("sha256"),
        NOVELTY_FILE: novelty.get("sha256"),
    }


def _with_hashes(raw: dict[str, Any], contents: dict[str, bytes]) -> dict[str, Any]:
    """Return a model.json with the current hashes of the files."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    changed = dict(raw)
    changed["weights_sha256"] = hashes[WEIGHTS_FILE]
    changed["onnx_sha256"] = hashes[ONNX_FILE]
    for key, name in (("neighbours", NEIGHBOURS_FILE), ("novelty", NOVELTY_FILE)):
        facts = changed.get(key)
        if not facts:
            continue
        sha256 = hashes.get(name, facts["sha256"])
        changed[key] = {**facts, "sha256": sha256}
    return changed


def _compare_former_answers(model: Model, data: bytes, path: Path) -> None:
    """Raise ModelInvalid where answers differ from the golden figures of the former version."""
    former = json.loads(data)
    try:
        figures = former["probabilities"]
        tolerance = min(float(former["tolerance"]), golden.TOLERANCE)
        for answer in golden.golden_file(model).answers:
            if answer.name not in figures:
                continue
            former_figures = figures[answer.name]
            _compare_former_answer(answer, former_figures, tolerance, path)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"Expected {path} to have golden figures, but it cannot be read: {error}."
        ) from error


def _compare_former_answer(
    answer: golden.GoldenAnswer,
    figures: dict[str, Any],
    tolerance: float,
    path: Path,
) -> None:
    for code, probability in answer.probabilities.items():
        before = float(figures[code])
        is_near = abs(probability - before) <= tolerance
        # NaN is not near anything.
        if not is_near:
            raise ModelInvalid(
                f"Expected the answers of {path}, but {answer.name} {code} was {before} "
                f"and is {probability}. "
                "Restore the folder, or install the library versions of requirements.txt."
            )
