"""`build` runs every step of a model once, in order, and continues where it was stopped."""

import hashlib
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from msgspec import structs

from cadlib.__main__ import main
from cadlib.cli import build, build_steps
from cadlib.cli.build import Build, duration
from cadlib.cli.build_steps import STEPS, Built, Recipe, StepName, read_built
from cadlib.cli.command_line import parse
from cadlib.cli.evaluate import Evaluate
from cadlib.cli.robustness import Robustness
from cadlib.cli.train import Train
from cadlib.errors import CadError
from cadlib.model import metrics_file
from cadlib.model.record import CARD_FILE
from cadlib.training import loop
from cadlib.training.config import TrainConfig
from cadlib.training.processes import StopRequest
from cadlib.training.run import CHECKPOINT_FILE
from cadlib.training.speed import measure_speed
from tests.builds import check_refused, set_folders, statuses
from tests.conftest import draw_few
from tests.model_folders import with_member
from tests.tiny_training import TINY, flags

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("few_draws", "same_graphs")]
ACROSS = TrainConfig(**{**TINY, "last_px": 32, "epochs": 1, "test": 0.1, "validation": 0.3})
NAMES = [step.name.value for step in STEPS]
# Degraded validation images and their saliency maps take most of the time of a tiny build.
SMALL = {**TINY, "validation": 0.1}


@pytest.fixture(autouse=True)
def folders(tmp_path, tmp_path_factory, monkeypatch):
    set_folders(monkeypatch, tmp_path, tmp_path_factory.getbasetemp() / "cache")
    monkeypatch.setattr(build, "ACROSS_RECIPE", ACROSS)


@pytest.fixture
def line(synthetic_dataset) -> list[str]:
    return ["build", "--data", str(synthetic_dataset), "--name", "tiny", *flags(SMALL)]


@pytest.fixture(scope="module")
def complete(tmp_path_factory, synthetic_dataset, same_graphs) -> Path:
    """Return a folder with models/ and runs/ after a whole build."""
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patch:
        set_folders(patch, folder, tmp_path_factory.getbasetemp() / "cache")
        patch.setattr(build, "ACROSS_RECIPE", ACROSS)
        draw_few(patch)
        words = ["build", "--data", str(synthetic_dataset), "--name", "tiny", *flags(SMALL)]
        assert main(words) == 0
    return folder


@pytest.fixture
def built_here(complete, tmp_path) -> Path:
    """Return a copy of the built model, where the command line finds it."""
    for name in ("models", "runs"):
        shutil.copytree(complete / name, tmp_path / name)
    return tmp_path / "models" / "tiny"


def recipe_of(line: list[str]) -> Recipe:
    command = parse(line)
    assert isinstance(command, Build)
    return command._recipe()


def steps_run(output: str) -> list[str]:
    """Return the names of the steps that a build has run, in order."""
    return [row.split()[1].rstrip(":") for row in output.splitlines() if row.startswith("== ")]


def digests(folder: Path) -> dict[Path, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def without(folder: Path, *keys: str) -> None:
    """Remove sections from a model's metrics.json, as if they were never measured."""
    built = read_model(folder)
    remaining = structs.replace(built.metrics, **dict.fromkeys(keys))
    metrics_file.rewrite(folder, built.record, remaining)


def read_model(folder: Path) -> Built:
    recipe = Recipe(
        data=Path("drawn"),
        name=folder.name,
        version="1.0.0",
        run_dir=folder.parents[1] / "runs" / folder.name,
        settings=TrainConfig(**SMALL),
        across=ACROSS,
        images=300,
    )
    built = read_built(recipe)
    assert built is not None
    return built


def test_a_dry_run_prints_every_step_with_its_time_and_writes_nothing(line, tmp_path, capsys):
    assert main([*line, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    plan = statuses(printed)
    assert list(plan) == NAMES
    assert all(status.startswith("about ") for status in plan.values())
    assert "were timed on this machine" in printed
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / "runs").exists()


def test_the_steps_are_in_the_order_in_which_they_need_each_other():
    assert list(StepName) == NAMES
    # Training replaces the folder, leaks make metrics meaningless, the test split is read last.
    assert NAMES[:2] == ["train", "audit"]
    assert NAMES.index("test") > max(NAMES.index(name) for name in ("index", "across", "saliency"))
    assert NAMES[-2:] == ["cases", "card"]


def test_a_whole_build_has_every_section_and_reads_the_test_split_last(built_here, tmp_path):
    built = read_model(built_here)
    metrics = built.metrics
    assert built.record.audit_passed
    assert built.record.neighbours
    assert built.record.novelty
    assert metrics.data.split == "test"
    assert metrics.validation.data.split == "validation"
    assert metrics.robustness.data.split == metrics.saliency.data.split == "validation"
    assert metrics.across_archives.recipe["input_px"] == 64
    assert metrics.neighbours.data.split == metrics.novelty.split == "test"
    for split in ("validation", "test"):
        predictions = pd.read_csv(
            tmp_path / "runs" / "tiny" / "evaluation" / split / "predictions.csv"
        )
        assert len(predictions) == built.record.training.images[split]
    card = (built_here / CARD_FILE).read_text(encoding="utf-8")
    for missing in ("Not audited", "Not measured:", "no index of", "degraded images was not"):
        assert missing not in card


def test_a_second_build_changes_no_file_and_loads_no_network(
    line, built_here, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(build, "_timed", None)
    before = digests(tmp_path)
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert set(statuses(printed).values()) == {"done"}
    assert "Nothing to do" in printed
    assert digests(tmp_path) == before


def test_a_missing_result_is_measured_alone(line, built_here, capsys):
    expected = read_model(built_here).metrics.robustness
    without(built_here, "robustness")
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert steps_run(printed) == ["robustness"]
    assert statuses(printed)["saliency"] == "done"
    assert read_model(built_here).metrics.robustness == expected


def test_from_repeats_a_step_and_all_later_ones(line, built_here, capsys):
    before = read_model(built_here)
    assert main([*line, "--from", "cases"]) == 0
    printed = capsys.readouterr().out
    assert steps_run(printed) == ["cases", "card"]
    assert statuses(printed)["test"] == "before --from"
    assert read_model(built_here).record.model_id == before.record.model_id


def test_skipped_steps_are_left_out(line, built_here, capsys):
    without(built_here, "robustness", "across_archives")
    assert main([*line, "--skip", "across"]) == 0
    printed = capsys.readouterr().out
    assert steps_run(printed) == ["robustness"]
    assert statuses(printed)["across"] == "skipped"
    assert read_model(built_here).metrics.across_archives is None


@pytest.mark.parametrize(
    ("step", "change"),
    [
        ("audit", lambda record: structs.replace(record, audit=None)),
        ("index", lambda record: structs.replace(record, novelty=None)),
        ("robustness", lambda record: with_member(record, weights_sha256="ab" * 32)),
        ("saliency", lambda record: with_member(record, weights_sha256="ab" * 32)),
        ("validation", lambda record: with_member(record, weights_sha256="ab" * 32)),
        (
            "test",
            lambda record: structs.replace(
                record,
                operating_points=tuple(
                    structs.replace(point, threshold=point.threshold / 2)
                    for point in record.operating_points
                ),
            ),
        ),
        ("card", lambda record: structs.replace(record, known_limits=("another one",))),
    ],
)
def test_a_result_of_another_split_weights_or_thresholds_is_not_done(
    line, built_here, step, change
):
    built = read_model(built_here)
    [step_type] = [each for each in STEPS if each.name == step]
    step_to_check = step_type(recipe_of(line))
    assert step_to_check.is_done(built)
    assert not step_to_check.is_done(Built(change(built.record), built.metrics))


def test_a_sample_of_another_size_is_measured_again(line, built_here):
    built = read_model(built_here)
    recipe = recipe_of([*line, "--images", "8"])
    assert not build_steps.RobustnessStep(recipe).is_done(built)
    assert build_steps.RobustnessStep(recipe_of(line)).is_done(built)


def test_a_model_of_other_settings_is_refused(line, built_here, capsys):
    before = digests(built_here)
    assert main([*line, "--epochs", "3"]) == 2
    error = capsys.readouterr().err
    assert "epochs 2, not 3" in error
    assert "--from train" in error
    assert digests(built_here) == before


class Pressed(StopRequest):
    """Ctrl-C is pressed after some steps of a training."""

    def __init__(self) -> None:
        self.left = 4

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_an_interrupted_training_continues_from_its_checkpoint(line, tmp_path, monkeypatch, capsys):
    later = [word for name in NAMES[1:] for word in ("--skip", name)]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopRequest", Pressed)
        assert main([*line, *later]) == 130
    error = capsys.readouterr().err
    assert "Stopped in step train. Go on with: python -m cadlib build" in error
    assert (tmp_path / "runs" / "tiny" / CHECKPOINT_FILE).exists()
    assert not (tmp_path / "models" / "tiny").exists()
    assert main([*line, *later]) == 0
    printed = capsys.readouterr().out
    assert steps_run(printed) == ["train"]
    assert "Resumed at step 5 of 8" in printed
    assert (tmp_path / "models" / "tiny").exists()


def test_a_build_stopped_between_steps_runs_the_rest(line, built_here, monkeypatch, capsys):
    def stopped(_command):
        raise KeyboardInterrupt

    without(built_here, "robustness", "validation")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluate, "run", stopped)
        assert main([*line, "--skip", "across"]) == 130
    assert steps_run(capsys.readouterr().out) == ["robustness", "validation"]
    assert main([*line, "--skip", "across"]) == 0
    assert steps_run(capsys.readouterr().out) == ["validation"]


def test_an_interrupted_new_training_of_a_finished_model_is_continued(
    line, built_here, monkeypatch, capsys
):
    commands = []

    def interrupted(command):
        commands.append(command)
        if len(commands) == 1:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(Train, "run", interrupted)
    later = [word for name in NAMES[1:] for word in ("--skip", name)]
    assert main([*line, *later, "--from", "train"]) == 130
    capsys.readouterr()
    # The old model is still there, but it is not taken for the new one.
    assert (built_here / CARD_FILE).exists()
    assert main([*line, *later]) == 0
    assert steps_run(capsys.readouterr().out) == ["train"]
    assert [command.resume for command in commands] == [False, False]
    assert all(command.overwrite for command in commands)
    assert main([*line, *later]) == 0
    assert len(commands) == 2


def test_the_first_failing_step_stops_the_build_and_names_the_way_on(
    line, built_here, monkeypatch, capsys
):
    def fails(_command):
        raise CadError("The disk is full.")

    without(built_here, "robustness", "saliency")
    monkeypatch.setattr(Robustness, "run", fails)
    assert main([*line, "--skip", "across"]) == 1
    printed = capsys.readouterr()
    assert steps_run(printed.out) == ["robustness"]
    first, second = printed.err.splitlines()[-2:]
    assert first == "cadlib: Step robustness failed: The disk is full."
    command = second.removeprefix("When this is solved, go on with: ")
    assert parse(shlex.split(command)[3:]) == parse([*line, "--skip", "across"])
    assert read_model(built_here).metrics.saliency is None


def test_a_leak_stops_the_build(line, built_here, monkeypatch, capsys):
    monkeypatch.setattr(build_steps.Audit, "run", lambda _command: 1)
    monkeypatch.setattr(build_steps.AuditStep, "is_done", lambda _step, _built: False)
    without(built_here, "saliency")
    assert main(line) == 1
    printed = capsys.readouterr()
    assert steps_run(printed.out) == ["audit"]
    assert "Step audit failed" in printed.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--skip", "train"], "all others need its model"),
        (["--skip", "nonesuch"], "Expected --skip"),
        (["--from", "audit"], "Leave --from out to build it"),
        (["--images", "0"], "Expected --images from 1"),
        (["--devices", "2"], "Expected an option of"),
        (["--name", "a/b"], "Expected a name of letters"),
    ],
)
def test_bad_usage_ends_with_2_before_any_work(line, more, message, tmp_path, capsys):
    check_refused([*line, *more], message, tmp_path, capsys)


def test_across_is_left_out_for_a_data_set_of_one_archive(line, monkeypatch, tmp_path, capsys):
    labelled_images = build._labelled_images
    monkeypatch.setattr(
        build, "_labelled_images", lambda recipe: labelled_images(recipe).assign(archive="MSK")
    )
    assert main([*line, "--dry-run"]) == 0
    assert statuses(capsys.readouterr().out)["across"] == "needs two archives"


def test_more_epochs_and_images_take_longer(line):
    recipe = recipe_of(line)
    work = build._work(recipe, build._read_images(recipe))
    assert work.n_images == 96
    longer = replace(recipe, settings=replace(recipe.settings, epochs=20))
    for step_type in STEPS:
        assert step_type(recipe).seconds(work) > 0
    train = build_steps.TrainStep
    assert train(longer).seconds(work) > 2 * train(recipe).seconds(work)
    larger = replace(work, n_train=10 * work.n_train)
    assert train(recipe).seconds(larger) > train(recipe).seconds(work)


def test_a_step_of_training_takes_longer_than_a_prediction():
    speed = measure_speed(TrainConfig(**{**TINY, "input_px": 64, "first_px": 64}))
    assert speed.train_s > speed.predict_s > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min")],
)
def test_a_time_is_given_in_hours_minutes_or_seconds(seconds, text):
    assert duration(seconds) == text
