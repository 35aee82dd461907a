"""`build --recipe` trains the networks of a committee, packs them, and trains a small model from them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_field

from cadlib.__main__ import main
from cadlib.cli import build
from cadlib.cli.build import Build
from cadlib.cli.command_line import parse
from cadlib.cli.committee_steps import check_inputs
from cadlib.cli.recipe_file import read_recipe_file
from cadlib.cli.train import Train
from cadlib.cli.usage import UsageError
from cadlib.data.splits import read_split
from cadlib.model.out_of_fold import read_out_of_fold
from cadlib.model.record import OUT_OF_FOLD_FILE, SPLIT_FILE, read_record
from cadlib.model.verification import verify
from cadlib.training.run import CHECKPOINT_FILE
from cadlib.training.speed import Speed
from tests.builds import check_refused, set_folders, statuses
from tests.conftest import draw_few
from tests.model_folders import change_file
from tests.tiny_training import TINY, flags

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("same_graphs")]
EXAMPLE = Path(__file__).parents[1] / "docs" / "how-to" / "committee.toml"
SETTINGS = {**TINY, "epochs": 1, "last_px": 32}
MODEL_STEPS = [
    "audit",
    "index",
    "robustness",
    "saliency",
    "across",
    "validation",
    "test",
    "cases",
    "card",
]
SMALL_STEPS = [f"small-{name}" for name in ("train", *MODEL_STEPS) if name != "across"]
STEPS = ["split", "train-fold0", "train-fold1", "pack", *MODEL_STEPS, *SMALL_STEPS]
# They take most of the time, and are those of every model.
SLOW = ["robustness", "saliency", "across", "small-robustness", "small-saliency", "small-index"]
SLOW += ["small-validation"]


def table(**settings: object) -> str:
    """Return settings as the lines of a TOML table."""
    lines = []
    for name, value in settings.items():
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        lines.append(f"{name.replace('_', '-')} = {shown}\n")
    return "".join(lines)


def recipe_text(folds: int = 2, *, start: str = "", small: bool = True) -> str:
    text = f"folds = {folds}\n{start}"
    for fold in range(folds):
        text += f"\n[[member]]\nfold = {fold}\n{table(**SETTINGS)}"
    if small:
        text += f"\n[small]\n{table(**SETTINGS)}"
    return text


def whole_build(data: Path, file: Path) -> list[str]:
    """Return the command line of all steps."""
    options = {"data": data, "name": "tiny", "recipe": file}
    return ["build", *flags(options)]


def quick_build(data: Path, file: Path) -> list[str]:
    """Return the command line of all steps but the slow ones."""
    words = whole_build(data, file)
    for name in SLOW:
        words += ["--skip", name]
    return words


def prepare(patch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    set_folders(patch, folder, cache)
    patch.setattr(build, "_measured_speed", lambda _settings: Speed(0.02, 0.01))


@pytest.fixture(scope="module")
def complete(tmp_path_factory, synthetic_dataset, same_graphs) -> Path:
    """Return a folder with models/, runs/ and the recipe after a whole build."""
    folder = tmp_path_factory.mktemp("complete")
    (folder / "recipe.toml").write_text(recipe_text(start="views = 1\n"))
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch, folder, tmp_path_factory.getbasetemp() / "cache")
        draw_few(patch)
        assert main(quick_build(synthetic_dataset, folder / "recipe.toml")) == 0
    return folder


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch) -> Path:
    """Return an empty folder, where commands write models and runs."""
    prepare(monkeypatch, tmp_path, tmp_path_factory.getbasetemp() / "cache")
    return tmp_path


@pytest.fixture
def built_here(complete, folder, monkeypatch) -> Path:
    """Return a folder with a copy of all that was built, where commands find it."""
    for name in ("models", "runs"):
        shutil.copytree(complete / name, folder / name)
    shutil.copy(complete / "recipe.toml", folder)
    # The members name the file of their split.
    monkeypatch.setattr(build, "new_split_file", lambda _: complete / "runs" / "tiny" / "split.csv")
    return folder


def pending(output: str) -> list[str]:
    return [name for name, status in statuses(output).items() if status.startswith("about ")]


def test_the_plan_has_all_steps_with_their_times_and_writes_nothing(
    folder, synthetic_dataset, capsys
):
    file = folder / "recipe.toml"
    file.write_text(recipe_text())
    assert main([*quick_build(synthetic_dataset, file), "--dry-run"]) == 0
    plan = statuses(capsys.readouterr().out)
    assert list(plan) == STEPS
    for name, status in plan.items():
        assert status == "skipped" if name in SLOW else status.startswith("about "), name
    assert not (folder / "models").exists()
    assert not (folder / "runs").exists()


def test_a_split_of_a_model_is_not_drawn_again_and_the_small_model_is_optional(
    folder, synthetic_dataset, capsys
):
    file = folder / "recipe.toml"
    file.write_text(recipe_text(3, start='split-of = "isic2019"\n', small=False))
    assert main([*whole_build(synthetic_dataset, file), "--dry-run"]) == 0
    folds = ["train-fold0", "train-fold1", "train-fold2"]
    assert list(statuses(capsys.readouterr().out)) == [*folds, "pack", *MODEL_STEPS]


def test_a_build_makes_a_committee_and_a_small_model_of_one_split(complete):
    models = complete / "models"
    record = read_record(models / "tiny")
    assert [member.fold for member in record.members] == [0, 1]
    assert record.views == 1
    assert record.audit_passed
    assert record.novelty
    for fold, member in enumerate(record.members):
        alone = read_record(models / f"tiny-fold{fold}").members[0]
        # A committee stores the weights in 16 bits.
        assert replace_field(alone, weights_sha256=member.weights_sha256) == member
    drawn = (complete / "runs" / "tiny" / "split.csv").read_bytes()
    assert (models / "tiny" / SPLIT_FILE).read_bytes() == drawn
    rows = read_split(models / "tiny" / SPLIT_FILE)
    in_folds = rows["image"][rows["split"] != "test"]
    assert set(read_out_of_fold(models / "tiny").images) == set(in_folds)
    small = read_record(models / "tiny-small")
    settings = small.members[0].run.config
    assert settings["teacher_id"] == record.model_id
    assert small.training.split_sha256 == record.training.split_sha256
    assert verify(models / "tiny").unchanged
    assert verify(models / "tiny-small").unchanged
    for name in ("tiny", "tiny/small"):
        assert (complete / "runs" / name / "evaluation" / "test" / "predictions.csv").exists()


def test_a_second_build_has_nothing_to_do(built_here, synthetic_dataset, monkeypatch, capsys):
    monkeypatch.setattr(build, "_timed", None)
    assert main(quick_build(synthetic_dataset, built_here / "recipe.toml")) == 0
    printed = capsys.readouterr().out
    plan = statuses(printed)
    assert list(plan) == STEPS
    assert set(plan.values()) == {"done", "skipped"}
    assert "Nothing to do" in printed


def test_a_missing_network_is_trained_and_packed_again_and_the_others_stay(
    built_here, synthetic_dataset, capsys
):
    shutil.rmtree(built_here / "models" / "tiny-fold1")
    assert main([*quick_build(synthetic_dataset, built_here / "recipe.toml"), "--dry-run"]) == 0
    later = STEPS[STEPS.index("train-fold1") :]
    assert pending(capsys.readouterr().out) == [name for name in later if name not in SLOW]


def test_a_small_model_of_former_soft_targets_is_trained_again(
    built_here, synthetic_dataset, monkeypatch, capsys
):
    teacher = built_here / "models" / "tiny"
    text = (teacher / OUT_OF_FOLD_FILE).read_text()
    change_file(teacher, OUT_OF_FOLD_FILE, text.replace("ISIC_", "ISIC_1", 1))
    commands = []
    monkeypatch.setattr(Train, "run", lambda command: commands.append(command) or 1)
    assert main(quick_build(synthetic_dataset, built_here / "recipe.toml")) == 1
    printed = capsys.readouterr()
    assert pending(printed.out) == [name for name in SMALL_STEPS if name not in SLOW]
    assert "Step small-train failed" in printed.err
    assert f"--recipe {built_here / 'recipe.toml'}" in printed.err
    # It starts from the beginning: a run of other targets cannot be continued.
    [command] = commands
    assert command.name == "tiny-small"
    assert command.overwrite
    assert not command.resume
    assert not (built_here / "runs" / "tiny" / "small" / CHECKPOINT_FILE).exists()


def test_a_network_of_other_settings_is_refused(built_here, synthetic_dataset, capsys):
    file = built_here / "recipe.toml"
    file.write_text(file.read_text().replace("fold = 1\n", "fold = 1\nlearning-rate = 0.1\n"))
    assert main(quick_build(synthetic_dataset, file)) == 2
    error = capsys.readouterr().err
    assert "tiny-fold1 with learning_rate 0.001, not 0.1" in error
    assert "--from train-fold1" in error


def test_from_repeats_a_step_and_all_later_ones(built_here, synthetic_dataset, capsys):
    line = [*quick_build(synthetic_dataset, built_here / "recipe.toml"), "--dry-run"]
    assert main([*line, "--from", "cases"]) == 0
    plan = statuses(capsys.readouterr().out)
    assert plan["pack"] == plan["test"] == "before --from"
    assert plan["cases"].startswith("about ")
    assert plan["small-train"].startswith("about ")
    shutil.rmtree(built_here / "models" / "tiny-fold0")
    assert main([*line, "--from", "cases"]) == 0
    capsys.readouterr()
    assert main([*line, "--from", "pack"]) == 2
    assert "tiny-fold0 for --from pack, but there is none" in capsys.readouterr().err


def test_later_steps_are_repeated_without_the_file_of_the_split(
    built_here, synthetic_dataset, capsys
):
    (built_here / "runs" / "tiny" / "split.csv").unlink()
    line = [*quick_build(synthetic_dataset, built_here / "recipe.toml"), "--dry-run"]
    assert main([*line, "--from", "cases"]) == 0
    assert statuses(capsys.readouterr().out)["split"] == "before --from"


def test_each_network_continues_from_its_own_checkpoint(folder, synthetic_dataset):
    file = folder / "recipe.toml"
    file.write_text(recipe_text(small=False))
    command = parse(whole_build(synthetic_dataset, file))
    assert isinstance(command, Build)
    _, steps = command._steps()
    first, second = [step for step in steps if step.label.startswith("train")]
    second.recipe.run_dir.mkdir(parents=True)
    (second.recipe.run_dir / CHECKPOINT_FILE).touch()
    assert not first.command().resume
    assert second.command().resume
    assert second.command().settings.fold == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--skip", "pack"], "Expected --skip of a step after pack"),
        (["--skip", "train"], "Expected --skip to be one of split, train-fold0, train-fold1"),
        (["--from", "train"], "Expected --from to be one of split, train-fold0"),
        (["--skip", "split"], "all others need its split"),
        (["--from", "train-fold0"], "Expected a split in"),
        (["--from", "audit"], "Leave --from out to build it"),
        (["--epochs", "3"], "Expected no --epochs together with --recipe"),
    ],
)
def test_bad_usage_ends_with_2_before_any_work(folder, synthetic_dataset, more, message, capsys):
    file = folder / "recipe.toml"
    file.write_text(recipe_text())
    check_refused([*whole_build(synthetic_dataset, file), *more], message, folder, capsys)


def test_networks_of_different_inputs_are_refused_before_training(folder, synthetic_dataset):
    file = folder / "recipe.toml"
    file.write_text(recipe_text().replace("test_efficientnet", "tf_efficientnet_lite0", 1))
    command = parse(whole_build(synthetic_dataset, file))
    assert isinstance(command, Build)
    committee, _ = command._steps()
    with pytest.raises(UsageError, match="tf_efficientnet_lite0 reads .* test_efficientnet reads"):
        check_inputs(committee)
    check_inputs(replace(committee, members=committee.members[1:]))


def read(file: Path):
    return read_recipe_file(file, "tiny", file.with_name("split.csv"))


def test_the_example_of_the_documents_is_a_recipe():
    recipe = read(EXAMPLE)
    assert recipe.folds == len(recipe.member) == 5
    assert [member.fold for member in recipe.member] == [0, 1, 2, 3, 4]
    assert {member.split_of for member in recipe.member} == {"isic2019"}
    assert recipe.member[0].mixup_alpha == 0.4
    assert recipe.views == 8
    assert recipe.small.teacher == "tiny"
    assert recipe.small.teacher_temperature == 2


def test_members_may_come_in_any_order(tmp_path):
    file = tmp_path / "recipe.toml"
    text = recipe_text().replace("fold = 0\n", "fold = 9\n").replace("fold = 1\n", "fold = 0\n")
    file.write_text(text.replace("fold = 9\n", "fold = 1\n"))
    assert [member.fold for member in read(file).member] == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("folds = 2\n", "", r"Expected `folds` in FILE, but it is missing"),
        ("folds = 2\n", "folds = 1\n", r"Expected `folds` in FILE to be .*>= 2, but found 1"),
        ("folds = 2\n", "folds = 3\n", r"each of the 3 folds in FILE, .* fold 2 is missing"),
        ("folds = 2\n", "folds = 2\nlayers = 4\n", r"one of the keys folds, .* but got 'layers'"),
        ("folds = 2\n", "folds = 2\nviews = 4\n", r"Expected `views` in FILE .* but found 4"),
        ("folds = 2\n", "folds = 2\nsplit-of = 4\n", r"`split-of` in FILE to be text"),
        ("folds = 2\n", "folds = \n", r"Expected FILE to hold TOML"),
        ("fold = 0\n", "", r"`member\[0\]\.fold` in FILE to be .* from 0 to 1, but it is missing"),
        ("fold = 0\n", "fold = 2\n", r"`member\[0\]\.fold` in FILE .* from 0 to 1, but got 2"),
        ("fold = 1\n", "fold = 0\n", r"got the folds 0, 0: fold 1 is missing"),
        ("epochs", "epoch", r"`cadlib train` .* at `member\[0\]` in FILE, but got 'epoch'. Did"),
        ("input-px", "input_px", r"but got 'input_px'. Did you mean input-px"),
        ("epochs = 1", 'epochs = "one"', r"`member\[0\]\.epochs` in FILE to be a whole number"),
        ("epochs = 1", "epochs = 0", r"`member\[0\]\.epochs` in FILE to be at least 1, but found"),
        (
            "first-px = 32",
            "first-px = 48",
            r"`member\[0\]\.last-px` .* `first-px`, 48, but found 32",
        ),
        ("pretrained = false", "pretrained = 0", r"`member\[0\]\.pretrained` .* true or false"),
        ("input-px = 64", "input-px = 96", r"same `input-px` .* fold 0 has 96 and fold 1 has 64"),
        ("epochs = 1", "epochs = 1\nseed = 1", r"same `seed` in all members in FILE"),
        ("epochs = 1", "epochs = 1\nfolds = 2", r"but got 'folds'. Leave it out"),
        ("epochs = 1", 'epochs = 1\nteacher = "a"', r"but got 'teacher'. Leave it out"),
        ("[small]\n", "[small]\nfold = 1\n", r"at `small` in FILE, but got 'fold'. Leave it out"),
        ("[small]\n", "[small]\nteacher-weight = 2\n", r"`small\.teacher-weight` .* at most 1"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(tmp_path, old, new, message):
    file = tmp_path / "recipe.toml"
    text = recipe_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=message.replace("FILE", str(file))):
        read(file)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"Expected a recipe in .*none\.toml"):
        read(tmp_path / "none.toml")
