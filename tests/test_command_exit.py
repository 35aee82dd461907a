"""How a command ends: when nobody reads its output, after Ctrl-C, and where an output cannot be written."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.__main__ import main
from cadlib.cli import command_line
from cadlib.cli.overlay_names import OverlayNames
from cadlib.cli.usage import UsageError, check_file, check_folder, make_folder
from cadlib.images.synthetic import demo_lesions
from cadlib.saliency import heatmap

ROOT = Path(__file__).parents[1]
FULL = Path("/dev/full")  # a disk without room


@pytest.fixture
def folder(tmp_path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for lesion in demo_lesions()[:3]:
        (images / f"{lesion.name}.png").write_bytes(lesion.png())
    return images


def started(*arguments: object, **streams: object) -> subprocess.Popen:
    line = [sys.executable, "-m", "cadlib", *map(str, arguments)]
    return subprocess.Popen(
        line, cwd=ROOT, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    )


def with_reader_gone(*arguments: object) -> tuple[int, str]:
    """Run a command whose output nobody reads; return its exit code and its stderr."""
    with started(*arguments) as running:
        running.stdout.close()
        errors = running.stderr.read().decode()
    return running.returncode, errors


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_predict_ends_quietly_when_its_reader_is_gone(folder, form, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code, errors = with_reader_gone("predict", folder, "--format", form)
    assert code == 141
    assert "rror" not in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"]])
def test_help_ends_quietly_when_its_reader_is_gone(arguments):
    code, errors = with_reader_gone(*arguments)
    assert code in (0, 141)  # the help may be in the pipe before its reader is gone
    assert errors == ""


def test_evaluate_ends_quietly_when_its_reader_is_gone(synthetic_dataset, tmp_path):
    line = [
        "evaluate",
        "--model",
        "isic2019",
        "--data",
        synthetic_dataset,
        "--output",
        tmp_path / "out",
    ]
    code, errors = with_reader_gone(*line)
    assert code == 141
    assert "rror" not in errors
    assert (tmp_path / "out" / "metrics.json").exists()


def test_a_command_ends_quietly_when_both_streams_are_closed(folder):
    (folder / "bad.jpg").write_bytes(b"no image")
    running = started("predict", folder, stderr=subprocess.STDOUT)
    running.stdout.close()
    assert running.wait() == 141


def test_head_reads_the_first_line(folder):
    line = f"{sys.executable} -m cadlib predict {folder} --format csv | head -n 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True
    )
    header, code = ended.stdout.splitlines()
    assert header.startswith("file,image_sha256")
    assert code in ("0", "141")  # head may have read all of it
    assert "rror" not in ended.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_output_on_a_full_disk_is_one_message(folder):
    with FULL.open("w") as full:
        running = started("predict", folder, "--format", "csv", stdout=full)
        errors = running.communicate()[1].decode()
    assert running.returncode == 1
    lines = [
        line
        for line in re.split(r"[\r\n]+", errors)
        if line.startswith(("cadlib:", "Traceback", "Exception"))
    ]
    assert lines == [
        "cadlib: [Errno 28] No space left on device. Check the disk and the rights of the folder."
    ]


def test_a_closed_output_is_no_error(folder):
    line = f"exec {sys.executable} -m cadlib predict {folder} >&-"
    ended = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr


def test_a_broken_pipe_that_is_not_of_the_output_is_an_error(monkeypatch, capsys):
    def breaks(_command):
        raise BrokenPipeError(32, "Broken pipe")

    from cadlib.cli.predict import Predict

    monkeypatch.setattr(Predict, "run", breaks)
    assert main(["predict", "x.jpg"]) == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_one_line(folder):
    picture = demo_lesions()[0].png()
    for number in range(600):  # more rows than a pipe holds: it cannot end before they are read
        (folder / f"{number}.png").write_bytes(picture)
    # A shell that starts the tests in the background lets them ignore Ctrl-C, and they would hand that on.
    running = started(
        "predict", folder, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    assert running.stdout.readline()  # it is at work
    running.send_signal(signal.SIGINT)
    errors = running.communicate()[1].decode()
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert errors.rstrip().endswith("cadlib: Stopped.")


def test_ctrl_c_while_commands_are_loaded_ends_with_130(monkeypatch, capsys):
    def stop(_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "parse", stop)
    assert main(["predict", "x.jpg"]) == 130
    assert capsys.readouterr().err == "cadlib: Stopped.\n"


LONG_NAMES = ["x" * 251, "é" * 125, "黒" * 83, "🔬" * 62, ("黒子" * 20 + " ") * 2]


@pytest.mark.parametrize(
    "stem", LONG_NAMES, ids=["ascii", "two bytes", "three bytes", "four bytes", "mixed"]
)
def test_a_long_file_name_keeps_its_diagnosis_and_its_overlay(tmp_path, stem, capsys):
    path = tmp_path / f"{stem}.png"
    path.write_bytes(demo_lesions()[0].png())
    maps = tmp_path / "maps"
    assert main(["predict", str(path), "--heatmap", str(maps), "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    (overlay,) = maps.iterdir()
    assert row["file"] == str(path)
    assert len(os.fsencode(overlay.name)) <= 255
    assert overlay.name.endswith(f"_{row['image_sha256'][:8]}_{row['diagnosis']}.png")
    assert stem.startswith(overlay.name.split("_")[0])


def test_images_of_one_name_have_an_overlay_each(tmp_path, capsys):
    stem = "y" * 251
    for place, lesion in (("a", 0), ("b", 0), ("c", 1)):  # the first two are the same image
        (tmp_path / "in" / place).mkdir(parents=True)
        (tmp_path / "in" / place / f"{stem}.png").write_bytes(demo_lesions()[lesion].png())
    maps = tmp_path / "maps"
    assert main(["predict", str(tmp_path / "in"), "--heatmap", str(maps), "--format", "csv"]) == 0
    assert len(list(maps.iterdir())) == 3


def test_an_overlay_that_cannot_be_written_costs_no_diagnosis(
    folder, tmp_path, monkeypatch, capsys
):
    def refuse(*_):
        raise OSError(36, "File name too long")

    monkeypatch.setattr(heatmap, "overlay", refuse)
    assert (
        main(["predict", str(folder), "--heatmap", str(tmp_path / "maps"), "--format", "json"]) == 1
    )
    printed = capsys.readouterr()
    assert printed.err.count("File name too long") == 3
    assert all(row["diagnosis"] and "error" not in row for row in json.loads(printed.out))


@given(
    stems=st.lists(
        st.text(st.characters(exclude_characters="/\0", codec="utf-8"), max_size=300), max_size=8
    )
)
def test_names_of_overlays_differ_and_fit(tmp_path_factory, stems):
    names = OverlayNames(tmp_path_factory.getbasetemp())
    unique_names = [names.take(stem, "_0a1b2c3d_MEL.png") for stem in (*stems, *stems)]
    assert len({name.casefold() for name in unique_names}) == len(unique_names)
    assert all(len(os.fsencode(name)) <= 255 for name in unique_names)
    assert all(name.endswith("_MEL.png") for name in unique_names)


def test_a_name_that_is_no_text_is_kept(tmp_path):
    stem = os.fsdecode(b"\xff\xfe" * 200)
    name = OverlayNames(tmp_path).take(stem, ".png")
    (tmp_path / name).write_bytes(b"")
    assert os.fsencode(name).startswith(b"\xff\xfe\xff\xfe")


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/cadlib", "x" * 300])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    for check in (make_folder, check_folder, lambda path: check_file(path / "report.html")):
        if check is check_folder and name == "x" * 300:
            continue  # only making it would tell
        with pytest.raises(UsageError, match="Expected"):
            check(tmp_path / name)


@pytest.mark.parametrize("name", [".", "x" * 300 + ".html"])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, name):
    with pytest.raises(UsageError, match="Expected"):
        check_file(tmp_path / name)


def test_a_file_that_can_be_written_is_left_as_it_was(tmp_path):
    (tmp_path / "old.html").write_text("old")
    check_file(tmp_path / "old.html")
    check_file(tmp_path / "new" / "new.html")
    check_folder(tmp_path / "not" / "made")
    assert (tmp_path / "old.html").read_text() == "old"
    assert list((tmp_path / "new").iterdir()) == []
    assert not (tmp_path / "not").exists()


def test_a_pipe_as_output_is_not_touched(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_file(tmp_path / "pipe")  # to open it would wait for a reader


@pytest.mark.parametrize(
    "line",
    [
        ["predict", "{images}", "--heatmap", "{file}"],
        ["evaluate", "--model", "isic2019", "--data", "{images}", "--output", "{file}"],
        ["report", "--model", "isic2019", "--data", "{images}", "--output", "{file}/report.html"],
        [
            "suspects",
            "--model",
            "isic2019",
            "--data",
            "{images}",
            "--output",
            "{file}/suspects.csv",
        ],
        ["suspects", "--model", "isic2019", "--data", "{images}", "--output", "{images}"],
        ["audit", "--data", "{images}", "--sheet", "{images}"],
        ["robustness", "--data", "{images}", "--output", "{file}"],
        ["saliency", "--data", "{images}", "--output", "{file}"],
        ["train", "--data", "{images}", "--name", "x", "--run-dir", "{file}/run"],
        ["download", "--to", "{file}"],
    ],
    ids=lambda line: f"{line[0]} {line[-2]}",
)
def test_an_output_that_cannot_be_written_is_bad_usage(folder, tmp_path, line, capsys):
    file = tmp_path / "file"
    file.write_text("no folder")
    assert main([part.format(images=folder, file=file) for part in line]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("cadlib: Expected")
