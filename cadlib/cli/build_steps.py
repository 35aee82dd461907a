"""Defines the steps of `build`, from training to the card.

The order follows from what a step needs and overwrites:

- `train` also fits calibration, thresholds and prediction sets, so `calibrate` is no step. It
  writes a new folder: every other result belongs to its weights.
- `audit` comes next. Metrics of a split that leaks mean nothing.
- `index`, `robustness`, `saliency` and `across` read training and validation images alone.
- `validation` and `test` evaluate the packed model. The test split is read once, after everything
  that could still be changed.
- `cases` measures similar cases and novelty detector on the test split: `index` reports on the
  split that leads metrics.json, and that is the test split only now.

Each step runs the command of its name, with the result saved in the model.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cadlib.cli.across import Across
from cadlib.cli.audit import Audit
from cadlib.cli.command import CliCommand
from cadlib.cli.evaluate import Evaluate
from cadlib.cli.index import Index
from cadlib.cli.model import Verify
from cadlib.cli.options import SplitName
from cadlib.cli.robustness import Robustness
from cadlib.cli.saliency import Saliency
from cadlib.cli.split_sample import SampleCommand
from cadlib.cli.train import Train
from cadlib.cli.usage import UsageError
from cadlib.errors import ModelInvalid
from cadlib.training.config import TrainConfig

# `--help` does not wait for these imports.
if TYPE_CHECKING:
    from cadlib.metrics.conditions_schema import Robustness as RobustnessMetrics
    from cadlib.metrics.conditions_schema import SaliencyMetrics
    from cadlib.model.metrics_file import Metrics
    from cadlib.model.record import ModelRecord
    from cadlib.training.speed import Speed

_VERIFY_S = 3.0
_GOLDEN_IMAGES = 12
_RESTART_FILE = "training-again"
"""File in the folder of a run that replaces a finished model, until its training is finished."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The model to build: its data set, its name, and all settings."""

    data: Path
    name: str
    version: str
    run_dir: Path
    settings: TrainConfig
    across: TrainConfig
    images: int
    """Images of the validation split for `robustness` and `saliency`."""
    members: tuple["Recipe", ...] = ()
    """The networks of a committee, by their folds; empty for a model of one network."""
    views: Literal[1, 8] = 8
    prefix: str = ""
    """Start of the names of the steps, where a build has several models."""

    @property
    def folder(self) -> Path:
        """Return the folder of the model."""
        from cadlib.model.record import models_dir

        return models_dir() / self.name

    def evaluation_dir(self, split: str) -> Path:
        """Return the folder for predictions and metrics of a split."""
        return self.run_dir / "evaluation" / split


@dataclass(frozen=True)
class Built:
    """A model folder as it is now; `metrics` is None where it has none."""

    record: "ModelRecord"
    metrics: "Metrics | None"

    @property
    def thresholds(self) -> list[float]:
        """Return the thresholds of the operating points."""
        return [point.threshold for point in self.record.operating_points]


@dataclass(frozen=True, kw_only=True)
class Work:
    """The sizes and speeds that the time of a step follows from.

    `read_s` is the time to read an image file, in seconds.
    """

    n_train: int
    n_validation: int
    n_test: int
    n_archives: int
    read_s: float
    speed: "Speed"
    across_speed: "Speed"

    @property
    def n_images(self) -> int:
        """Return the number of images of all parts."""
        return self.n_train + self.n_validation + self.n_test


def read_built(recipe: Recipe) -> Built | None:
    """Return the model of a recipe, or None where there is none; raise ModelInvalid if damaged."""
    from cadlib.model import metrics_file
    from cadlib.model.record import RECORD_FILE, read_record

    if not (recipe.folder / RECORD_FILE).is_file():
        return None
    record = read_record(recipe.folder)
    return Built(record, metrics_file.read(recipe.folder, record.name))


class StepName(StrEnum):
    """The steps, as a person names them."""

    TRAIN = "train"
    AUDIT = "audit"
    INDEX = "index"
    ROBUSTNESS = "robustness"
    SALIENCY = "saliency"
    ACROSS = "across"
    VALIDATION = "validation"
    TEST = "test"
    CASES = "cases"
    CARD = "card"


@dataclass(frozen=True)
class Step(ABC):
    """A step of a build; with `again` it repeats what is done, and continues no earlier run."""

    recipe: Recipe
    again: bool = False

    name: ClassVar[str]
    summary: ClassVar[str]
    makes_model: ClassVar[bool] = False
    """Whether this step writes the model that later steps read."""
    product: ClassVar[str] = "model"
    """What other steps may need of this one, in a message."""

    @property
    def label(self) -> str:
        """Return the name of the step in the plan, different for all steps of a build."""
        return f"{self.recipe.prefix}{self.name}"

    @property
    def place(self) -> Path:
        """Return the folder or the file of `product`."""
        return self.recipe.folder

    def has_result(self, built: Built | None) -> bool:
        """Return whether `product` is there; `built` is the model of the recipe, if any."""
        return built is not None

    def is_complete(self, built: Built | None) -> bool:
        """Return whether the result of this step is there; `built` is its model, if any."""
        return built is not None and self.is_done(built)

    def needs(self, other: "Step") -> bool:
        """Return whether this step cannot be run without the result of an earlier one."""
        return other.makes_model and other.recipe.name == self.recipe.name

    def builds_on(self, other: "Step") -> bool:
        """Return whether this step has to be repeated after an earlier one."""
        return other.makes_model

    @abstractmethod
    def is_done(self, built: Built) -> bool:
        """Return whether the model has the result of this step, for its weights and thresholds."""

    @abstractmethod
    def seconds(self, work: Work) -> float:
        """Return an estimate of the time that the step takes."""

    @abstractmethod
    def command(self) -> CliCommand:
        """Return the command of the step."""

    def run(self) -> int:
        """Run the step and return the exit code of its command."""
        return self.command().run()


@dataclass(frozen=True)
class TrainStep(Step):
    """Trains the network and packs it as a model."""

    name: ClassVar[StepName] = StepName.TRAIN
    summary: ClassVar[str] = "Train the network; fit calibration, thresholds and prediction sets."
    makes_model: ClassVar[bool] = True

    def is_done(self, built: Built) -> bool:
        """Return whether the model was trained; raise UsageError if with other settings."""
        if (self.recipe.run_dir / _RESTART_FILE).exists():
            return False
        # Such a model is trained again, whatever its settings were.
        if not self._has_present_teacher(built):
            return False
        differences = _differences(self.recipe, built.record)
        if differences:
            raise UsageError(
                f"There is a model in {self.recipe.folder} with {'; '.join(differences)}. "
                f"Choose another --name, or train it again with --from {self.label}."
            )
        return True

    def needs(self, other: Step) -> bool:
        """Return whether this step needs an earlier one: that which makes its teacher."""
        return other.makes_model and other.recipe.name == self.recipe.settings.teacher

    def _has_present_teacher(self, built: Built) -> bool:
        """Return whether the teacher still gives the soft targets that the model was trained on."""
        teacher = self.recipe.settings.teacher
        if not teacher:
            return True
        from cadlib.model.manifest import read_manifest
        from cadlib.model.record import OUT_OF_FOLD_FILE, find_model

        try:
            folder = find_model(teacher)
        except ModelInvalid:
            # It was needed for the training alone, and may be removed after that.
            return True
        listed = read_manifest(folder)
        facts = listed.files.get(OUT_OF_FOLD_FILE)
        saved = built.record.members[0].run.config.get("teacher_predictions")
        return facts is not None and facts.sha256 == saved

    def seconds(self, work: Work) -> float:
        """Return the time of all epochs, with reading every image once."""
        settings = self.recipe.settings
        epochs = settings.epochs
        training = epochs * work.n_train * work.speed.train_s
        n_validations = math.ceil(epochs / settings.validate_every)
        validating = n_validations * work.n_validation * work.speed.predict_s
        reading = work.n_images * work.read_s
        return training + validating + reading

    def command(self) -> CliCommand:
        """Return the command, which continues from a checkpoint where there is one."""
        from cadlib.training.run import CHECKPOINT_FILE

        has_checkpoint = (self.recipe.run_dir / CHECKPOINT_FILE).exists()
        return Train(
            data=self.recipe.data,
            name=self.recipe.name,
            model_version=self.recipe.version,
            run_dir=self.recipe.run_dir,
            settings=self.recipe.settings,
            # A repeated training starts from the beginning.
            resume=has_checkpoint and not self.again,
            overwrite=self.recipe.folder.exists() or self.again,
        )

    def run(self) -> int:
        """Run the step and return the exit code of its command."""
        from cadlib.training.run import CHECKPOINT_FILE

        built = read_built(self.recipe)
        # The run of a finished model with a former teacher cannot be continued.
        if not self.again and built is not None and not self._has_present_teacher(built):
            return replace(self, again=True).run()
        restart_file = self.recipe.run_dir / _RESTART_FILE
        if self.again:
            # The old model stays until the new one is written. The file marks it as outdated, and
            # without the old checkpoint an interrupted training cannot continue the wrong run.
            self.recipe.run_dir.mkdir(parents=True, exist_ok=True)
            restart_file.touch()
            (self.recipe.run_dir / CHECKPOINT_FILE).unlink(missing_ok=True)
        code = self.command().run()
        if code == 0:
            restart_file.unlink(missing_ok=True)
        return code


@dataclass(frozen=True)
class AuditStep(Step):
    """Searches the split for leaks."""

    name: ClassVar[StepName] = StepName.AUDIT
    summary: ClassVar[str] = "Search the split for images and lesions in two parts; stop if any."

    def is_done(self, built: Built) -> bool:
        """Return whether this split was audited and does not leak."""
        audit = built.record.audit
        if audit is None or audit.leaks:
            return False
        return audit.split_sha256 == built.record.training.split_sha256

    def seconds(self, work: Work) -> float:
        """Return the time to read and predict every image."""
        return work.n_images * (work.read_s + work.speed.predict_s)

    def command(self) -> CliCommand:
        """Return the command."""
        return Audit(data=self.recipe.data, model=self.recipe.name, into_model=True)


@dataclass(frozen=True)
class IndexStep(Step):
    """Fits similar cases and the novelty detector."""

    name: ClassVar[StepName] = StepName.INDEX
    summary: ClassVar[str] = "Fit similar cases and the novelty detector on training images."

    def is_done(self, built: Built) -> bool:
        """Return whether both are part of the model and measured."""
        record = built.record
        is_fitted = record.neighbours is not None and record.novelty is not None
        metrics = built.metrics
        is_measured = bool(metrics and metrics.neighbours and metrics.novelty)
        return is_fitted and is_measured

    def seconds(self, work: Work) -> float:
        """Return the time to read every image; its features are in the cache after the audit."""
        return work.n_images * work.read_s

    def command(self) -> CliCommand:
        """Return the command."""
        return Index(data=self.recipe.data, model=self.recipe.name)


@dataclass(frozen=True)
class SampleStep(Step):
    """Measures the model on a sample of its validation images."""

    measurement: ClassVar[type[SampleCommand[Any]]]
    predictions: ClassVar[int]
    """Predictions of an image that take as long as its measurement."""

    def is_done(self, built: Built) -> bool:
        """Return whether so many images were measured with these weights."""
        if built.metrics is None:
            return False
        measured: RobustnessMetrics | SaliencyMetrics | None
        measured = getattr(built.metrics, self.measurement.KEY)
        if measured is None:
            return False
        # An image that could not be read was part of the sample, too.
        n_images = measured.n + len(measured.rejected)
        return (
            measured.model.weights_sha256 == built.record.weights_sha256
            and measured.data.split == "validation"
            and measured.sample.seed == 0
            and n_images == min(self.recipe.images, measured.sample.of)
        )

    def seconds(self, work: Work) -> float:
        """Return the time to measure the sample."""
        n_images = min(self.recipe.images, work.n_validation)
        return n_images * self.predictions * work.speed.predict_s

    def command(self) -> CliCommand:
        """Return the command."""
        return self.measurement(
            data=self.recipe.data,
            model=self.recipe.name,
            images=self.recipe.images,
            into_model=True,
        )


@dataclass(frozen=True)
class RobustnessStep(SampleStep):
    """Measures damaged and rotated images."""

    name: ClassVar[StepName] = StepName.ROBUSTNESS
    summary: ClassVar[str] = "Measure degraded and rotated validation images."
    measurement: ClassVar[type[SampleCommand[Any]]] = Robustness
    # 83 variants, and the time to damage.
    predictions: ClassVar[int] = 110


@dataclass(frozen=True)
class SaliencyStep(SampleStep):
    """Measures saliency maps."""

    name: ClassVar[StepName] = StepName.SALIENCY
    summary: ClassVar[str] = "Measure how reliable the saliency maps of validation images are."
    measurement: ClassVar[type[SampleCommand[Any]]] = Saliency
    # 125 predictions, and gradients of eight views.
    predictions: ClassVar[int] = 170


@dataclass(frozen=True)
class AcrossStep(Step):
    """Measures what training loses on an unseen archive."""

    name: ClassVar[StepName] = StepName.ACROSS
    summary: ClassVar[str] = "Train small networks without each archive, and compare them."

    def is_done(self, built: Built) -> bool:
        """Return whether the runs had this recipe."""
        measured = built.metrics.across_archives if built.metrics else None
        if measured is None:
            return False
        # An earlier result stays only if a run today would have the same settings.
        recipes_differ = _differing(self.recipe.across, measured.recipe)
        return measured.data == _data_name(self.recipe) and not recipes_differ

    def seconds(self, work: Work) -> float:
        """Return the time of a run with all archives and of one without each."""
        n_runs = work.n_archives + 1
        n_steps_images = self.recipe.across.epochs * work.n_train
        return n_runs * n_steps_images * work.across_speed.train_s

    def command(self) -> CliCommand:
        """Return the command, which continues runs that were stopped."""
        return Across(
            data=self.recipe.data,
            run_dir=self.recipe.run_dir / "across",
            into_model=self.recipe.name,
            settings=self.recipe.across,
            resume=not self.again,
            overwrite=self.again,
        )


@dataclass(frozen=True)
class EvaluateStep(Step):
    """Evaluates the packed model on a part of its split."""

    split: ClassVar[SplitName]

    def is_done(self, built: Built) -> bool:
        """Return whether predictions and metrics are of these weights and thresholds."""
        return _is_measured(self.split, built) and _is_written(self.split, self.recipe, built)

    def command(self) -> CliCommand:
        """Return the command."""
        return Evaluate(
            data=self.recipe.data,
            model=self.recipe.name,
            split=self.split,
            into_model=True,
            output=self.recipe.evaluation_dir(self.split),
        )


@dataclass(frozen=True)
class ValidationStep(EvaluateStep):
    """Evaluates on the validation split."""

    name: ClassVar[StepName] = StepName.VALIDATION
    summary: ClassVar[str] = "Evaluate the model on its validation split."
    split: ClassVar[SplitName] = "validation"

    def seconds(self, work: Work) -> float:
        """Return the time to read and predict the images."""
        return work.n_validation * (work.read_s + work.speed.predict_s)


@dataclass(frozen=True)
class FinalTestStep(EvaluateStep):
    """Evaluates on the test split."""

    name: ClassVar[StepName] = StepName.TEST
    summary: ClassVar[str] = "Evaluate the model on its test split, for the first time."
    split: ClassVar[SplitName] = "test"

    def seconds(self, work: Work) -> float:
        """Return the time to read and predict the images."""
        return work.n_test * (work.read_s + work.speed.predict_s)


@dataclass(frozen=True)
class CasesStep(IndexStep):
    """Measures similar cases and the novelty detector on the test split."""

    name: ClassVar[StepName] = StepName.CASES
    summary: ClassVar[str] = "Measure similar cases and the novelty detector on the test split."

    def is_done(self, built: Built) -> bool:
        """Return whether both were measured on the test split."""
        metrics = built.metrics
        if metrics is None or metrics.neighbours is None or metrics.novelty is None:
            return False
        return metrics.neighbours.data.split == "test" and metrics.novelty.split == "test"


@dataclass(frozen=True)
class CardStep(Step):
    """Writes the card, and checks the folder."""

    name: ClassVar[StepName] = StepName.CARD
    summary: ClassVar[str] = "Write the model card, and compare the folder with its manifest."

    def is_done(self, built: Built) -> bool:
        """Return whether the card follows from the metrics."""
        from cadlib.model import card
        from cadlib.model.record import CARD_FILE, read_checked

        if built.metrics is None:
            return False
        text = card.render(built.record, built.metrics)
        return read_checked(self.recipe.folder, CARD_FILE) == text.encode()

    def seconds(self, work: Work) -> float:
        """Return the time to compare the golden results."""
        return _VERIFY_S + _GOLDEN_IMAGES * work.speed.predict_s

    def command(self) -> CliCommand:
        """Return the command that checks the folder."""
        return Verify(model=self.recipe.name)

    def run(self) -> int:
        """Run the step and return the exit code of its command."""
        from cadlib.model import metrics_file

        built = read_built(self.recipe)
        if built is not None:
            metrics = metrics_file.measured(self.recipe.folder, built.record)
            metrics_file.rewrite(self.recipe.folder, built.record, metrics)
        return self.command().run()


MEASURING_STEPS: tuple[type[Step], ...] = (
    AuditStep,
    IndexStep,
    RobustnessStep,
    SaliencyStep,
    AcrossStep,
    ValidationStep,
    FinalTestStep,
    CasesStep,
    CardStep,
)
"""All steps of a trained or packed model in their order."""
STEPS: tuple[type[Step], ...] = (TrainStep, *MEASURING_STEPS)
"""All steps of a model of one network in their order."""


def _data_name(recipe: Recipe) -> str:
    """Return the name of the data set, which is that of its folder."""
    return recipe.data.resolve().name


def _differences(recipe: Recipe, record: "ModelRecord") -> list[str]:
    """Return how the model on disk differs from the recipe, a text for each setting."""
    differences = _differing(recipe.settings, record.members[0].run.config)
    if record.version != recipe.version:
        differences.append(f"version {record.version}, not {recipe.version}")
    # The name of a subset follows after that of its data set.
    data_name = record.training.dataset.partition(", subset ")[0]
    if data_name != _data_name(recipe):
        differences.append(f"data set {data_name}, not {_data_name(recipe)}")
    return differences


def _differing(settings: TrainConfig, saved: "dict[str, Any]") -> list[str]:
    """Return a text for each setting that decides the result and was another one."""
    defaults = {setting.name: setting.default for setting in fields(TrainConfig)}
    differences = []
    for name, value in settings.recipe().items():
        # An earlier version did not have every setting, and used what is the default now.
        saved_value = saved.get(name, defaults[name])
        if saved_value != value:
            differences.append(f"{name} {saved_value!r}, not {value!r}")
    return differences


def _is_measured(split: SplitName, built: Built) -> bool:
    """Return whether the model's metrics.json has the metrics of a split."""
    metrics = built.metrics
    if metrics is None:
        return False
    if metrics.data.split == split:
        return True
    # Metrics of the test split lead the file; those of the validation split then lie below them.
    return metrics.validation is not None and split == "validation"


def _is_written(split: SplitName, recipe: Recipe, built: Built) -> bool:
    """Return whether the written evaluation is of the present weights and thresholds."""
    import msgspec

    from cadlib.model.record import METRICS_FILE

    # Only the fields to compare: msgspec ignores all others.
    class Model(msgspec.Struct):
        weights_sha256: str

    class Point(msgspec.Struct):
        threshold: float

    class Written(msgspec.Struct):
        model: Model
        operating_points: list[Point]

    try:
        content = (recipe.evaluation_dir(split) / METRICS_FILE).read_bytes()
        written = msgspec.json.decode(content, type=Written)
    except (OSError, msgspec.DecodeError):
        # Missing or damaged: the evaluation is repeated.
        return False
    thresholds = [point.threshold for point in written.operating_points]
    same_weights = written.model.weights_sha256 == built.record.weights_sha256
    return same_weights and thresholds == built.thresholds
