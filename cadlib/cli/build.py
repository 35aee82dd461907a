"""Builds a model: trains, measures and documents it, step by step."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import typer

from cadlib.cli.build_steps import STEPS, Built, Recipe, Step, StepName, Work, read_built
from cadlib.cli.committee_steps import (
    check_inputs,
    committee_recipe,
    committee_steps,
    new_split_file,
)
from cadlib.cli.options import (
    FIRST_VERSION,
    data_option,
    file_option,
    flag,
    folder_option,
    new_model_option,
    version_option,
)
from cadlib.cli.settings import (
    OF_SEVERAL_PROCESSES,
    TrainingCommand,
    check_settings,
    training_packages,
    with_settings,
)
from cadlib.cli.usage import UsageError
from cadlib.errors import CadError
from cadlib.training.config import ACROSS_RECIPE, TrainConfig

# `--help` does not wait for this import.
if TYPE_CHECKING:
    import pandas as pd

    from cadlib.training.speed import Speed

READ_IMAGES = 8
"""Images that are read to estimate how long all take."""
STEP_NAMES = ", ".join(StepName)


def step_names() -> list[str]:
    """Return the names of the steps of a model of one network, for a shell to complete."""
    return [name.value for name in StepName]


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
        "cadlib build --data isic2019/ --name mymodel --skip across --from robustness\n"
        "cadlib build --data isic2019/ --name mymodel --recipe committee.toml"
    )

    data: Annotated[Path, data_option()]
    name: Annotated[str, new_model_option()]
    model_version: Annotated[str, version_option()] = FIRST_VERSION
    run_dir: Annotated[
        Path | None,
        folder_option("Folder for checkpoints and evaluations.  [default: runs/NAME]"),
    ] = None
    recipe: Annotated[
        Path | None,
        file_option("Recipe of several networks, in TOML; it has their settings."),
    ] = None
    images: Annotated[
        int,
        typer.Option(
            help="Validation images to measure robustness and saliency maps on.", metavar="N"
        ),
    ] = 300
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from",
            help=f"Run this step and all later ones again: {STEP_NAMES}.",
            metavar="STEP",
            autocompletion=step_names,
        ),
    ] = None
    skip: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave this step out; may be given several times.",
            metavar="STEP",
            autocompletion=step_names,
        ),
    ] = None
    dry_run: Annotated[bool, flag("dry-run", "Print the plan alone, and write nothing.")] = False

    @classmethod
    def constructor(cls) -> Callable[..., Self]:
        """Return the constructor that takes each training setting by itself."""
        return with_settings(cls, TrainConfig(), OF_SEVERAL_PROCESSES)

    def run(self) -> int:
        """Print the plan, run the steps, and return the exit code."""
        check_settings(self.data, self.settings)
        if self.images < 1:
            raise UsageError(f"Expected --images from 1 but got {self.images}.")
        recipe, steps = self._steps()
        self._check_names(steps)
        plan = self._plan(steps)
        pending = [planned for planned in plan if not planned.reason]
        if not pending:
            _print_plan(recipe, plan)
            print(f"\nNothing to do: {recipe.folder} is complete.")
            return 0
        # Only now: a complete model needs no check, which imports the packages for training.
        self._check_name()
        if recipe.members:
            check_inputs(recipe)
        timed = _timed(plan)
        _print_plan(recipe, timed)
        if self.dry_run:
            return 0
        for planned in timed:
            if not planned.reason:
                self._run_step(planned.step)
        print(f"\nModel complete: {recipe.folder}")
        return 0

    def _steps(self) -> tuple[Recipe, list[Step]]:
        """Return the model to build, and all steps.

        Raise UsageError for a recipe file that does not fit.
        """
        recipe = self._recipe()
        if self.recipe is None:
            return recipe, [step_type(recipe) for step_type in STEPS]
        from cadlib.cli.recipe_file import read_recipe_file

        changed = _changed_settings(self.settings)
        if changed:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise UsageError(
                f"Expected no {options} together with --recipe: "
                f"the settings of the networks are those in {self.recipe}."
            )
        file = read_recipe_file(self.recipe, self.name, new_split_file(recipe.run_dir))
        # Its members share a subset.
        check_settings(self.data, file.member[0])
        committee = committee_recipe(file, recipe, _across_settings)
        return committee, committee_steps(file, committee)

    def _check_names(self, steps: Sequence[Step]) -> None:
        """Raise UsageError for an unknown step, and for one that must not be skipped."""
        if self.from_step is not None:
            _check_label("--from", self.from_step, steps)
        skipped = self.skip or []
        for name in skipped:
            _check_label("--skip", name, steps)
        for step in steps:
            is_needed = any(other.needs(step) for other in steps)
            if is_needed and step.label in skipped:
                raise UsageError(
                    f"Expected --skip of a step after {step.label}: "
                    f"all others need its {step.product}."
                )

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

        return Recipe(
            data=self.data,
            name=self.name,
            version=self.model_version,
            run_dir=self.run_dir or runs_dir() / self.name,
            settings=self.settings,
            across=_across_settings(self.settings),
            images=self.images,
        )

    def _plan(self, steps: Sequence[Step]) -> list[Planned]:
        """Return all steps, each with the reason why it is not run, if there is one."""
        # Without --from, no step is repeated.
        first = len(steps)
        if self.from_step:
            labels = [step.label for step in steps]
            first = labels.index(self.from_step)
        before = steps[:first]
        repeated = [replace(step, again=True) for step in steps[first:]]
        self._check_results(before, repeated)
        plan: list[Planned] = []
        for step in (*before, *repeated):
            reason = self._reason(step, plan)
            plan.append(Planned(step, reason))
        return plan

    def _check_results(self, before: Sequence[Step], repeated: Sequence[Step]) -> None:
        """Raise UsageError where a step from --from on needs a result that is not there."""
        for step in before:
            is_needed = any(later.needs(step) for later in repeated)
            if is_needed and not step.has_result(read_built(step.recipe)):
                raise UsageError(
                    f"Expected a {step.product} in {step.place} for --from {self.from_step}, "
                    "but there is none. Leave --from out to build it."
                )

    def _reason(self, step: Step, plan: Sequence[Planned]) -> str:
        """Return why a step is not run, or nothing; `plan` has the steps before it."""
        skipped = self.skip or []
        if step.label in skipped:
            return "skipped"
        # The test split leads metrics.json only after its own step.
        test_label = f"{step.recipe.prefix}{StepName.TEST}"
        if step.name == StepName.CASES and test_label in skipped:
            return "needs the step test"
        # Before the check of results: a repeated step is run although it is done.
        if step.again:
            return ""
        if self.from_step:
            return "before --from"
        return "done" if _is_done(step, read_built(step.recipe), plan) else ""

    def _run_step(self, step: Step) -> None:
        """Run a step; raise CadError with the command to go on where it fails."""
        # An earlier step may have done it: `index` after `test` measures the test split itself.
        if not step.again and step.is_complete(read_built(step.recipe)):
            return
        print(f"\n== {step.label}: {step.summary}", flush=True)
        command = self._continuing()
        try:
            code = step.run()
        except CadError as error:
            # The commands recommend their own option.
            reason = str(error).replace("--overwrite", f"--from {step.label}")
            raise CadError(
                f"Step {step.label} failed: {reason}\nWhen this is solved, go on with: {command}"
            ) from error
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"Stopped in step {step.label}. Go on with: {command}"
            ) from stop
        # Some commands end with 1 although their result is saved, as for an unreadable image.
        if code and not step.is_complete(read_built(step.recipe)):
            raise CadError(
                f"Step {step.label} failed; the reason is printed above.\n"
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
        if self.recipe:
            words += ["--recipe", str(self.recipe)]
        if self.images != Build.images:
            words += ["--images", str(self.images)]
        for name in self.skip or []:
            words += ["--skip", name]
        for name in _changed_settings(self.settings):
            value = getattr(self.settings, name)
            words += _setting_words(name, value)
        return shlex.join(words)


def _check_label(option: str, name: str, steps: Sequence[Step]) -> None:
    """Raise UsageError where no step has the name that was given with an option."""
    labels = [step.label for step in steps]
    if name in labels:
        return
    names = ", ".join(labels)
    raise UsageError(f"Expected {option} to be one of {names} but got {name!r}.")


def _changed_settings(settings: TrainConfig) -> list[str]:
    """Return the names of the settings that differ from their default."""
    names = []
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if value != setting.default:
            names.append(setting.name)
    return names


def _across_settings(settings: TrainConfig) -> TrainConfig:
    """Return the settings of `across` for a model that is trained with `settings`."""
    # Machine settings do not change the result, so the runs of `across` take the same ones.
    machine = {}
    for setting in fields(TrainConfig):
        # How often to validate is part of the recipe of `across`: after the last epoch alone.
        if setting.metadata["engine"] and setting.name != "validate_every":
            machine[setting.name] = getattr(settings, setting.name)
    return replace(ACROSS_RECIPE, **machine)


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
    for planned in plan:
        is_pending = not planned.reason
        if is_pending and step.builds_on(planned.step):
            return False
    return step.is_complete(built)


@dataclass(frozen=True)
class Images:
    """The labelled images of a data set, and the time to read one, in seconds."""

    table: "pd.DataFrame"
    read_s: float


def _timed(plan: Sequence[Planned]) -> list[Planned]:
    """Return the plan with estimated times, and without steps that the data set does not allow."""
    # A plan is timed only if there is something to do.
    first = next(planned.step for planned in plan if not planned.reason)
    images = _read_images(first.recipe)
    works: dict[str, Work] = {}
    timed = []
    for planned in plan:
        if planned.reason:
            timed.append(planned)
            continue
        recipe = planned.step.recipe
        if recipe.name not in works:
            works[recipe.name] = _work(recipe, images)
        timed_step = _timed_step(planned, works[recipe.name])
        timed.append(timed_step)
    return timed


def _timed_step(planned: Planned, work: Work) -> Planned:
    """Return a step with its estimated time, or with the reason why the data set excludes it."""
    # Without its only archive, nothing would be left to train on.
    if planned.step.name == StepName.ACROSS and work.n_archives < 2:
        return replace(planned, reason="needs two archives")
    seconds = planned.step.seconds(work)
    return replace(planned, seconds=seconds)


def _read_images(recipe: Recipe) -> Images:
    """Read the table of images, and time the reading of some files."""
    from cadlib.training.speed import measure_reading

    table = _labelled_images(recipe)
    # Spread over the whole table, because image sizes differ between archives.
    spread = max(len(table) // READ_IMAGES, 1)
    paths = table["path"].iloc[::spread].tolist()
    read_s = measure_reading(paths[:READ_IMAGES])
    return Images(table, read_s)


def _work(recipe: Recipe, images: Images) -> Work:
    """Count the images of a model, and time its networks."""
    settings = recipe.settings
    n_images = len(images.table)
    n_test = round(settings.test * n_images)
    n_validation = round(settings.validation * n_images)
    if settings.folds:
        n_validation = (n_images - n_test) // settings.folds
    return Work(
        n_train=n_images - n_validation - n_test,
        n_validation=n_validation,
        n_test=n_test,
        n_archives=images.table["archive"].nunique(),
        read_s=images.read_s,
        speed=_speed(recipe),
        across_speed=_network_speed(recipe.across),
    )


def _speed(recipe: Recipe) -> "Speed":
    """Return the speed of a model: that of its network, or of all networks of a committee."""
    from cadlib.training.speed import Speed

    speed = _network_speed(recipe.settings)
    if not recipe.members:
        return speed
    predict_s = 0.0
    for member in recipe.members:
        predict_s += _network_speed(member.settings).predict_s
    return Speed(speed.train_s, predict_s)


def _network_speed(settings: TrainConfig) -> "Speed":
    """Return the speed of a network; networks of one kind are timed once."""
    # Only these settings decide it.
    return _measured_speed(
        TrainConfig(
            backbone=settings.backbone,
            input_px=settings.input_px,
            first_px=settings.first_px,
            last_px=settings.last_px,
            accelerator=settings.accelerator,
        )
    )


@cache
def _measured_speed(settings: TrainConfig) -> "Speed":
    from cadlib.training.speed import measure_speed

    return measure_speed(settings)


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
    width = max(len(planned.step.label) for planned in plan) + 1
    for number, planned in enumerate(plan, start=1):
        step = planned.step
        status = planned.reason or f"about {duration(planned.seconds)}"
        print(f"{number:3} {step.label:<{width}}{step.summary:<70}{status}")
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
