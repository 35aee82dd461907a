"""Stores the hashes of a model folder's files and detects changes.

`manifest.json` has the size and the SHA-256 of every other file of the folder, and short hashes of
the fields of model.json, so that a change can be named. It is written together with the files.

It protects from unnoticed changes: a slip in an editor, a half-finished copy, a bad disk. It is no
signature: anybody who changes a file can write its new hash too. The model's id, which is the hash
of all fields that decide an answer, and the golden answers reveal such a change.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cadlib.errors import ModelInvalid
from cadlib.files.json_types import Digest
from cadlib.files.typed_json import convert, parse
from cadlib.model.decisive_fields import field_digests

MANIFEST_FILE = "manifest.json"
RECORD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
"""The weights of the first network, `weights_file(0)`."""
ONNX_FILE = "model.onnx"
"""The graph of the first network, `onnx_file(0)`."""
METRICS_FILE = "metrics.json"
GOLDEN_FILE = "golden.json"
NEIGHBOURS_FILE = "neighbours.safetensors"
CARD_FILE = "README.md"
NOVELTY_FILE = "novelty.safetensors"
SPLIT_FILE = "split.csv"
OUT_OF_FOLD_FILE = "out_of_fold.csv"

MOST_MEMBERS = 16
"""Networks that a model may have."""


def weights_file(member: int) -> str:
    """Return the name of the file of a network's weights; networks are counted from 0."""
    return WEIGHTS_FILE if member == 0 else f"weights-{member + 1}.safetensors"


def onnx_file(member: int) -> str:
    """Return the name of the file of a network's graph; networks are counted from 0."""
    return ONNX_FILE if member == 0 else f"model-{member + 1}.onnx"


NETWORK_FILES = tuple(
    name for member in range(MOST_MEMBERS) for name in (weights_file(member), onnx_file(member))
)
"""Files of all networks that a model may have; each has the first two."""
NEEDED_FILES = (RECORD_FILE, WEIGHTS_FILE, ONNX_FILE, GOLDEN_FILE)
"""Files without which a model cannot predict."""
LARGE_FILES = (*NETWORK_FILES, NEIGHBOURS_FILE, NOVELTY_FILE)
"""Files that are read when the model is loaded.

The others are small, and are checked whenever the record is read.
"""
FILES = (
    RECORD_FILE,
    *NETWORK_FILES,
    GOLDEN_FILE,
    METRICS_FILE,
    NEIGHBOURS_FILE,
    NOVELTY_FILE,
    CARD_FILE,
    SPLIT_FILE,
    OUT_OF_FOLD_FILE,
)
"""All files that a model folder may have beside its manifest."""
SMALL_FILES = tuple(name for name in FILES if name not in LARGE_FILES)

_MAX_MANIFEST_BYTES = 2**20
_MAX_NAMED_BYTES = 2**23
"""A model.json up to this size is compared field by field; ours has 11 KB."""


class FileFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and hash of a file."""

    bytes: Annotated[int, Meta(ge=0, le=2**40)]
    sha256: Digest


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of manifest.json; `sha256` is the hash of the rest of it."""

    format_version: Literal[1]
    model: Annotated[str, Meta(max_length=1000)]
    files: dict[str, FileFacts]
    fields: Annotated[dict[str, str], Meta(max_length=10_000)]
    sha256: str


class FileTooLargeError(OSError):
    """A file is larger than allowed; it was not read."""

    def __init__(self, actual_bytes: int, most_bytes: int) -> None:
        super().__init__(None, f"it has {actual_bytes:,} bytes, more than {most_bytes:,}")
        self.bytes = actual_bytes


@dataclass(frozen=True)
class Change:
    """A changed file of a model folder, or a changed field of its model.json."""

    file: str
    what: str
    field: str = ""

    def __str__(self) -> str:
        if self.field:
            return f"{self.file}: {self.field} {self.what}"
        return f"{self.file} {self.what}"


def file_facts(data: bytes) -> FileFacts:
    """Return size and hash of a file's bytes."""
    digest = hashlib.sha256(data)
    return FileFacts(len(data), digest.hexdigest())


def manifest_text(
    model_id: str,
    files: Mapping[str, FileFacts],
    record: Mapping[str, Any],
) -> str:
    """Return manifest.json for the files of a model folder.

    `record` is the content of its model.json.
    """
    listed = {name: msgspec.structs.asdict(files[name]) for name in sorted(files)}
    content = {
        "format_version": 1,
        "model": model_id,
        "files": listed,
        "fields": field_digests(record),
    }
    # The digest is of the other values, so it comes last.
    digest = _own_digest(content)
    signed = {**content, "sha256": digest}
    text = json.dumps(signed, indent=2, ensure_ascii=False)
    return text + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and check manifest.json of a model folder; raise ModelInvalid for a bad one."""
    path = folder / MANIFEST_FILE
    raw = parse(_read(path, _MAX_MANIFEST_BYTES), path)
    manifest = convert(raw, Manifest, path)
    # The digest of the manifest is in the manifest, but cannot be part of itself.
    hashed = {key: value for key, value in raw.items() if key != "sha256"}
    if manifest.sha256 != _own_digest(hashed):
        raise ModelInvalid(
            f"Expected {path} as it was written, but its content changed. Restore the folder."
        )
    unknown = sorted(set(manifest.files) - set(FILES))
    if unknown:
        raise ModelInvalid(
            f"Expected {path} to list files of a model, but found {unknown[0][:60]!r}."
        )
    for name in NEEDED_FILES:
        if name not in manifest.files:
            raise ModelInvalid(
                f"Expected {path} to list {name}, without which there is no answer. "
                "Restore the folder."
            )
    return manifest


def read_files(
    folder: Path,
    manifest: Manifest,
    names: Iterable[str],
) -> dict[str, bytes]:
    """Return the bytes of those files that the manifest lists.

    Raise ModelInvalid, and name every file and every field of model.json that changed since it was
    written.
    """
    contents, changes = _compare(folder, manifest, names)
    if changes:
        first = "; ".join(str(change) for change in changes[:5])
        n_more = len(changes) - 5
        more = f"; and {n_more} more" if n_more > 0 else ""
        raise ModelInvalid(
            f"Expected the model in {folder} as it was written, but {first}{more}. "
            "Restore the folder; "
            f"`python -m cadlib model verify --model {folder}` lists every change."
        )
    return contents


def find_changes(folder: Path) -> list[Change]:
    """Return every change in a model folder since it was written.

    Raise ModelInvalid without a manifest.
    """
    manifest = read_manifest(folder)
    _, changes = _compare(folder, manifest, FILES)
    expected = {MANIFEST_FILE, *manifest.files}
    present = {path.name for path in folder.iterdir()}
    added = present - expected
    for name in sorted(added):
        shown_name = _printable(name)
        change = Change(shown_name, "was added")
        changes.append(change)
    return changes


def _printable(name: str) -> str:
    """Return a name with escapes for all that a terminal may not print."""
    # Without the quotes that `ascii` adds.
    return ascii(name)[1:-1]


def _compare(
    folder: Path,
    manifest: Manifest,
    names: Iterable[str],
) -> tuple[dict[str, bytes], list[Change]]:
    contents: dict[str, bytes] = {}
    changes: list[Change] = []
    for name in names:
        if name not in manifest.files:
            continue
        facts = manifest.files[name]
        try:
            contents[name] = _checked(folder / name, facts)
        except ModelInvalid as error:
            fields: list[Change] = []
            # Only the fields of model.json have digests of their own.
            if name == RECORD_FILE:
                fields = _changed_fields(folder, manifest)
            whole_file = Change(name, str(error))
            changes += fields or [whole_file]
    return contents, changes


def _checked(path: Path, facts: FileFacts) -> bytes:
    """Return the bytes of a file; raise ModelInvalid with a message to follow its name."""
    try:
        data = read_regular(path, facts.bytes)
    except FileNotFoundError:
        raise ModelInvalid("is missing") from None
    except FileTooLargeError as error:
        raise ModelInvalid(
            f"changed: it has {error.bytes:,} bytes instead of {facts.bytes:,}"
        ) from None
    except OSError as error:
        raise ModelInvalid(f"cannot be read ({error.strerror or error})") from None
    # The number of bytes is a clearer message than a hash.
    if len(data) != facts.bytes:
        raise ModelInvalid(f"changed: it has {len(data):,} bytes instead of {facts.bytes:,}")
    actual = hashlib.sha256(data).hexdigest()
    if actual != facts.sha256:
        raise ModelInvalid(
            f"changed: its SHA-256 is {actual[:16]}… instead of {facts.sha256[:16]}…"
        )
    return data


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a regular file, at most `most_bytes`; raise OSError for anything else."""
    # A pipe, a device or a folder is rejected before a byte is read: reading one could block
    # forever.
    # Without O_NONBLOCK, opening a pipe would wait for a writer; O_BINARY is for Windows.
    flags = os.O_RDONLY
    flags |= getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        # Checked after opening, because the path could be replaced in between.
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "it is no regular file")
        if status.st_size > most_bytes:
            raise FileTooLargeError(status.st_size, most_bytes)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # The file can grow after its size was read.
            data = file.read(most_bytes + 1)
            return data[:most_bytes]
    finally:
        os.close(descriptor)


def _changed_fields(folder: Path, manifest: Manifest) -> list[Change]:
    """Return the changed fields of model.json; none where they cannot be identified."""
    path = folder / RECORD_FILE
    try:
        data = read_regular(path, _MAX_NAMED_BYTES)
        raw = parse(data, path)
    except (OSError, ModelInvalid):
        return []
    if not isinstance(raw, dict):
        return []
    today = field_digests(raw)
    changes: list[Change] = []
    for name in sorted(manifest.fields.keys() | today.keys()):
        if name not in today:
            change = Change(RECORD_FILE, "is missing", name)
        elif name not in manifest.fields:
            # This name comes from the changed file, and can be any text.
            shown_name = _printable(name[:100])
            change = Change(RECORD_FILE, "was added", shown_name)
        elif today[name] != manifest.fields[name]:
            change = Change(RECORD_FILE, "changed", name)
        else:
            continue
        changes.append(change)
    return changes


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        return read_regular(path, most_bytes)
    except FileNotFoundError:
        raise ModelInvalid(
            f"Expected {path}, but there is no such file. Restore the folder; "
            "a model of an earlier version gets its manifest "
            f"by `python -m cadlib model migrate --model {path.parent}`."
        ) from None
    except OSError as error:
        raise ModelInvalid(
            f"Expected to read {path}, but {error.strerror or error}. Restore the folder."
        ) from None


def _own_digest(content: Mapping[str, Any]) -> str:
    # Sorted keys and ASCII give the same bytes for equal content on every system.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
