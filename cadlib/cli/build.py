"""Builds a model: trains, measures and documents it, step by step."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import typer

from cadlib.cli.build_steps import STEPS, Built, Recipe, Step, StepName, Work, read_built
from cadlib.cli.options import (
    FIRST_VERSION,
    data_option,
    flag,
    folder_option,
    new_model_option,
    version_option,
)
from cadlib.cli.settings import TrainingCommand, check_settings, training_packages, with_settings
from cadlib.cli.usage import UsageError
from cadlib.errors import CadError
from cadlib.training.config import ACROSS_RECIPE, TrainConfig

# `--help` does not wait for this import.
if TYPE_CHECKING:
    import pandas as pd

WITHOUT = ("devices", "nodes", "strategy")
"""Settings that have no option here: the steps run in one process."""
READ_IMAGES = 8
"""Images that are read to estimate how long all take."""
STEP_NAMES = ", ".join(StepName)


@dataclass(frozen=True)
class Planned:
    """A step in the plan, with the reason why it is not run; empty for one that is."""

    step: Step
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Build(TrainingCommand):
    """Runs all steps of a model that are not done yet."""

    EXAMPLE: ClassVar[str] = (
        "cadlib build --data isic2019/ --name mymodel --dry-run\n"
        "cadlib build --data isic2019/ --name mymodel\n"
        "cadlib build --data isic2019/ --name mymodel --skip across --from robustness"
    )

    data: Annotated[Path, data_option()]
    name: Annotated[str, new_model_option()]
    model_version: Annotated[str, version_option()] = FIRST_VERSION
    run_dir: Annotated[
        Path | None,
        folder_option("Folder for checkpoints and evaluations.  [default: runs/NAME]"),
    ] = None
    images: Annotated[
        int,
        typer.Option(
            help="Validation images to measure robustness and saliency maps on.", metavar="N"
        ),
    ] = 300
    from_step: Annotated[
        StepName | None,
        typer.Option(
            "--from", help=f"Run this step and all later ones again: {STEP_NAMES}.", metavar="STEP"
        ),
    ] = None
    skip: Annotated[
        list[StepName] | None,
        typer.Option(help="Leave this step out; may be given several times.", metavar="STEP"),
    ] = None
    dry_run: Annotated[bool, flag("dry-run", "Print the plan alone, and write nothing.")] = False

    @classmethod
    def constructor(cls) -> Callable[..., Self]:
        """Return the constructor that takes each training setting by itself."""
        return with_settings(cls, TrainConfig(), WITHOUT)

    def run(self) -> int:
        """Print the plan, run the steps, and return the exit code."""
        self._check()
        recipe = self._recipe()
        plan = self._plan(recipe)
        pending = [planned for planned in plan if not planned.reason]
        if not pending:
            _print_plan(recipe, plan)
            print(f"\nNothing to do: {recipe.folder} is complete.")
            return 0
        # Only now: a complete model needs no check, which imports the packages for training.
        self._check_name()
        timed = _timed(recipe, plan)
        _print_plan(recipe, timed)
        if self.dry_run:
            return 0
        for planned in timed:
            if not planned.reason:
                self._run_step(planned.step)
        print(f"\nModel complete: {recipe.folder}")
        return 0

    def _check(self) -> None:
        """Raise UsageError for options out of range."""
        check_settings(self.data, self.settings)
        if self.images < 1:
            raise UsageError(f"Expected --images from 1 but got {self.images}.")
        skipped = self.skip or []
        if StepName.TRAIN in skipped:
            raise UsageError("Expected --skip of a step after train: all others need its model.")

    def _check_name(self) -> None:
        """Raise UsageError for a name that no model can have."""
        with training_packages():
            from cadlib.training import packing
        try:
            packing.check_name(self.name, overwrite=True)
        except CadError as error:
            raise UsageError(str(error)) from error

    def _recipe(self) -> Recipe:
        from cadlib.training.monitor import runs_dir

        # Machine settings do not change the result, so the runs of `across` take the same ones.
        machine = {}
        for setting in fields(TrainConfig):
            # How often to validate is part of the recipe of `across`: after the last epoch alone.
            if setting.metadata["engine"] and setting.name != "validate_every":
                machine[setting.name] = getattr(self.settings, setting.name)
        return Recipe(
            data=self.data,
            name=self.name,
            version=self.model_version,
            run_dir=self.run_dir or runs_dir() / self.name,
            settings=self.settings,
            across=replace(ACROSS_RECIPE, **machine),
            images=self.images,
        )

    def _plan(self, recipe: Recipe) -> list[Planned]:
        """Return all steps, each with the reason why it is not run, if there is one."""
        built = read_built(recipe)
        needs_model = self.from_step not in (None, StepName.TRAIN)
        if built is None and needs_model:
            raise UsageError(
                f"Expected a model in {recipe.folder} for --from {self.from_step}, "
                "but there is none. Leave --from out to train it."
            )
        plan: list[Planned] = []
        for step_type in STEPS:
            is_repeated = self._is_repeated(step_type.name)
            step = step_type(recipe, is_repeated)
            reason = self._reason(step, built, plan)
            plan.append(Planned(step, reason))
        return plan

    def _is_repeated(self, name: StepName) -> bool:
        """Return whether --from asks for this step, whether it is done or not."""
        if self.from_step is None:
            return False
        order = list(StepName)
        first = order.index(self.from_step)
        return order.index(name) >= first

    def _reason(self, step: Step, built: Built | None, plan: Sequence[Planned]) -> str:
        """Return why a step is not run, or nothing; `plan` has the steps before it."""
        skipped = self.skip or []
        if step.name in skipped:
            return "skipped"
        # The test split leads metrics.json only after its own step.
        if step.name == StepName.CASES and StepName.TEST in skipped:
            return "needs the step test"
        # Before the check of results: a repeated step is run although it is done.
        if step.again:
            return ""
        if self.from_step:
            return "before --from"
        return "done" if _is_done(step, built, plan) else ""

    def _run_step(self, step: Step) -> None:
        """Run a step; raise CadError with the command to go on where it fails."""
        # An earlier step may have done it: `index` after `test` measures the test split itself.
        if not step.again and _is_done(step, read_built(step.recipe), []):
            return
        print(f"\n== {step.name}: {step.summary}", flush=True)
        command = self._continuing()
        try:
            code = step.run()
        except CadError as error:
            # The commands recommend their own option.
            reason = str(error).replace("--overwrite", f"--from {step.name}")
            raise CadError(
                f"Step {step.name} failed: {reason}\nWhen this is solved, go on with: {command}"
            ) from error
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"Stopped in step {step.name}. Go on with: {command}") from stop
        # Some commands end with 1 although their result is saved, as for an unreadable image.
        if code and not _is_done(step, read_built(step.recipe), []):
            raise CadError(
                f"Step {step.name} failed; the reason is printed above.\n"
                f"When this is solved, go on with: {command}"
            )

    def _continuing(self) -> str:
        """Return the command that continues this build."""
        words = ["python", "-m", "cadlib", "build"]
        words += ["--data", str(self.data), "--name", self.name]
        # Only what differs from the default, so that the command stays short.
        if self.model_version != FIRST_VERSION:
            words += ["--model-version", self.model_version]
        if self.run_dir:
            words += ["--run-dir", str(self.run_dir)]
        if self.images != Build.images:
            words += ["--images", str(self.images)]
        for name in self.skip or []:
            words += ["--skip", name]
        for setting in fields(self.settings):
            value = getattr(self.settings, setting.name)
            if value != setting.default:
                words += _setting_words(setting.name, value)
        return shlex.join(words)


def _setting_words(name: str, value: object) -> list[str]:
    """Return the words of a command line for a setting."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", str(value)]


def _is_done(step: Step, built: Built | None, plan: Sequence[Planned]) -> bool:
    """Return whether a step is done, where `plan` has the steps before it.

    Nothing is done for a model that is to be trained: every result belongs to its weights.
    """
    pending = {planned.step.name for planned in plan if not planned.reason}
    will_train = StepName.TRAIN in pending
    if built is None or will_train:
        return False
    return step.is_done(built)


def _timed(recipe: Recipe, plan: Sequence[Planned]) -> list[Planned]:
    """Return the plan with estimated times, and without steps that the data set does not allow."""
    work = _work(recipe)
    timed = []
    for planned in plan:
        # Without its only archive, nothing would be left to train on.
        if planned.step.name == StepName.ACROSS and not planned.reason and work.n_archives < 2:
            timed.append(replace(planned, reason="needs two archives"))
        elif planned.reason:
            timed.append(planned)
        else:
            seconds = planned.step.seconds(work)
            timed.append(replace(planned, seconds=seconds))
    return timed


def _work(recipe: Recipe) -> Work:
    """Count the images, and time the networks and the reading of some files."""
    from cadlib.training.speed import measure_reading, measure_speed

    table = _labelled_images(recipe)
    n_images = len(table)
    n_validation = round(recipe.settings.validation * n_images)
    n_test = round(recipe.settings.test * n_images)
    # Spread over the whole table, because image sizes differ between archives.
    spread = max(n_images // READ_IMAGES, 1)
    sample = table["path"].iloc[::spread].tolist()
    return Work(
        n_train=n_images - n_validation - n_test,
        n_validation=n_validation,
        n_test=n_test,
        n_archives=table["archive"].nunique(),
        read_s=measure_reading(sample[:READ_IMAGES]),
        speed=measure_speed(recipe.settings),
        across_speed=measure_speed(recipe.across),
    )


def _labelled_images(recipe: Recipe) -> "pd.DataFrame":
    """Return the images with a diagnosis, of the subset if the settings name one."""
    from cadlib.data.dataset import open_dataset
    from cadlib.data.subsets import read_subset
    from cadlib.progress import ProgressBars
    from cadlib.taxonomy import CODES

    with ProgressBars() as progress:
        table = open_dataset(recipe.data, verify=False, progress=progress).table
    labelled = table[table["diagnosis"].isin(CODES)]
    if not recipe.settings.subset:
        return labelled
    subset = read_subset(recipe.settings.subset)
    return labelled[labelled["image"].isin(subset.images)]


def _print_plan(recipe: Recipe, plan: Sequence[Planned]) -> None:
    """Print a line for each step, with its estimated time."""
    total = sum(planned.seconds for planned in plan)
    print(f"Plan for {recipe.folder}")
    for number, planned in enumerate(plan, start=1):
        status = planned.reason or f"about {duration(planned.seconds)}"
        print(f"{number:3} {planned.step.name:<11}{planned.step.summary:<70}{status}")
    if total:
        print(
            f"About {duration(total)} in all, if nothing else runs. The networks and the reading "
            f"of {READ_IMAGES} images were timed on this machine."
        )


def duration(seconds: float) -> str:
    """Return a time in words, in hours, minutes or seconds.

    Example:
        >>> duration(5400)
        '1 h 30 min'

    """
    if seconds < 90:
        # Never 0 s, which would look like a step that is not run.
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    minutes_left = minutes % 60
    return f"{hours} h {minutes_left} min"
