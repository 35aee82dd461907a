"""The command line: help, usage errors, completion, and what it loads."""

import os
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from cadlib.__main__ import main
from cadlib.cli import COMMANDS
from cadlib.cli.command_line import parse
from cadlib.cli.train import Train
from cadlib.images.synthetic import demo_lesions
from cadlib.training.config import ACROSS_RECIPE, TrainConfig
from tests.test_commands import dicom_lesion

ROOT = Path(__file__).parents[1]
LINES = []
for entry in COMMANDS:
    LINES += [(entry.name, action.name) for action in entry.actions] or [(entry.name,)]
SLOW_TO_IMPORT = {"torch", "onnxruntime", "pandas", "sklearn", "scipy", "rich", "streamlit"}


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code from the root of the project in a new process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded_by(*lines: tuple[str, ...]) -> set[str]:
    """Return the packages that a process has imported after it ran some lines."""
    code = (
        "import sys; from cadlib.__main__ import main\n"
        f"for line in {[list(line) for line in lines]!r}: main(line)\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    process = run_python(code)
    assert process.returncode == 0, process.stderr
    return set(process.stdout.rpartition("LOADED")[2].split())


def completions(words: str, **environment: str) -> list[str]:
    """Return the completions that a shell offers at the end of some words."""
    shell = {
        "_CADLIB_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - (not words.endswith(" "))),
    }
    process = run_python("from cadlib.__main__ import main; main()", **shell, **environment)
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


def test_the_help_lists_every_command_under_its_purpose(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    position = 0
    purposes = list(dict.fromkeys(entry.purpose for entry in COMMANDS))
    for purpose in purposes:
        position = text.index(f"\n{purpose}:\n", position)
        for entry in COMMANDS:
            if entry.purpose == purpose:
                position = text.index(f"\n  {entry.name} ", position)


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_the_help_of_a_command_ends_with_an_example_that_parses(line, capsys):
    assert main([*line, "--help"]) == 0
    text, _, example = capsys.readouterr().out.partition("\nExample:\n")
    assert "Options:" in text
    assert "\x1b" not in text
    commands = example.strip().splitlines()
    assert commands
    for command in commands:
        words = shlex.split(command.partition(" > ")[0])
        assert words[0] == "cadlib"
        assert words[1 : len(line) + 1] == list(line)
        assert parse(words[1:]) is not None


def test_the_list_of_commands_needs_no_scientific_package():
    loaded = loaded_by(("--help",), ("nonesuch",))
    assert loaded.isdisjoint(SLOW_TO_IMPORT | {"numpy", "cv2"})


def test_help_and_bad_usage_load_no_slow_package():
    lines = [(*line, "--help") for line in LINES]
    lines += [(*line, "--nonesuch") for line in LINES]
    lines += [("train", "--data", "nowhere", "--name", "x"), ("evaluate", "--output", "x")]
    loaded = loaded_by(*lines)
    assert loaded.isdisjoint(SLOW_TO_IMPORT)


def test_help_is_plain_text_where_colours_are_forced():
    process = run_python(
        "from cadlib.__main__ import main; main(['train', '--help'])",
        FORCE_COLOR="1",
        GITHUB_ACTIONS="1",
    )
    assert "--epochs" in process.stdout
    assert "\x1b" not in process.stdout


def test_every_setting_of_a_training_is_an_option():
    changed = {
        "pretrained": ("--no-pretrained", False),
        "epochs": ("--epochs=3", 3),
        "learning_rate": ("--learning-rate=0.01", 0.01),
        "leave_out": ("--leave-out=MSK", "MSK"),
        "devices": ("--devices=2", 2),
    }
    line = ["train", "--data", "d", "--name", "n"]
    plain = parse(line)
    command = parse([*line, *(flag for flag, _ in changed.values())])
    assert isinstance(plain, Train)
    assert isinstance(command, Train)
    assert plain.settings == TrainConfig()
    for setting in fields(TrainConfig):
        _, expected = changed.get(setting.name, ("", setting.default))
        assert getattr(command.settings, setting.name) == expected


def test_across_has_its_own_defaults_and_no_option_for_several_machines(capsys):
    command = parse(["across", "--data", "d"])
    assert command.settings == ACROSS_RECIPE
    assert main(["across", "--data", "d", "--nodes", "2"]) == 2
    assert "Expected an option of `python -m cadlib across`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["predict", "x", "--modle", "m"], "got '--modle'. Did you mean --model?"),
        (["model", "verifi"], "Did you mean 'verify'?"),
        (["evalaute"], "Did you mean 'evaluate'?"),
        (["predict", "x", "--format", "xml"], "one of 'table', 'json', 'csv' but got 'xml'"),
        (["predict", "x", "--age", "old"], "Expected --age to be a valid number but got 'old'"),
        (["predict"], "Missing argument 'FILE'"),
        (["index", "--model", "isic2019"], "Missing option '--data'"),
        (["train", "--data", "d", "--name", "n", "--epochs", "1.5"], "a valid integer"),
    ],
)
def test_bad_usage_is_two_lines_that_name_the_way_out(line, message, capsys):
    assert main(line) == 2
    problem, advice = capsys.readouterr().err.splitlines()
    assert problem.startswith("cadlib: ")
    assert message in problem
    assert advice.startswith("Run `python -m cadlib")
    assert "--help`" in advice


def test_a_shell_completes_commands_options_models_and_folders(tmp_path, synthetic_dataset):
    assert {"predict", "model", "suspects"} <= set(completions("cadlib "))
    assert completions("cadlib sus") == ["suspects"]
    assert completions("cadlib model mi") == ["migrate"]
    assert completions("cadlib train --learn") == ["--learning-rate"]
    assert "isic2019" in completions("cadlib index --model ")
    assert completions("cadlib predict --format j") == ["json"]
    (tmp_path / "images").mkdir()
    (tmp_path / "table.csv").touch()
    offered = completions(f"cadlib index --data {tmp_path}/", CADLIB_DATA="")
    assert offered == [f"{tmp_path}/images/"]
    assert str(synthetic_dataset) in completions(
        f"cadlib index --data {synthetic_dataset.parent}/", CADLIB_DATA=str(synthetic_dataset)
    )


@pytest.mark.parametrize("flag", ["--show-completion", "--install-completion"])
def test_completion_is_installed_for_the_shell_that_asks(flag, tmp_path):
    line = f"{shlex.quote(sys.executable)} -m cadlib {flag}; exit $?"
    process = subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    scripts = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    script = process.stdout if flag == "--show-completion" else "\n".join(scripts)
    assert "_CADLIB_COMPLETE=complete_bash" in script
    assert "complete -o default" in script


def test_predict_works_where_torch_is_not_installed(tmp_path):
    image = tmp_path / "lesion.png"
    image.write_bytes(demo_lesions()[0].png())
    blocked = "torch", "torchvision", "timm", "pytorch_grad_cam", "lightning_fabric", "pydicom"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"from cadlib.__main__ import main; sys.exit(main(['predict', {str(image)!r}]))"
    )
    process = run_python(code)
    assert process.returncode == 0, process.stderr
    assert "Melanoma" in process.stdout


@pytest.mark.parametrize("package", ["torch", "tensorboard"])
def test_training_names_a_missing_package_and_what_to_install(package, synthetic_dataset):
    line = ["train", "--data", str(synthetic_dataset), "--name", "never-written"]
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from cadlib.__main__ import main; sys.exit(main({line!r}))"
    )
    process = run_python(code)
    assert process.returncode == 2
    assert f'Training needs {package}: run `pip install "cadlib[train]"`' in process.stderr
    assert "`pip install -r requirements-train.txt`" in process.stderr


def test_a_dicom_file_without_pydicom_names_the_packages_to_install(tmp_path):
    (tmp_path / "lesion.dcm").write_bytes(dicom_lesion())
    # The process that decodes has the search path of this one, so it finds this package first.
    package = tmp_path / "pydicom.py"
    package.write_text("raise ModuleNotFoundError('No module named pydicom', name='pydicom')")
    line = ["predict", str(tmp_path / "lesion.dcm")]
    code = f"import sys; from cadlib.__main__ import main; sys.exit(main({line!r}))"
    process = run_python(code, PYTHONPATH=str(tmp_path))
    assert process.returncode == 1
    assert (
        "is a DICOM image, and pydicom, which reads such images, is not installed" in process.stderr
    )
    assert 'Run `pip install "cadlib[dicom]"`' in process.stderr
