"""A cache that cannot be written: one warning that names CADLIB_CACHE, and all results."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cadlib.__main__ import main
from cadlib.evaluation.cached import evaluated, evaluation_folder, read_evaluation
from cadlib.files import cache
from cadlib.files.cache import (
    give_up,
    given_up,
    is_standing,
    keep,
    keep_array,
    keep_by,
    kept_files,
    standing,
)
from cadlib.images.thumbnails import thumbnail
from cadlib.label_review import Suspects, kept
from cadlib.label_review import keep as keep_suspects
from cadlib.label_review.lists import findings
from cadlib.model.record import read_record

pytestmark = pytest.mark.usefixtures("few_draws")

ROOT = Path(__file__).parents[1]
FULL = OSError(errno.ENOSPC, "No space left on device")


def warnings(caplog) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if "CADLIB_CACHE" in entry.getMessage()]


@pytest.fixture
def good(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "good"))
    return tmp_path / "good"


@pytest.fixture(params=["a file", "below a file", "closed", "a circle of links", "no home folder"])
def unusable(request, tmp_path, monkeypatch) -> None:
    """Let the cache folder be one that cannot be written."""
    monkeypatch.setattr(cache, "_stand_ins", {})
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    folders = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "cache",
        "closed": Path("/proc/cadlib"),  # closed to everyone
        "a circle of links": tmp_path / "circle" / "cache",
    }
    if request.param in folders:
        monkeypatch.setenv("CADLIB_CACHE", str(folders[request.param]))
        return
    monkeypatch.delenv("CADLIB_CACHE", raising=False)
    monkeypatch.setattr(cache, "user_cache_path", lambda _: Path("~/.cache/cadlib"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_a_file_is_kept_whole_and_found_again(good):
    path = good / "kind" / "name.npy"
    assert not is_standing(path)
    keep_array(path, np.arange(5))
    assert standing(path) == path
    assert np.load(path).tolist() == [0, 1, 2, 3, 4]
    assert kept_files(path.parent, ".npy") == [path]
    assert not given_up()


def test_what_cannot_be_kept_stands_in_a_temporary_folder_with_one_warning(unusable, caplog):
    paths = [cache.cache_dir() / "kind" / f"{number}.npy" for number in range(3)]
    for number, path in enumerate(paths):
        keep_array(path, np.array([number]))
    assert [np.load(standing(path)).tolist() for path in paths] == [[0], [1], [2]]
    assert kept_files(paths[0].parent, ".npy") == [standing(path) for path in paths]
    assert len(warnings(caplog)) == 1
    assert str(cache.cache_dir()) in warnings(caplog)[0]
    assert not list(Path.cwd().glob("~"))


def test_without_a_temporary_folder_the_work_goes_on_with_one_warning(
    unusable, caplog, monkeypatch
):
    def refuse(**_):
        raise FULL

    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    path = cache.cache_dir() / "kind" / "name.npy"
    for _ in range(2):
        assert not keep_by(path, lambda place: place.write_bytes(b""))
        assert not is_standing(path)
    assert kept_files(path.parent, ".npy") == []
    assert len(warnings(caplog)) == 1


def test_what_was_kept_before_the_disk_was_full_is_still_read(good, caplog):
    before, after = good / "before.npy", good / "after.npy"
    keep_array(before, np.array([1]))
    give_up(FULL)
    keep_array(after, np.array([2]))
    assert standing(before) == before
    assert standing(after) != after
    assert kept_files(good, ".npy") == sorted([before, standing(after)])
    assert "No space left on device" in warnings(caplog)[0]


def test_a_disk_that_fills_up_while_a_file_is_written_leaves_no_half_of_it(good, caplog):
    attempts = []

    def write(file):
        file.write(b"half")
        attempts.append(file.name)
        if len(attempts) == 1:
            raise FULL

    keep(good / "name.bin", write)
    assert list(good.rglob("*.*")) == []
    assert standing(good / "name.bin").read_bytes() == b"half"
    assert len(warnings(caplog)) == 1


def test_a_stop_while_a_file_is_written_is_no_reason_to_give_up(good):
    def stop(_file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(good / "name.bin", stop)
    assert list(good.rglob("*.*")) == []
    assert not given_up()


def test_a_tilde_in_the_variable_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CADLIB_CACHE", "~/cache")
    assert cache.cache_dir() == tmp_path / "cache"


def test_the_temporary_folder_is_removed_at_the_end(tmp_path):
    code = "from cadlib.files.cache import *; p = cache_dir() / 'a.npy'; keep_array(p, np.zeros(1)); print(standing(p))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "CADLIB_CACHE": "/proc/cadlib"},
    )  # fmt: skip
    path = Path(ended.stdout.strip())
    assert path.name == "a.npy"
    assert not path.parent.exists()
    assert ended.stderr.count("CADLIB_CACHE") == 1


def test_a_thumbnail_comes_without_a_cache(unusable, tmp_path, caplog):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((300, 300, 3), 128, np.uint8)).save(path)
    assert thumbnail(path) == thumbnail(path)
    assert Image.open(io.BytesIO(thumbnail(path))).size == (240, 240)
    assert len(warnings(caplog)) == 1


def test_suspects_are_found_again_without_a_cache(unusable, drawn_dataset, caplog):
    table = findings([{"kind": "unreadable files", "image": "a", "score": 1.0, "why": "damaged"}])
    lists = Suspects(drawn_dataset.name, "model", "now", 32, 0, table)
    keep_suspects(lists, drawn_dataset)
    assert kept(drawn_dataset, "model").table["image"].tolist() == ["a"]
    assert len(warnings(caplog)) == 1


def test_an_evaluation_is_whole_without_a_cache(
    unusable, drawn_model_folder, drawn_dataset, caplog
):
    record = read_record(drawn_model_folder)
    made = evaluated(drawn_model_folder, record, drawn_dataset, lambda *_: None)
    again = read_evaluation(evaluation_folder(record, drawn_dataset), record, drawn_dataset)
    assert again is not None
    assert np.array_equal(made.probabilities, again.probabilities)
    assert made.figures == again.figures
    assert len(warnings(caplog)) == 1


def test_an_evaluation_is_the_same_where_nothing_at_all_can_be_kept(
    good, drawn_model_folder, drawn_dataset, monkeypatch, tmp_path
):
    record = read_record(drawn_model_folder)
    expected = evaluated(drawn_model_folder, record, drawn_dataset, lambda *_: None)

    def refuse(**_):
        raise FULL

    monkeypatch.setenv("CADLIB_CACHE", "/proc/cadlib-full")
    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    made = evaluated(drawn_model_folder, record, drawn_dataset, lambda *_: None)
    assert np.allclose(made.probabilities, expected.probabilities, atol=1e-6)
    assert made.table.equals(expected.table)
    assert made.figures.keys() == expected.figures.keys()
    assert made.figures["data"] == expected.figures["data"]


COMMANDS = {
    "report": ("--output", "report.html"),
    "suspects": ("--output", "suspects.csv"),
    "index": (),
    "audit": ("--sheet", "sheet.html"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_writes_its_results_without_a_cache(
    command, drawn_model_folder, drawn_dataset, tmp_path, monkeypatch, caplog
):
    """Each of them keeps pixels, hashes or features."""
    monkeypatch.setenv("CADLIB_CACHE", "/proc/cadlib")
    monkeypatch.setattr(cache, "_stand_ins", {})
    output = [str(tmp_path / value) if value[0] != "-" else value for value in COMMANDS[command]]
    line = [
        command,
        "--model",
        str(drawn_model_folder),
        "--data",
        str(tmp_path / "split" / "drawn"),
        *output,
    ]
    assert main(line) == 0
    assert all(Path(value).exists() for value in output[1::2])
    assert len(warnings(caplog)) == 1


def test_training_goes_on_without_a_cache(synthetic_dataset, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CADLIB_CACHE", "/proc/cadlib")
    monkeypatch.setattr(cache, "_stand_ins", {})
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    size = [
        "--input-px",
        "64",
        "--first-px",
        "32",
        "--last-px",
        "32",
        "--epochs",
        "1",
        "--batch-size",
        "16",
    ]
    line = [
        "train",
        "--data",
        str(synthetic_dataset),
        "--name",
        "x",
        "--run-dir",
        str(tmp_path / "run"),
        *size,
    ]
    network = [
        "--no-pretrained",
        "--backbone",
        "test_efficientnet",
        "--accelerator",
        "cpu",
        "--workers",
        "1",
    ]
    assert main([*line, *network]) == 0
    assert (tmp_path / "models" / "x" / "model.json").exists()
    assert len(warnings(caplog)) == 1
