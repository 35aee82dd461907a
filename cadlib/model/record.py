"""Reads and writes model.json.

It holds everything that is needed to run a model, and its history. A missing key is an error, never
a default. Nothing here needs torch, so that a page can name the model before its network is loaded.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cadlib import command_hints
from cadlib.errors import FactsRejected, ModelInvalid
from cadlib.files import installation
from cadlib.files.json_types import (
    Count,
    Digest,
    JsonObject,
    Line,
    Name,
    Positive,
    Share,
    Text,
    type_by_code,
)
from cadlib.files.replace import ASIDE, replace_files
from cadlib.files.typed_json import convert, json_text, parse, shown
from cadlib.images.preprocess import InputSpec
from cadlib.metrics.balanced_rule import BalancedRule
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT, OperatingPoint
from cadlib.model import decisive_fields, manifest
from cadlib.model.audit_result import LeakAudit, claim
from cadlib.model.calibration import Temperature
from cadlib.model.metadata import MetadataEvidence, MetadataTrial
from cadlib.model.novelty import NoveltyFacts
from cadlib.taxonomy import CODES

FORMAT_VERSION = 7
RECORD_FILE = manifest.RECORD_FILE
WEIGHTS_FILE = manifest.WEIGHTS_FILE
ONNX_FILE = manifest.ONNX_FILE
METRICS_FILE = manifest.METRICS_FILE
GOLDEN_FILE = manifest.GOLDEN_FILE
NEIGHBOURS_FILE = manifest.NEIGHBOURS_FILE
CARD_FILE = manifest.CARD_FILE
NOVELTY_FILE = manifest.NOVELTY_FILE
SPLIT_FILE = manifest.SPLIT_FILE
OUT_OF_FOLD_FILE = manifest.OUT_OF_FOLD_FILE

_MAX_RECORD_BYTES = 2**23
_WRITING_SECONDS = 1.0
"""Longest time that a reader waits for a command that is replacing files of the folder."""
Bias = Annotated[float, Meta(ge=-100, le=100)]
Setting = Annotated[int, Meta(ge=-(2**53), le=2**53)] | float | bool | Text | None


def models_dir() -> Path:
    """Return the folder of the user's models.

    It is CADLIB_MODELS where that is set, else `installation.own_models_dir`.
    """
    return Path(os.environ.get("CADLIB_MODELS") or installation.own_models_dir())


def _model_folders() -> tuple[Path, ...]:
    """Return the folders of named models: the user's, then that of an installed wheel."""
    own = models_dir()
    is_chosen = os.environ.get("CADLIB_MODELS")
    # A folder that the user chose is the only one.
    if is_chosen or not installation.is_installed():
        return (own,)
    shipped = installation.project_dir() / "models"
    return own, shipped


if TYPE_CHECKING:
    Quantiles = JsonObject
else:
    Quantiles = type_by_code("Quantiles", Share)


class ConformalSets(JsonObject, frozen=True):
    """Class-conditional conformal prediction.

    A class is in the set when 1 - p(class) is at most its quantile: Vovk, Gammerman and Shafer,
    Algorithmic Learning in a Random World (2005), Mondrian form. `quantiles` has one number for
    each code, 1.0 where a class had too few validation images to exclude anything.
    """

    coverage: Annotated[float, Meta(gt=0, lt=1)]
    quantiles: Quantiles

    def of(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which classes are in the set of each image; (…, 8) to (…, 8), in taxonomy order.

        A set may be empty.
        """
        quantiles = np.array(msgspec.structs.astuple(self.quantiles))
        inside: NDArray[np.bool_] = 1 - probabilities <= quantiles
        return inside


class NeighbourFacts(JsonObject, frozen=True):
    """The content of neighbours.safetensors: `images` of the `of` training images, and lesions."""

    sha256: Digest
    images: Positive
    of: Positive
    lesions: Positive


class TrainingRun(JsonObject, frozen=True):
    """The run that gave the weights of a network."""

    git_commit: Text
    config: Annotated[dict[Line, Setting], Meta(max_length=200)]
    seed: Annotated[int, Meta(ge=-(2**53), le=2**53)]
    epochs: Count
    seconds: Annotated[float, Meta(ge=0, le=1e9)]


class Member(JsonObject, frozen=True):
    """One of the networks of a model, and the run that trained it.

    `fold` is the part of the training and validation images that it was not trained on, counted
    from 0. It is None for a network that was trained on all training images and on no validation
    image.
    """

    backbone: Name
    saliency_layer: Line
    weights_sha256: Digest
    onnx_sha256: Digest
    fold: Annotated[int, Meta(ge=0, lt=manifest.MOST_MEMBERS)] | None
    run: TrainingRun


class TrainingFacts(JsonObject, frozen=True):
    """The images that a model was trained, chosen and tested on.

    `split_sha256` is the hash of the split's CSV.
    """

    split_sha256: Digest
    images: Annotated[dict[Name, Count], Meta(max_length=10)]
    lesions: Annotated[dict[Name, Count], Meta(max_length=10)]
    dataset: Line


class ModelRecord(
    JsonObject,
    frozen=True,
    # For the cached property.
    dict=True,
    tag_field="format_version",
    tag=FORMAT_VERSION,
):
    """The content of model.json. `codes` is the order of the networks' outputs.

    `members` are the networks that predict together. `views` and `average` are those of
    `committee.Committee`.

    `temperature` divides its logits, by the size of the image, and `bias`, a number a code in nats,
    is added to the result. `audit` is None for a model whose split nobody has audited.
    """

    name: Name
    version: Line
    created: Annotated[
        str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
    ]
    members: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=manifest.MOST_MEMBERS)]
    views: Literal[1, 8]
    average: Literal["logits", "probabilities"]
    codes: tuple[str, ...]
    input: InputSpec
    temperature: Temperature
    bias: Annotated[tuple[Bias, ...], Meta(min_length=len(CODES), max_length=len(CODES))]
    conformal: ConformalSets
    balanced_rule: BalancedRule | None
    """Names the diagnosis for balanced accuracy; None where nobody fitted it."""
    operating_points: Annotated[tuple[OperatingPoint, ...], Meta(min_length=1, max_length=20)]
    training: TrainingFacts
    audit: LeakAudit | None
    libraries: Annotated[dict[Line, Line], Meta(max_length=100)]
    data_licence: Text
    intended_use: Text
    known_limits: Annotated[tuple[Text, ...], Meta(max_length=100)]
    metadata: MetadataTrial | None
    """The effect of age, sex and site; None where the data had none."""
    neighbours: NeighbourFacts | None
    """The training images as similar cases; None where nobody ran `index`."""
    novelty: NoveltyFacts | None
    """The limit from which an image is not known; None where nobody fitted it."""

    def __post_init__(self) -> None:
        if self.codes != CODES:
            codes = ", ".join(CODES)
            raise ValueError(f"`codes` has to be {codes}, in this order")

    @property
    def backbones(self) -> str:
        """Return the backbones of the networks for a reader, each with its number if above 1."""
        counts = Counter(member.backbone for member in self.members)
        names = []
        for backbone, count in counts.items():
            names.append(backbone if count == 1 else f"{count} × {backbone}")
        return ", ".join(names)

    @property
    def networks_text(self) -> str:
        """Return how many networks and views are averaged, for a reader."""
        n_networks = len(self.members)
        networks = "one network" if n_networks == 1 else f"{n_networks} networks"
        if self.views == 1:
            return f"{networks}, without rotated and mirrored views"
        return f"{networks}, average of {self.views} rotated and mirrored views"

    @property
    def cross_validated(self) -> bool:
        """Return whether each image of the folds has a network that was not trained on it."""
        return len(self.members) > 1 and all(member.fold is not None for member in self.members)

    @property
    def weights_sha256(self) -> str:
        """Return the hash of the weights: that of the only network, or of the hashes of all."""
        hashes = [member.weights_sha256 for member in self.members]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()

    @property
    def evidence(self) -> MetadataEvidence | None:
        """Return the evidence of age, sex and site; None where the model takes none."""
        if self.metadata is None:
            return None
        return self.metadata.evidence

    def required_evidence(self) -> MetadataEvidence:
        """Return the evidence of age, sex and site; raise FactsRejected without one."""
        if self.evidence is None:
            raise FactsRejected(
                f"Expected no age, sex or site: {self.model_id} takes none; leave them away."
            )
        return self.evidence

    @cached_property
    def answers_sha256(self) -> str:
        """Return the hash of all fields that decide an answer, as `decisive_fields` lists them."""
        return decisive_fields.answers_sha256(self.to_json())

    @property
    def model_id(self) -> str:
        """Return the id in predictions: name, version and first digits of `answers_sha256`."""
        digits = self.answers_sha256[: decisive_fields.ID_DIGITS]
        return f"{self.name} {self.version} ({digits})"

    @property
    def audit_passed(self) -> bool:
        """Return whether an audit found the model's split without a leak."""
        return self.audit is not None and not self.audit.leaks

    @property
    def validation_claim(self) -> str:
        """Return the claim about its metrics, to follow its name.

        Every page, command and card uses this text.
        """
        return claim(self.audit, self.name)

    def operating_point(self, name: str, *, with_facts: bool = False) -> OperatingPoint:
        """Return the operating point of that name; raise ModelInvalid when the model has none.

        `with_facts` selects the threshold for a probability with patient facts.
        """
        points = self.operating_points
        if with_facts and self.metadata is not None:
            points = self.metadata.operating_points
        for point in points:
            if point.name == name:
                return point
        names = ", ".join(point.name for point in points)
        raise ModelInvalid(
            f"Expected an operating point of {self.name} ({names}) but got {name!r}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the whole record as JSON values, the format version first."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values


def read_record(folder: Path) -> ModelRecord:
    """Read model.json of a model folder and check all small files against the manifest.

    Raise ModelInvalid and name every file and every field that changed since it was written.
    """
    record, _ = _once_written(folder, manifest.SMALL_FILES)
    return record


def read_folder(folder: Path) -> tuple[ModelRecord, dict[str, bytes]]:
    """Return the record of a model folder and the checked bytes of all its files.

    Raise ModelInvalid as `read_record`.
    """
    return _once_written(folder, manifest.FILES)


def record_from_json(raw: Mapping[str, Any], path: Path) -> ModelRecord:
    """Return the record of the JSON values of a model.json.

    Raise ModelInvalid and name the field that is wrong.
    """
    record = convert(raw, ModelRecord, path)
    _check(record, path)
    return record


def _once_written(folder: Path, names: tuple[str, ...]) -> tuple[ModelRecord, dict[str, bytes]]:
    """Read a folder; wait while another process is replacing files of it."""
    deadline = time.monotonic() + _WRITING_SECONDS
    while True:
        before = content_key(folder)
        try:
            return _read(folder, names)
        except ModelInvalid:
            changed = content_key(folder) != before
            is_being_written = changed or _has_files_aside(folder)
            if not is_being_written:
                raise
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _has_files_aside(folder: Path) -> bool:
    # New files wait in such a folder before they replace the old ones.
    return any(folder.glob(f"{ASIDE}*"))


def content_key(folder: Path) -> str:
    """Return a hash of manifest and model.json as they are on disk now."""
    digest = hashlib.sha256()
    for name in (manifest.MANIFEST_FILE, RECORD_FILE):
        try:
            digest.update(manifest.read_regular(folder / name, _MAX_RECORD_BYTES))
        except OSError as error:
            digest.update(str(error).encode())
        # Separates the two files, so that moving bytes between them changes the hash.
        digest.update(b"\0")
    return digest.hexdigest()


def _read(
    folder: Path,
    names: tuple[str, ...],
) -> tuple[ModelRecord, dict[str, bytes]]:
    path = folder / RECORD_FILE
    data = _read_record_bytes(path)
    raw = parse(data, path)
    if not isinstance(raw, dict):
        kind = type(raw).__name__
        raise ModelInvalid(
            f"Expected {path} to hold a JSON object but got {kind}. Restore the file."
        )
    _check_version(raw, folder)
    # This comes before the hashes, because a wrong type is a clearer message than a changed field.
    record = record_from_json(raw, path)
    listed = manifest.read_manifest(folder)
    contents = manifest.read_files(folder, listed, names)
    if contents[RECORD_FILE] != data:
        raise ModelInvalid(
            f"Expected {path} to stay as it is while it is read, but it was replaced. Try again."
        )
    _check_manifest(record, listed, folder)
    return record, contents


def _read_record_bytes(path: Path) -> bytes:
    try:
        return manifest.read_regular(path, _MAX_RECORD_BYTES)
    except OSError as error:
        raise ModelInvalid(
            f"Expected {path}, but it cannot be read: {error.strerror or error}. "
            f"A model is a folder written by `{command_hints.train()}`; restore it."
        ) from None


def _check_version(raw: Mapping[str, Any], folder: Path) -> None:
    """Raise ModelInvalid for a folder of an earlier version, and for one without a version."""
    version = raw.get("format_version")
    path = folder / RECORD_FILE
    has_manifest = (folder / manifest.MANIFEST_FILE).exists()
    is_former = version == FORMAT_VERSION - 1
    # Before version 6 there was no manifest.
    if is_former or (version != FORMAT_VERSION and not has_manifest):
        raise ModelInvalid(
            f"Expected {path} to be of format version {FORMAT_VERSION}, "
            f"but found {shown(version)}. "
            f"Bring a model of format version {FORMAT_VERSION - 1} up to date "
            f"by `python -m cadlib model migrate --model {folder}`."
        )
    # msgspec refuses another version, but accepts a missing one.
    if "format_version" not in raw:
        raise ModelInvalid(
            f"Expected `$.format_version` in {path}, but it is missing; "
            "nothing is assumed in its place. Restore the file."
        )


def _check_manifest(record: ModelRecord, listed: manifest.Manifest, folder: Path) -> None:
    """Raise ModelInvalid where manifest and record, each valid in itself, are of two models."""
    hashes: dict[str, str] = {}
    for number, member in enumerate(record.members):
        hashes[manifest.weights_file(number)] = member.weights_sha256
        hashes[manifest.onnx_file(number)] = member.onnx_sha256
    if record.neighbours is not None:
        hashes[NEIGHBOURS_FILE] = record.neighbours.sha256
    if record.novelty is not None:
        hashes[NOVELTY_FILE] = record.novelty.sha256
    # A model may come without its split.
    if SPLIT_FILE in listed.files:
        hashes[SPLIT_FILE] = record.training.split_sha256
    for name, sha256 in hashes.items():
        facts = listed.files.get(name)
        if sha256 and (facts is None or facts.sha256 != sha256):
            raise ModelInvalid(
                f"Expected {name} in {folder} to be the one of model.json, "
                f"with the SHA-256 {sha256[:16]}…, but the manifest lists another or none. "
                "Restore the folder."
            )
    if listed.model != record.model_id:
        raise ModelInvalid(
            f"Expected the manifest in {folder} to be of {record.model_id}, "
            f"but it is of {listed.model[:200]!r}. Restore the folder."
        )


def _check(record: ModelRecord, path: Path) -> None:
    """Raise ModelInvalid where fields of a record contradict each other."""
    split = record.training.split_sha256
    if record.audit is not None and record.audit.split_sha256 != split:
        raise ModelInvalid(
            f"Expected the audit in {path} to be of the split {split!r} the model was trained on "
            f"but it is of {record.audit.split_sha256!r}; "
            f"run `{command_hints.audit_into(record.name)}`."
        )
    names = [point.name for point in record.operating_points]
    # Points are found by name, and the default one applies unless another is chosen.
    if len(set(names)) != len(names) or DEFAULT_OPERATING_POINT not in names:
        raise ModelInvalid(
            f"Expected operating points of different names in {path}, "
            f"one of them {DEFAULT_OPERATING_POINT!r}, but found {', '.join(names)}. "
            "Restore the file."
        )
    if record.evidence is not None and record.metadata is not None:
        with_facts = [point.name for point in record.metadata.operating_points]
        if with_facts != names:
            raise ModelInvalid(
                f"Expected `$.metadata.operating_points` in {path} to be {', '.join(names)}, "
                f"as without patient data, but found {', '.join(with_facts) or 'none'}. "
                "Restore the file."
            )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise ModelInvalid when it is missing or broken."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelInvalid(
            f"Expected {path} but there is no such file; "
            f"a model is a folder written by `{command_hints.train()}`."
        ) from None
    # JSON that is nested too deeply is a RecursionError.
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInvalid(
            f"{path} cannot be read as JSON: {error}. Restore the file or train again."
        ) from error
    if not isinstance(raw, dict):
        raise ModelInvalid(
            f"Expected {path} to hold a JSON object but got {type(raw).__name__}. Restore the file."
        )
    return raw


def read_checked(folder: Path, name: str) -> bytes | None:
    """Return the bytes of a file of a model folder, None where the model has no such file.

    Raise ModelInvalid where it changed since it was written.
    """
    listed = manifest.read_manifest(folder)
    contents = manifest.read_files(folder, listed, (name,))
    return contents.get(name)


def read_checked_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object of a file of a model folder.

    Raise ModelInvalid as `read_checked`, and where the file is missing.
    """
    path = folder / name
    data = read_checked(folder, name)
    if data is None:
        raise ModelInvalid(
            f"Expected {path}, but this model has none. Evaluate the model, or restore it."
        )
    content = parse(data, path)
    if not isinstance(content, dict):
        raise ModelInvalid(f"Expected {path} to hold a JSON object. Restore the file.")
    return content


def write_folder(folder: Path, record: ModelRecord, contents: Mapping[str, str | bytes]) -> None:
    """Write a record, other files and a manifest of all into a model folder, all or none.

    `contents` are by name. Any other file keeps its hash of the manifest: an unnoticed change does
    not become part of the model. May raise OSError.
    """
    text = json_text(record.to_json())
    # Everything is written as bytes: a system with other line ends would write another file than
    # the one that is hashed.
    written: dict[str, bytes] = {}
    for name, content in contents.items():
        written[name] = content.encode() if isinstance(content, str) else content
    written[RECORD_FILE] = text.encode()
    facts: dict[str, manifest.FileFacts] = {}
    if (folder / manifest.MANIFEST_FILE).exists():
        former = manifest.read_manifest(folder)
        facts.update(former.files)
    for name, data in written.items():
        facts[name] = manifest.file_facts(data)
    values = json.loads(text)
    listed = manifest.manifest_text(record.model_id, facts, values)
    written[manifest.MANIFEST_FILE] = listed.encode()
    replace_files(folder, written)


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a model, by its name or path; raise ModelInvalid if it is neither."""
    # Named models come first, so that a folder in the working directory cannot replace one.
    candidates = [folder / name_or_path for folder in _model_folders()]
    candidates.append(Path(name_or_path))
    for folder in candidates:
        # The name can be too long, or the folder may not be looked into.
        with suppress(OSError):
            if (folder / RECORD_FILE).is_file():
                return folder
    names = ", ".join(list_models()) or "none"
    requested = os.fspath(name_or_path)
    raise ModelInvalid(
        f"Expected the name of a model or a folder with {RECORD_FILE} "
        f"but got {requested[:200]!r}. Models at hand: {names}."
    )


def list_models() -> list[str]:
    """Return the names of all models, sorted, with the shipped ones of an installed wheel."""
    names = set()
    for folder in _model_folders():
        for path in folder.glob(f"*/{RECORD_FILE}"):
            name = path.parent.name
            # A hidden folder is one that is being written.
            if not name.startswith("."):
                names.add(name)
    return sorted(names)
