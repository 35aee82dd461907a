"""Packs a finished training run as a model folder.

The model is calibrated and measured on the validation images. Its folder is written under another
name and then renamed.
"""

import hashlib
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cadlib import __version__
from cadlib.errors import TrainingFailed
from cadlib.model import card, metrics_file, weights
from cadlib.model.committee import Average, Committee
from cadlib.model.engine import Engine
from cadlib.model.golden import golden_json
from cadlib.model.metrics_file import Metrics
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    GOLDEN_FILE,
    METRICS_FILE,
    ONNX_FILE,
    SPLIT_FILE,
    WEIGHTS_FILE,
    Member,
    ModelRecord,
    TrainingFacts,
    TrainingRun,
    models_dir,
    write_folder,
)
from cadlib.network.backbones import arrays_of, saliency_layer
from cadlib.network.onnx_export import to_onnx
from cadlib.taxonomy import CODES
from cadlib.training.calibrate import read_out
from cadlib.training.loop import Trained

DATA_LICENCE = (
    "Trained on ISIC 2019 (HAM10000, BCN20000, MSK), CC BY-NC 4.0: "
    "the weights are for non-commercial use, with attribution to the three archives."
)
INTENDED_USE = (
    "Supports a trained reader of dermoscopic images of single skin lesions "
    "with a ranked, calibrated differential diagnosis. "
    "It is not a diagnosis, is not a medical device and does not replace the reader."
)
KNOWN_LIMITS = (
    "The model knows only eight diagnoses; any other lesion is classified as one of them.",
    (
        "The model was trained on dermoscopic images. "
        "It is not suitable for clinical photographs, other body tissue or poor-quality images."
    ),
    (
        "The images come from a few specialist clinics and mostly show fair-skinned patients; "
        "there are hardly any images of dark skin."
    ),
    (
        "The mix of diagnoses in ISIC 2019 is that of specialist referral; "
        "predictive values elsewhere will differ."
    ),
    "The model uses only the centred square of an image; it does not see anything outside.",
)
VIEWS: Literal[8] = 8
"""Views of an image that a new model reads: all flips and quarter turns."""
AVERAGE: Average = "logits"
"""What a new model averages over its networks and views."""
_BATCH_IMAGES = 32
_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow")


def check_name(name: str, *, overwrite: bool) -> Path:
    """Return the folder a model of this name will have.

    Raise TrainingFailed when the folder exists already, and for an invalid name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise TrainingFailed(
            f"Expected a name of letters, digits, '.', '_' and '-' but got {name!r}."
        )
    folder = models_dir() / name
    if folder.exists() and not overwrite:
        raise TrainingFailed(
            f"{folder} stands already; choose another --name, or replace it with --overwrite."
        )
    return folder


def pack(trained: Trained, name: str, version: str, *, overwrite: bool = False) -> Path:
    """Write the model folder of a finished run and return it.

    Raise TrainingFailed where that fails, and leave no new folder.
    """

    def write(folder: Path) -> None:
        _write(trained, name, version, folder)

    return write_aside(
        name,
        write,
        "The checkpoint stands: make room and write it with --resume.",
        overwrite=overwrite,
    )


def write_aside(
    name: str,
    write: Callable[[Path], None],
    remedy: str,
    *,
    overwrite: bool,
) -> Path:
    """Let `write` fill a new folder, and make it the model of that name; return it.

    Raise TrainingFailed where the name is taken or the disk is full, with `remedy` as the advice,
    and leave no new folder.
    """
    folder = check_name(name, overwrite=overwrite)
    aside = folder.with_name(f".{name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        write(aside)
        # A model of this name stays in place until the new one is complete.
        old = folder.with_name(f".{name}.old")
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            folder.replace(old)
        aside.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise TrainingFailed(
            f"The model could not be written to {folder}: {error}. {remedy}"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write(trained: Trained, name: str, version: str, folder: Path) -> None:
    """Write all files of the model into a folder, and load it once."""
    stored = weights.pack(arrays_of(trained.network))
    layer = saliency_layer(trained.network)
    graph = to_onnx(trained.network, layer, trained.spec)
    # The record has the checksums of the weights and the graph.
    record, metrics = _measure(trained, name, version, stored, graph)
    network = {WEIGHTS_FILE: stored, ONNX_FILE: graph}
    # Assembled in memory, for its golden answers.
    model = Model.assemble(record, network, folder)
    others = {
        SPLIT_FILE: trained.data.split_csv,
        METRICS_FILE: metrics_file.metrics_json(metrics),
        CARD_FILE: card.render(record, metrics),
        GOLDEN_FILE: golden_json(model),
    }
    files: dict[str, str | bytes] = {**network, **others}
    write_folder(folder, record, files)
    # Loading checks the files: a folder that cannot be read must not become a model.
    Model.load(folder)


def _measure(
    trained: Trained,
    name: str,
    version: str,
    stored: bytes,
    graph: bytes,
) -> tuple[ModelRecord, Metrics]:
    """Return the record and the metrics of the model."""
    data = trained.data
    rows = data.rows("validation")
    committee = Committee([Engine(graph, weights.unpack(stored))], VIEWS, AVERAGE)
    fields, metrics = read_out(
        data.table.iloc[rows],
        _logits(committee, trained, rows),
        data.groups.iloc[rows],
        data.name,
    )
    record = ModelRecord(
        name=name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        members=(_member(trained, stored, graph),),
        views=VIEWS,
        average=AVERAGE,
        codes=CODES,
        input=trained.spec,
        training=_training_facts(trained),
        audit=None,
        neighbours=None,
        novelty=None,
        libraries=library_versions(),
        data_licence=DATA_LICENCE,
        intended_use=INTENDED_USE,
        known_limits=KNOWN_LIMITS,
        **fields,
    )
    metrics = msgspec.structs.replace(metrics, model=metrics_file.model_facts(record))
    split_metrics = metrics_file.split_metrics(metrics)
    return record, metrics_file.join_splits(split_metrics, None)


def library_versions() -> dict[str, str]:
    """Return the version of cadlib and of each library that decides a result."""
    versions = {"cadlib": __version__}
    for library in _LIBRARIES:
        versions[library] = installed_version(library)
    return versions


def _logits(committee: Committee, trained: Trained, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the (N, 8) logits of rows of the run's images."""
    logits = []
    for first in range(0, len(rows), _BATCH_IMAGES):
        batch = rows[first : first + _BATCH_IMAGES]
        outputs = committee.run(trained.data.pixels[batch], trained.spec)
        logits.append(outputs.logits)
    return np.concatenate(logits)


def _member(trained: Trained, stored: bytes, graph: bytes) -> Member:
    """Return the facts of the network: its hashes and the settings of its run."""
    config = trained.config
    settings = asdict(config)
    # The name in the settings may later be that of another model. The id changes with the novelty
    # detector, which teaches nothing, so the hash of the predictions is saved, too.
    if trained.soft_targets is not None:
        settings["teacher_id"] = trained.soft_targets.teacher_id
        settings["teacher_predictions"] = trained.soft_targets.predictions_sha256
    run = TrainingRun(
        git_commit=trained.git_commit,
        config=settings,
        seed=config.seed,
        epochs=config.epochs,
        seconds=round(trained.seconds, 1),
    )
    return Member(
        backbone=config.backbone,
        saliency_layer=saliency_layer(trained.network),
        weights_sha256=hashlib.sha256(stored).hexdigest(),
        onnx_sha256=hashlib.sha256(graph).hexdigest(),
        fold=config.fold if config.folds else None,
        run=run,
    )


def _training_facts(trained: Trained) -> TrainingFacts:
    """Return the images and lesions of each part of the split of a run."""
    data = trained.data
    images = {}
    lesions = {}
    for part in ("train", "validation", "test"):
        rows = data.rows(part)
        images[part] = len(rows)
        lesions[part] = int(data.groups.iloc[rows].nunique())
    return TrainingFacts(
        split_sha256=data.split_sha256,
        images=images,
        lesions=lesions,
        dataset=data.name,
    )
