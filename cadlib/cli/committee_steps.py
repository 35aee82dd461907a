"""Defines the steps of `build` for a committee, from its recipe.

The members are trained one after the other, each as a model of its own, and then packed. After that
come the steps of every model. The small model learns from the packed one, so it comes last. It has
no step `across`, which trains networks of its own and would give the same result.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cadlib.cli.build_steps import (
    MEASURING_STEPS,
    STEPS,
    AcrossStep,
    Built,
    Recipe,
    Step,
    TrainStep,
    Work,
    read_built,
)
from cadlib.cli.command import CliCommand
from cadlib.cli.pack import Pack
from cadlib.cli.usage import UsageError
from cadlib.training.config import TrainConfig

# `--help` does not wait for this import.
if TYPE_CHECKING:
    from cadlib.cli.recipe_file import RecipeFile

SMALL = "small"
"""End of the name of the small model, and start of the names of its steps."""


def new_split_file(run_dir: Path) -> Path:
    """Return the file of the split that a committee without `split-of` follows."""
    # The settings of the members name it, wherever the build is continued.
    return run_dir.resolve() / "split.csv"


@dataclass(frozen=True, kw_only=True)
class DrawSplit(CliCommand):
    """Draws the split of a committee, and writes it."""

    EXAMPLE: ClassVar[str] = ""

    data: Path
    settings: TrainConfig
    file: Path

    def run(self) -> int:
        """Run the command and return its exit code."""
        from cadlib.training.setup import draw_split

        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = draw_split(self.data, self.settings, print)
        self.file.write_text(text, encoding="utf-8")
        print(f"Split written to {self.file}")
        return 0


@dataclass(frozen=True)
class SplitStep(Step):
    """Draws the split that all members follow."""

    name: ClassVar[str] = "split"
    summary: ClassVar[str] = "Draw the split that all networks follow."
    product: ClassVar[str] = "split"

    @property
    def place(self) -> Path:
        """Return the file of the split."""
        return new_split_file(self.recipe.run_dir)

    def has_result(self, _built: Built | None) -> bool:
        """Return whether there is a split; no model is needed for it."""
        return self.place.exists()

    def is_complete(self, built: Built | None) -> bool:
        """Return whether there is a split."""
        return self.has_result(built)

    def is_done(self, built: Built) -> bool:
        """Return whether there is a split."""
        return self.has_result(built)

    def seconds(self, work: Work) -> float:
        """Return the time to read every image."""
        return work.n_images * work.read_s

    def command(self) -> CliCommand:
        """Return the command."""
        return DrawSplit(
            data=self.recipe.data,
            settings=self.recipe.members[0].settings,
            file=self.place,
        )


@dataclass(frozen=True)
class MemberStep(TrainStep):
    """Trains the network of a fold."""

    summary: ClassVar[str] = "Train the network that is not trained on this fold."

    @property
    def label(self) -> str:
        """Return the name of the step in the plan."""
        return f"{self.name}-fold{self.recipe.settings.fold}"

    def needs(self, other: Step) -> bool:
        """Return whether this step needs an earlier one: the split alone."""
        return isinstance(other, SplitStep)

    def builds_on(self, other: Step) -> bool:
        """Return whether this step is repeated after an earlier one: not that of another fold."""
        return self.needs(other)


@dataclass(frozen=True)
class PackStep(Step):
    """Packs the networks of all folds as one model."""

    name: ClassVar[str] = "pack"
    summary: ClassVar[str] = "Pack all networks; fit calibration, thresholds and prediction sets."
    makes_model: ClassVar[bool] = True

    def needs(self, other: Step) -> bool:
        """Return whether this step needs an earlier one: the split, and each network."""
        return isinstance(other, MemberStep | SplitStep)

    def is_done(self, built: Built) -> bool:
        """Return whether the model has the networks of all members as they are now."""
        record = built.record
        if record.version != self.recipe.version:
            return False
        if record.views != self.recipe.views:
            return False
        trained = []
        for recipe in self.recipe.members:
            member = read_built(recipe)
            if member is None:
                return False
            trained.append(_halved_sha256(recipe.folder))
        packed = [member.weights_sha256 for member in record.members]
        return packed == trained

    def seconds(self, work: Work) -> float:
        """Return the time to read each image, and to predict it by one of the networks."""
        n_images = work.n_train + work.n_validation
        n_networks = len(self.recipe.members)
        predict_s = work.speed.predict_s / n_networks
        image_s = work.read_s + predict_s
        return n_images * image_s

    def command(self) -> CliCommand:
        """Return the command."""
        return Pack(
            members=[member.name for member in self.recipe.members],
            data=self.recipe.data,
            name=self.recipe.name,
            model_version=self.recipe.version,
            views="1" if self.recipe.views == 1 else "8",
            overwrite=self.recipe.folder.exists(),
        )


def _halved_sha256(folder: Path) -> str:
    """Return the hash of the weights of a network as a committee stores them, in 16 bits."""
    from cadlib.model import manifest, weights

    stored = (folder / manifest.WEIGHTS_FILE).read_bytes()
    return manifest.file_facts(weights.halve(stored)).sha256


def check_inputs(committee: Recipe) -> None:
    """Raise UsageError where the networks of a committee do not read the same input.

    Otherwise packing would fail after all of them were trained.
    """
    from cadlib.training.setup import network_input

    # Members of one backbone have one input, as all have the same `input-px`.
    settings_of = {member.settings.backbone: member.settings for member in committee.members}
    first, *others = settings_of
    expected = network_input(settings_of[first])
    for backbone in others:
        spec = network_input(settings_of[backbone])
        if spec != expected:
            raise UsageError(
                f"Expected networks of the same input, but {first} reads {expected} "
                f"and {backbone} reads {spec}. Choose another `backbone`."
            )


def committee_recipe(
    file: "RecipeFile",
    base: Recipe,
    across_of: Callable[[TrainConfig], TrainConfig],
) -> Recipe:
    """Return the committee of a recipe file.

    `base` has its data set, name, version and folder of runs, and `across_of` gives the settings of
    the step `across` from those of a network.
    """
    members = []
    for settings in file.member:
        end = f"fold{settings.fold}"
        member = replace(
            base,
            name=f"{base.name}-{end}",
            run_dir=base.run_dir / end,
            settings=settings,
        )
        members.append(member)
    first = file.member[0]
    # The committee itself has the validation images of the split that its members follow.
    return replace(
        base,
        settings=replace(first, folds=0, fold=0),
        across=across_of(first),
        members=tuple(members),
        views=file.views,
    )


def committee_steps(file: "RecipeFile", committee: Recipe) -> list[Step]:
    """Return all steps of a committee, and of its small model where the recipe has one."""
    steps: list[Step] = []
    if not file.split_of:
        steps.append(SplitStep(committee))
    steps += [MemberStep(member) for member in committee.members]
    steps.append(PackStep(committee))
    steps += [step_type(committee) for step_type in MEASURING_STEPS]
    if file.small is None:
        return steps
    small = replace(
        committee,
        name=f"{committee.name}-{SMALL}",
        run_dir=committee.run_dir / SMALL,
        settings=file.small,
        members=(),
        views=8,
        prefix=f"{SMALL}-",
    )
    for step_type in STEPS:
        if step_type is not AcrossStep:
            steps.append(step_type(small))
    return steps
