"""Changes to a model folder: those that stay consistent, for tests of something else, and the ones that do not."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs, to_builtins

from cadlib.files.typed_json import json_text
from cadlib.model import manifest
from cadlib.model.golden import golden_json
from cadlib.model.model import Model
from cadlib.model.record import (
    GOLDEN_FILE,
    METRICS_FILE,
    NEIGHBOURS_FILE,
    NOVELTY_FILE,
    RECORD_FILE,
    SPLIT_FILE,
    ModelRecord,
    record_from_json,
    write_folder,
)


def with_member(record: ModelRecord, **changes: Any) -> ModelRecord:
    """Return a record of one network, with changes of the facts of this network."""
    [member] = record.members
    return structs.replace(record, members=(structs.replace(member, **changes),))


def set_hashes(raw: dict, contents: dict[str, bytes]) -> None:
    """Write the hashes of these files into the record of a model."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    for number, member in enumerate(raw["members"]):
        member["weights_sha256"] = hashes[manifest.weights_file(number)]
        member["onnx_sha256"] = hashes[manifest.onnx_file(number)]
    if SPLIT_FILE in hashes:
        raw["training"]["split_sha256"] = hashes[SPLIT_FILE]
    for key, name in (("neighbours", NEIGHBOURS_FILE), ("novelty", NOVELTY_FILE)):
        if raw[key]:
            raw[key]["sha256"] = hashes[name]


def reseal(folder: Path, *, golden: bool = True) -> None:
    """Rewrite the manifest, the hashes of model.json and the golden answers for the present files."""
    path = folder / RECORD_FILE
    raw = json.loads(path.read_text(encoding="utf-8"))
    present = [name for name in manifest.FILES if (folder / name).exists()]
    contents = {name: (folder / name).read_bytes() for name in present}
    set_hashes(raw, contents)
    record = record_from_json(raw, path)
    if golden:
        contents[GOLDEN_FILE] = golden_json(Model.assemble(record, contents, folder)).encode()
    (folder / manifest.MANIFEST_FILE).unlink(missing_ok=True)
    contents.pop(RECORD_FILE)
    write_folder(folder, record, contents)


def change_record(
    folder: Path,
    change: Callable[[dict[str, Any]], Any] | dict[str, Any],
    *,
    golden: bool = True,
) -> None:
    """Change the values of a model.json, by a function or some of its keys, and keep the folder consistent.

    Without `golden` the golden answers stay, for a change that decides no answer; it takes less time.
    """
    edit_record(folder, change)
    reseal(folder, golden=golden)


def edit_record(folder: Path, change: Callable[[dict[str, Any]], Any] | dict[str, Any]) -> None:
    """Change the values of a model.json as an editor would: nothing else follows."""
    path = folder / RECORD_FILE
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw.update(change) if isinstance(change, dict) else change(raw)
    path.write_text(json_text(raw), encoding="utf-8")


def change_file(folder: Path, name: str, content: str | bytes | None) -> None:
    """Replace a file of a model folder, or remove it, and keep the folder consistent."""
    path = folder / name
    if content is None:
        path.unlink()
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(content)
    reseal(folder, golden=False)


def shrink_network(folder: Path) -> None:
    """Replace a model's network by a tiny one with random weights, whose images are 64 px a side.

    The metrics become those of the new weights. Similar cases and novelty, which read features of
    the former network, are removed.
    """
    # Imported late, with torch: most tests need none.
    from cadlib.model import weights
    from cadlib.network import backbones
    from cadlib.network.onnx_export import to_onnx
    from tests.random_network import BACKBONE, SPEC, random_network

    network = random_network()
    layer = backbones.saliency_layer(network)
    stored = weights.pack(backbones.arrays_of(network))
    (folder / manifest.weights_file(0)).write_bytes(stored)
    (folder / manifest.onnx_file(0)).write_bytes(to_onnx(network, layer, SPEC))

    def change(raw: dict[str, Any]) -> None:
        [member] = raw["members"]
        member |= {"backbone": BACKBONE, "saliency_layer": layer}
        raw |= {"input": to_builtins(SPEC), "neighbours": None, "novelty": None, "audit": None}

    path = folder / METRICS_FILE
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["model"]["weights_sha256"] = hashlib.sha256(stored).hexdigest()
    path.write_text(json_text(metrics), encoding="utf-8")
    for name in (NEIGHBOURS_FILE, NOVELTY_FILE):
        (folder / name).unlink()
    change_record(folder, change)
