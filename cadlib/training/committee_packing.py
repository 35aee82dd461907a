"""Packs the networks of a cross-validation as one model.

Each member is a model folder that `train --folds` has written. The test images are those of the
split that all members follow; no member has read them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset, short_sides
from cadlib.data.splits import lesion_groups, read_split, select
from cadlib.errors import TrainingFailed
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.metrics.cross_validation import CrossValidation
from cadlib.metrics.partial_labels import class_numbers
from cadlib.metrics.summary_schema import EvaluationMetrics
from cadlib.model import calibration, card, manifest, metrics_file, weights
from cadlib.model.committee import Average, Committee, averaged
from cadlib.model.engine import Engine
from cadlib.model.golden import golden_json
from cadlib.model.metrics_file import Metrics
from cadlib.model.model import Model
from cadlib.model.out_of_fold import OutOfFold
from cadlib.model.record import (
    CARD_FILE,
    GOLDEN_FILE,
    METRICS_FILE,
    ONNX_FILE,
    OUT_OF_FOLD_FILE,
    SPLIT_FILE,
    WEIGHTS_FILE,
    Member,
    ModelRecord,
    TrainingFacts,
    write_folder,
)
from cadlib.model.split import find_split
from cadlib.progress import Progress, named, no_progress
from cadlib.taxonomy import CODES
from cadlib.training.calibrate import measure_folds, read_out
from cadlib.training.packing import VIEWS, library_versions, write_aside

_SAME = ("input", "data_licence", "intended_use", "known_limits")
"""Fields of model.json that all members share with the committee."""


@dataclass(frozen=True, eq=False)
class Fold:
    """A member, and the images that it was not trained on.

    `model` reads and predicts as the committee does, with `weights`, the bytes of its weights file.
    `view_logits` is (N, V, 8) float32: of each image of `table` in each view.
    """

    model: Model
    weights: bytes
    table: pd.DataFrame
    view_logits: NDArray[np.float32]

    @property
    def member(self) -> Member:
        """Return the facts of the network."""
        [member] = self.model.record.members
        return member


def pack_committee(
    folders: Sequence[Path],
    dataset: Dataset,
    name: str,
    version: str,
    progress: Progress = no_progress,
    *,
    views: Literal[1, 8] = VIEWS,
    overwrite: bool = False,
) -> Path:
    """Write the model of all members, and return its folder.

    `folders` are those of the members, one for each fold. `dataset` has the images of the folds.
    The model reads `views` of each image: it as it is, or all its turns.

    Raise TrainingFailed for members that do not belong together, and as `packing.write_aside` does.
    """
    members = [Model.load(folder) for folder in folders]
    split = _check_members(members)
    folds = [_read_fold(model, views, dataset, progress) for model in members]
    # In the order of the folds, whatever the order of the folders.
    folds.sort(key=lambda fold: fold.member.fold or 0)

    def write(folder: Path) -> None:
        _write(folds, split, name, version, dataset.name, folder)

    return write_aside(
        name,
        write,
        "The members stand: make room and pack them again.",
        overwrite=overwrite,
    )


def _in_committee(model: Model, stored: bytes, views: Literal[1, 8]) -> Model:
    """Return a member as the committee has it, with the `stored` weights."""
    [member] = model.record.members
    digest = manifest.file_facts(stored).sha256
    halved = msgspec.structs.replace(member, weights_sha256=digest)
    record = msgspec.structs.replace(
        _with_symmetric_crop(model.record),
        views=views,
        members=(halved,),
    )
    graph = (model.folder / ONNX_FILE).read_bytes()
    network = Engine(graph, weights.unpack(stored))
    committee = Committee([network], views)
    return Model(record, committee, model.folder)


def _with_symmetric_crop(record: ModelRecord) -> ModelRecord:
    """Return a record with a crop that turns with the image; older members have another."""
    spec = msgspec.structs.replace(record.input, symmetric=True)
    return msgspec.structs.replace(record, input=spec)


def _check_members(models: Sequence[Model]) -> Path:
    """Return the split.csv that all members follow; raise TrainingFailed if they do not."""
    for model in models:
        n_networks = len(model.record.members)
        if n_networks > 1:
            raise TrainingFailed(
                f"Expected members of one network, but {model.record.model_id} has {n_networks}. "
                "Give the models that `train --folds` has written."
            )
    _check_same(models)
    _check_folds(models)
    followed = {str(_settings_of(model).get("split_of")) for model in models}
    if len(followed) > 1:
        names = ", ".join(sorted(followed))
        raise TrainingFailed(
            f"Expected members of one split, but they follow {names}. "
            "Train all members with the same --split-of."
        )
    split = find_split(followed.pop())
    _check_test_images(models, split)
    _check_disjoint(models)
    return split


def _settings_of(model: Model) -> Mapping[str, Any]:
    """Return the settings that the network of a member was trained with."""
    return model.record.members[0].run.config


def _check_same(models: Sequence[Model]) -> None:
    """Raise TrainingFailed where members differ in what they share with the committee."""
    # The members may differ in the crop: in the committee, that of all is symmetric.
    records = [_with_symmetric_crop(model.record) for model in models]
    first = records[0]
    for record in records[1:]:
        for name in _SAME:
            if getattr(record, name) != getattr(first, name):
                raise TrainingFailed(
                    f"Expected members with the same `{name}`, but those of {first.model_id} and "
                    f"{record.model_id} differ. Train one of them again."
                )


def _check_folds(models: Sequence[Model]) -> None:
    """Raise TrainingFailed unless there is one member for each fold."""
    folds = sorted(model.record.members[0].fold or 0 for model in models)
    # Members of different cross-validations have different numbers.
    numbers_of_folds = {int(_settings_of(model).get("folds") or 0) for model in models}
    n_folds = max(numbers_of_folds)
    if len(numbers_of_folds) > 1 or folds != list(range(n_folds)):
        fold_numbers = ", ".join(map(str, folds))
        raise TrainingFailed(
            f"Expected one member for each of the {n_folds} folds of one cross-validation, "
            f"but got the folds {fold_numbers}. "
            f"Train the others with `train --folds {n_folds} --fold K`."
        )


def _check_test_images(models: Sequence[Model], split: Path) -> None:
    """Raise TrainingFailed where a member's test images are not those of the split."""
    expected = _images(split, "test")
    for model in models:
        if _images(model.folder / SPLIT_FILE, "test") != expected:
            raise TrainingFailed(
                f"Expected the test images of {model.record.model_id} to be those of {split}, but "
                "they differ. Train it again with the same split."
            )


def _check_disjoint(models: Sequence[Model]) -> None:
    """Raise TrainingFailed where an image is in the fold of two members.

    Members of different seeds have other folds: some images would then have no network that was not
    trained on them.
    """
    member_of: dict[str, str] = {}
    for model in models:
        name = model.record.model_id
        for image in _images(model.folder / SPLIT_FILE, "validation"):
            other = member_of.setdefault(image, name)
            if other != name:
                raise TrainingFailed(
                    f"Expected each image in the fold of one member, but {image} is in those of "
                    f"{other} and {name}. Train all members with the same --seed."
                )


def _images(split: Path, part: str) -> set[str]:
    """Return the images of a part of a split.csv."""
    rows = read_split(split)
    return set(rows["image"][rows["split"] == part])


def _read_fold(
    model: Model,
    views: Literal[1, 8],
    dataset: Dataset,
    progress: Progress,
) -> Fold:
    """Run a member on the images that it was not trained on."""
    # Five networks in float32 would be a large download. They predict with the halved weights
    # here already, so that calibration and metrics match the stored files.
    stored = weights.halve((model.folder / WEIGHTS_FILE).read_bytes())
    member = _in_committee(model, stored, views)
    rows = read_split(model.folder / SPLIT_FILE)
    table = select(dataset.table, rows[rows["split"] == "validation"])
    [facts] = member.record.members
    # An unreadable image raises: calibration must be on all of them.
    outputs = model_outputs(member, table, named(progress, f"fold {facts.fold}"))
    return Fold(member, stored, table, outputs.view_logits)


def _write(
    folds: Sequence[Fold],
    split: Path,
    name: str,
    version: str,
    dataset: str,
    folder: Path,
) -> None:
    """Write all files of the committee into a folder, and load it once."""
    out_of_fold, record, metrics = _measure(folds, split, name, version, dataset)
    networks = _network_files(folds)
    model = Model.assemble(record, networks, folder)
    files: dict[str, str | bytes] = {
        **networks,
        SPLIT_FILE: split.read_bytes(),
        OUT_OF_FOLD_FILE: out_of_fold.csv(),
        METRICS_FILE: metrics_file.metrics_json(metrics),
        CARD_FILE: card.render(record, metrics),
        GOLDEN_FILE: golden_json(model),
    }
    write_folder(folder, record, files)
    # Loading checks the files: a folder that cannot be read must not become a model.
    Model.load(folder)


def _measure(
    folds: Sequence[Fold],
    split: Path,
    name: str,
    version: str,
    dataset: str,
) -> tuple[OutOfFold, ModelRecord, Metrics]:
    """Return the predictions of all folds, and the record and the metrics that follow from them."""
    table = pd.concat([fold.table for fold in folds], ignore_index=True)
    average = _better_average(folds, table)
    out_of_fold = _join(folds, table, average)
    fields, metrics = read_out(table, out_of_fold.logits, lesion_groups(table), dataset)
    fields["members"] = tuple(fold.member for fold in folds)
    fields["average"] = average
    fields["training"] = _training_facts(split, dataset)
    record = _record(folds[0].model.record, name, version, fields)
    backbones = [fold.member.backbone for fold in folds]
    by_fold = measure_folds(table, out_of_fold, backbones, fields)
    return out_of_fold, record, _own_metrics(metrics, record, by_fold)


def _own_metrics(
    metrics: EvaluationMetrics,
    record: ModelRecord,
    by_fold: CrossValidation,
) -> Metrics:
    """Return the content of the committee's metrics.json."""
    facts = metrics_file.model_facts(record)
    of_model = msgspec.structs.replace(metrics, model=facts)
    of_split = metrics_file.split_metrics(of_model)
    joined = metrics_file.join_splits(of_split, None)
    return msgspec.structs.replace(joined, cross_validation=by_fold)


def _join(folds: Sequence[Fold], table: pd.DataFrame, average: Average) -> OutOfFold:
    """Return the predictions of all folds; `table` has their images in the same order."""
    images = tuple(table["image"])
    numbers: list[int] = []
    for fold in folds:
        number = fold.member.fold or 0
        numbers += [number] * len(fold.table)
    return OutOfFold(
        images=images,
        folds=np.array(numbers, np.int64),
        logits=_view_averages(folds, average),
    )


def _view_averages(folds: Sequence[Fold], average: Average) -> NDArray[np.float32]:
    """Return the logits of all images of the folds, (N, 8), averaged over their views."""
    by_fold = []
    for fold in folds:
        logits = averaged(fold.view_logits, (1,), average)
        by_fold.append(logits)
    return np.concatenate(by_fold)


def _record(
    first: ModelRecord,
    name: str,
    version: str,
    fields: dict[str, Any],
) -> ModelRecord:
    """Return the record of the committee: the shared fields of its `first` member, and `fields`."""
    return ModelRecord(
        name=name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        views=first.views,
        codes=CODES,
        audit=None,
        neighbours=None,
        novelty=None,
        libraries=library_versions(),
        **{same: getattr(first, same) for same in _SAME},
        **fields,
    )


def _better_average(folds: Sequence[Fold], table: pd.DataFrame) -> Average:
    """Return what to average over the views: that of the smaller calibrated loss."""
    labels = class_numbers(table["diagnosis"])
    images = np.arange(len(labels))
    groups = lesion_groups(table).to_numpy()
    sides_px = short_sides(table)
    losses: dict[Average, float] = {}
    for average in get_args(Average):
        logits = _view_averages(folds, average)
        temperature, bias = calibration.fit(logits, labels, groups, sides_px)
        temperatures = temperature.of(sides_px)
        shares = calibration.probabilities(logits, temperatures, bias)
        # A share so small that it is 0 would have no logarithm.
        of_truth = np.maximum(shares[images, labels], 1e-12)
        loss = -np.log(of_truth).mean()
        losses[average] = float(loss)
    return min(losses, key=lambda average: losses[average])


def _network_files(folds: Sequence[Fold]) -> dict[str, bytes]:
    """Return weights and graph of each member under their names in the committee's folder."""
    files: dict[str, bytes] = {}
    for number, fold in enumerate(folds):
        graph = fold.model.folder / ONNX_FILE
        files[manifest.weights_file(number)] = fold.weights
        files[manifest.onnx_file(number)] = graph.read_bytes()
    return files


def _training_facts(split: Path, dataset: str) -> TrainingFacts:
    """Return the images and lesions of each part of the split that the members follow."""
    rows = read_split(split)
    images = {}
    lesions = {}
    for part in ("train", "validation", "test"):
        groups = rows["lesion_group"][rows["split"] == part]
        images[part] = len(groups)
        lesions[part] = int(groups.nunique())
    return TrainingFacts(
        split_sha256=manifest.file_facts(split.read_bytes()).sha256,
        images=images,
        lesions=lesions,
        dataset=dataset,
    )
