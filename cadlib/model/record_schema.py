"""States the type and the range of every field of model.json.

The ranges are wide enough for every model that `train` can write, and narrow enough that no value
inside them makes an answer fail. What belongs together across fields is checked in `record`.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.images.patient import FEATURES
from cadlib.images.preprocess import INTERPOLATIONS
from cadlib.model.audit_result import MAX_NAMED
from cadlib.model.metadata.evidence import MAX_LOGIT
from cadlib.model.metadata.trial import FIGURES
from cadlib.taxonomy import CODES

FORMAT_VERSION = 6

_MOST = 10**9
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Positive = Annotated[int, Meta(ge=1, le=_MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Change = Annotated[float, Meta(ge=-1e6, le=1e6)]
Interval = tuple[Share, Share]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", max_length=100)]
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]+\Z", max_length=500)]
"""Text without a line break."""
Text = Annotated[str, Meta(max_length=5000)]
Setting = Annotated[int, Meta(ge=-(2**53), le=2**53)] | float | bool | Text | None
Temperature = Annotated[float, Meta(ge=0.01, lt=100)]
Logit = Annotated[float, Meta(ge=-MAX_LOGIT, le=MAX_LOGIT)]
ByCode = Annotated[tuple[Logit, ...], Meta(min_length=len(CODES), max_length=len(CODES))]

if TYPE_CHECKING:
    Quantiles = dict[str, float]
else:
    Quantiles = msgspec.defstruct(
        "Quantiles",
        [(code, Share) for code in CODES],
        forbid_unknown_fields=True,
    )


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object of the file: every key is required, and no other is known."""


class InputFile(_Object, frozen=True):
    """The key `input`."""

    size_px: Annotated[int, Meta(ge=32, le=4096)]
    interpolation: str
    mean: Annotated[
        tuple[Annotated[float, Meta(ge=-10, le=10)], ...], Meta(min_length=3, max_length=3)
    ]
    std: Annotated[
        tuple[Annotated[float, Meta(ge=1e-3, le=10)], ...], Meta(min_length=3, max_length=3)
    ]

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"`interpolation` has to be one of {', '.join(INTERPOLATIONS)}")


class TemperatureFile(_Object, frozen=True):
    """The key `temperature`."""

    small: Temperature
    large: Temperature


class ConformalFile(_Object, frozen=True):
    """The key `conformal`."""

    coverage: Annotated[float, Meta(gt=0, lt=1)]
    quantiles: Quantiles


class IntervalsFile(_Object, frozen=True):
    """The key `intervals` of an operating point."""

    sensitivity: Interval | None
    specificity: Interval | None


class OperatingPointFile(_Object, frozen=True):
    """One of the key `operating_points`."""

    name: Name
    threshold: Share
    sensitivity: Share
    specificity: Share
    n_malignant: Positive
    n_benign: Positive
    split: Literal["validation", "test"]
    intervals: IntervalsFile


OperatingPoints = Annotated[tuple[OperatingPointFile, ...], Meta(max_length=20)]


class TrainingFile(_Object, frozen=True):
    """The key `training`."""

    git_commit: Text
    config: Annotated[dict[Line, Setting], Meta(max_length=200)]
    seed: Annotated[int, Meta(ge=-(2**53), le=2**53)]
    split_sha256: Digest
    images: Annotated[dict[Name, Count], Meta(max_length=10)]
    lesions: Annotated[dict[Name, Count], Meta(max_length=10)]
    dataset: Line
    epochs: Count
    seconds: Annotated[float, Meta(ge=0, le=1e9)]


class AuditFile(_Object, frozen=True):
    """The key `audit`."""

    created: Line
    dataset: Line
    split_sha256: Digest
    images: Annotated[dict[Name, Count], Meta(max_length=10)]
    shared_lesions: Count
    shared_groups: Count
    identical_files: Count
    near_duplicates: Count
    same_pictures: Count
    contradictions: dict[str, Count]
    named: Annotated[tuple[Text, ...], Meta(max_length=MAX_NAMED)]
    leaks: bool

    def __post_init__(self) -> None:
        if set(self.contradictions) != set(CONTRADICTIONS):
            names = ", ".join(CONTRADICTIONS)
            raise ValueError(f"`contradictions` has to be of {names}")


class DifferenceFile(_Object, frozen=True):
    """A metric of the key `metadata`, without and with the facts."""

    before: Change | None
    after: Change | None
    low: Change | None
    high: Change | None


if TYPE_CHECKING:
    DifferencesFile = dict[str, DifferenceFile]
else:
    DifferencesFile = msgspec.defstruct(
        "DifferencesFile",
        [(name, DifferenceFile) for name in FIGURES],
        forbid_unknown_fields=True,
    )


class MetadataFile(_Object, frozen=True):
    """The key `metadata`."""

    differences: Annotated[dict[Line, DifferencesFile], Meta(max_length=100)]
    evidence: dict[str, ByCode] | None
    operating_points: OperatingPoints

    def __post_init__(self) -> None:
        if self.evidence is not None and tuple(self.evidence) != FEATURES:
            raise ValueError(f"`evidence` has to be of {', '.join(FEATURES)}, in this order")


class NeighboursFile(_Object, frozen=True):
    """The key `neighbours`."""

    sha256: Digest
    images: Positive
    of: Positive
    lesions: Positive


class NoveltyFile(_Object, frozen=True):
    """The key `novelty`."""

    limit: Annotated[float, Meta(ge=1e-6, le=1e6)]
    known_share: Annotated[float, Meta(gt=0, le=1)]
    images: Positive
    validation_images: Positive
    sha256: Digest


class RecordFile(_Object, frozen=True):
    """The whole of model.json."""

    format_version: Literal[6]
    name: Name
    version: Line
    created: Annotated[
        str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
    ]
    backbone: Name
    codes: tuple[str, ...]
    input: InputFile
    temperature: TemperatureFile
    bias: Annotated[
        tuple[Annotated[float, Meta(ge=-100, le=100)], ...],
        Meta(min_length=len(CODES), max_length=len(CODES)),
    ]
    conformal: ConformalFile
    operating_points: Annotated[tuple[OperatingPointFile, ...], Meta(min_length=1, max_length=20)]
    saliency_layer: Line
    training: TrainingFile
    audit: AuditFile | None
    weights_sha256: Digest
    onnx_sha256: Digest
    libraries: Annotated[dict[Line, Line], Meta(max_length=100)]
    data_licence: Text
    intended_use: Text
    known_limits: Annotated[tuple[Text, ...], Meta(max_length=100)]
    metadata: MetadataFile | None
    neighbours: NeighboursFile | None
    novelty: NoveltyFile | None

    def __post_init__(self) -> None:
        if self.codes != CODES:
            codes = ", ".join(CODES)
            raise ValueError(f"`codes` has to be {codes}, in this order")
