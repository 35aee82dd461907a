"""model.json as an object: everything needed to run a model, and what is known about it.

A missing key is an error, never a default; nothing here needs torch, so that a page can name the model
before its network is loaded.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadlib.calibration import Temperature
from cadlib.decision import OperatingPoint
from cadlib.errors import FactsRejected, ModelInvalid
from cadlib.metadata import MetadataEvidence, MetadataTrial
from cadlib.novelty import NoveltyFacts
from cadlib.preprocess import InputSpec
from cadlib.taxonomy import CODES
from cadlib.validation import LeakAudit, claim

FORMAT_VERSION = 5
RECORD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
ONNX_FILE = "model.onnx"
METRICS_FILE = "metrics.json"
GOLDEN_FILE = "golden.json"
NEIGHBOURS_FILE = "neighbours.safetensors"
CARD_FILE = "README.md"
NOVELTY_FILE = "novelty.safetensors"
SPLIT_FILE = "split.csv"


def models_dir() -> Path:
    """Return the folder of named models: CADLIB_MODELS where it is set, else models/ beside the package."""
    return Path(os.environ.get("CADLIB_MODELS") or Path(__file__).parent.parent / "models")


@dataclass(frozen=True)
class ConformalSets:
    """Class-conditional conformal prediction: a class is in the set when 1 - p(class) is at most its quantile.

    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), Mondrian form. `quantiles`
    has one figure a code, 1.0 where a class had too few validation images to exclude anything.
    """

    coverage: float
    quantiles: dict[str, float]

    def of(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which classes are in the set of each image; (…, 8) to (…, 8), in taxonomy order. A set may be empty."""
        inside: NDArray[np.bool_] = 1 - probabilities <= np.array([self.quantiles[code] for code in CODES])
        return inside


@dataclass(frozen=True)
class NeighbourFacts:
    """What stands in neighbours.safetensors: `images` of the `of` training images, of so many lesions."""

    sha256: str
    images: int
    of: int
    lesions: int


@dataclass(frozen=True)
class TrainingFacts:
    """Where the weights come from; `split_sha256` is the hash of the split's CSV."""

    git_commit: str
    config: dict[str, Any]
    seed: int
    split_sha256: str
    images: dict[str, int]
    lesions: dict[str, int]
    dataset: str
    epochs: int
    seconds: float


@dataclass(frozen=True)
class ModelRecord:
    """One model.json. `codes` is the order of the network's outputs.

    `temperature` divides its logits, by the size of the image, and `bias`, a number a code in nats, is added to them
    then. `audit` is None for a model whose split nobody has audited.
    """

    name: str
    version: str
    created: str
    backbone: str
    codes: tuple[str, ...]
    input: InputSpec
    temperature: Temperature
    bias: tuple[float, ...]
    conformal: ConformalSets
    operating_points: tuple[OperatingPoint, ...]
    saliency_layer: str
    training: TrainingFacts
    audit: LeakAudit | None
    weights_sha256: str
    onnx_sha256: str
    libraries: dict[str, str]
    data_licence: str
    intended_use: str
    known_limits: tuple[str, ...]
    metadata: MetadataTrial | None
    """What age, sex and site changed; None where the data had none."""
    neighbours: NeighbourFacts | None
    """The training images as similar cases; None where nobody ran `index`."""
    novelty: NoveltyFacts | None
    """From where on a picture is not known; None where nobody fitted it."""

    @property
    def evidence(self) -> MetadataEvidence | None:
        """Return what the model says of age, sex and site; None where it takes none."""
        return None if self.metadata is None else self.metadata.evidence

    def required_evidence(self) -> MetadataEvidence:
        """Return the same; raise FactsRejected where the model takes none."""
        if self.evidence is None:
            raise FactsRejected(f"Expected no age, sex or site: {self.model_id} takes none; leave them away.")
        return self.evidence

    @property
    def model_id(self) -> str:
        """Return the name a prediction carries: name, version and the first of the weights' hash."""
        return f"{self.name} {self.version} ({self.weights_sha256[:8]})"

    @property
    def validated(self) -> bool:
        """Tell whether an audit found the model's split without a leak."""
        return self.audit is not None and not self.audit.leaks

    @property
    def validation_claim(self) -> str:
        """Return what may be said of its figures, to follow its name: the only words for that anywhere."""
        return claim(self.audit)

    def operating_point(self, name: str, *, with_facts: bool = False) -> OperatingPoint:
        """Return the operating point of that name; raise ModelInvalid when the model has none.

        `with_facts` asks for the threshold of a probability to which facts of the patient were added.
        """
        points = self.metadata.operating_points if with_facts and self.metadata else self.operating_points
        for point in points:
            if point.name == name:
                return point
        names = ", ".join(point.name for point in points)
        raise ModelInvalid(f"Expected an operating point of {self.name} ({names}) but got {name!r}.")

    def to_json(self) -> dict[str, Any]:
        """Return the whole record as JSON values, the format version first."""
        apart = {
            "input": self.input.to_json(),
            "audit": self.audit and self.audit.to_json(),
            "metadata": self.metadata and self.metadata.to_json(),
        }
        return {"format_version": FORMAT_VERSION, **asdict(self), **apart}


def read_record(folder: Path) -> ModelRecord:
    """Read and check model.json of a model folder; raise ModelInvalid and say what is wrong with it."""
    path = folder / RECORD_FILE
    raw = read_json(path)
    if raw.pop("format_version", None) != FORMAT_VERSION:
        raise ModelInvalid(
            f"Expected {path} to be of format version {FORMAT_VERSION}; write it anew with this version."
        )
    names = {field.name for field in fields(ModelRecord)}
    if missing := names - raw.keys():
        raise ModelInvalid(f"{path} lacks {', '.join(sorted(missing))}; nothing is assumed in their place.")
    if unknown := raw.keys() - names:
        raise ModelInvalid(f"{path} has keys this version does not know: {', '.join(sorted(unknown))}.")
    try:
        record = ModelRecord(
            **{
                **raw,
                "codes": tuple(raw["codes"]),
                "temperature": Temperature(**raw["temperature"]),
                "bias": tuple(raw["bias"]),
                "known_limits": tuple(raw["known_limits"]),
                "input": InputSpec.from_json(raw["input"]),
                "conformal": ConformalSets(**raw["conformal"]),
                "operating_points": tuple(map(OperatingPoint.from_json, raw["operating_points"])),
                "training": TrainingFacts(**raw["training"]),
                "audit": None if raw["audit"] is None else LeakAudit.from_json(raw["audit"]),
                "metadata": None if raw["metadata"] is None else MetadataTrial.from_json(raw["metadata"]),
                "neighbours": None if raw["neighbours"] is None else NeighbourFacts(**raw["neighbours"]),
                "novelty": None if raw["novelty"] is None else NoveltyFacts(**raw["novelty"]),
            }
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelInvalid(f"{path} holds a value that does not fit: {error}") from error
    _check(record, path)
    return record


def _check(record: ModelRecord, path: Path) -> None:
    if record.codes != CODES:
        raise ModelInvalid(
            f"Expected {path} to name the classes {', '.join(CODES)} in this order but got "
            f"{', '.join(map(str, record.codes))}."
        )
    if record.audit is not None and record.audit.split_sha256 != record.training.split_sha256:
        raise ModelInvalid(
            f"Expected the audit in {path} to be of the split {record.training.split_sha256!r} the model was trained "
            f"on but it is of {record.audit.split_sha256!r}; run `python -m cadlib audit --into-model`."
        )
    if len(record.bias) != len(CODES) or not all(isinstance(b, int | float) and math.isfinite(b) for b in record.bias):
        raise ModelInvalid(f"Expected the bias in {path} to be {len(CODES)} numbers but got {list(record.bias)}.")
    for name in ("name", "version", "backbone", "saliency_layer", "weights_sha256", "onnx_sha256"):
        if not isinstance(value := getattr(record, name), str):
            raise ModelInvalid(f"Expected {name} in {path} to be text but got {value!r}.")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder; raise ModelInvalid when it is missing or broken."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelInvalid(
            f"Expected {path} but there is no such file; a model is a folder written by `python -m cadlib train`."
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelInvalid(f"{path} cannot be read as JSON: {error}. Restore the file or train anew.") from error
    if not isinstance(raw, dict):
        raise ModelInvalid(f"Expected {path} to hold a JSON object but got {type(raw).__name__}. Restore the file.")
    return raw


def json_text(content: Mapping[str, Any]) -> str:
    """Return a JSON object as the text of a file of a model folder."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def replace_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Replace files of a model folder, all whole or none; raise OSError where that fails."""
    with TemporaryDirectory(dir=folder, prefix=".aside-") as aside:
        for name, content in contents.items():
            path = Path(aside, name)
            path.write_text(content, encoding="utf-8") if isinstance(content, str) else path.write_bytes(content)
        for name in contents:
            Path(aside, name).replace(folder / name)


def verified(path: Path, sha256: str) -> bytes:
    """Return the bytes of a file of a model; raise ModelInvalid when they are not those of its record."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelInvalid(f"Expected {path} but it cannot be read: {error.strerror}. Restore the folder.") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise ModelInvalid(
            f"Expected {path} to have the SHA-256 {sha256[:16]}… of its model.json but got {actual[:16]}…: "
            "the file was changed or is incomplete. Restore the folder."
        )
    return data


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a model: a name under `models_dir()`, or a path; raise ModelInvalid if neither is one."""
    for folder in (models_dir() / name_or_path, Path(name_or_path)):
        if (folder / RECORD_FILE).is_file():
            return folder
    known = ", ".join(list_models()) or "none"
    raise ModelInvalid(
        f"Expected the name of a model or a folder with {RECORD_FILE} but got {os.fspath(name_or_path)!r}. "
        f"Models at hand: {known}."
    )


def list_models() -> list[str]:
    """Return the names under `models_dir()` that hold a model.json, sorted."""
    names = (path.parent.name for path in models_dir().glob(f"*/{RECORD_FILE}"))
    return sorted(name for name in names if not name.startswith("."))  # hidden: one that is being written
