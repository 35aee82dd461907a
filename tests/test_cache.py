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
from cadlib.evaluation.cached import cached_evaluation, evaluation_folder, read_evaluation
from cadlib.files import cache
from cadlib.files.cache import Cache, CacheEntry, key_of
from cadlib.images.thumbnails import thumbnail
from cadlib.label_review import Suspects, kept
from cadlib.label_review import keep as keep_suspects
from cadlib.label_review.lists import findings
from cadlib.model.record import read_record
from tests.tiny_training import TINY, flags

pytestmark = pytest.mark.usefixtures("few_draws")

ROOT = Path(__file__).parents[1]
FULL = OSError(errno.ENOSPC, "No space left on device")


def entry_of(name: str) -> CacheEntry:
    return CacheEntry(cache.cache_dir() / "kind" / name)


def store(entry: CacheEntry, number: int) -> None:
    entry.write(lambda file: np.save(file, np.array([number])))


def stored(entry: CacheEntry) -> list[int]:
    return entry.read(np.load).tolist()


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
    entry = entry_of("name.npy")
    assert not entry.exists()
    assert entry.read(np.load) is None
    store(entry, 5)
    assert entry.place == entry.path
    assert stored(entry) == [5]
    assert Cache("kind", ".npy").entries() == [entry]
    assert not cache._given_up()


def test_uses_a_temporary_folder_with_one_warning(unusable, caplog):
    entries = [entry_of(f"{number}.npy") for number in range(3)]
    for number, entry in enumerate(entries):
        store(entry, number)
    assert [stored(entry) for entry in entries] == [[0], [1], [2]]
    assert Cache("kind", ".npy").entries() == entries
    assert len(warnings(caplog)) == 1
    assert str(cache.cache_dir()) in warnings(caplog)[0]
    assert not list(Path.cwd().glob("~"))


def test_works_without_a_temporary_folder_with_one_warning(unusable, caplog, monkeypatch):
    def refuse(**_):
        raise FULL

    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    entry = entry_of("name.npy")
    for _ in range(2):
        assert not entry.make(lambda place: place.write_bytes(b""))
        assert not entry.exists()
    assert Cache("kind", ".npy").entries() == []
    assert len(warnings(caplog)) == 1


def test_reads_files_cached_before_the_disk_was_full(good, caplog):
    before = entry_of("before.npy")
    after = entry_of("after.npy")
    store(before, 1)
    cache._give_up(FULL)
    store(after, 2)
    assert before.place == before.path
    assert after.place != after.path
    assert Cache("kind", ".npy").entries() == [after, before]
    assert [stored(before), stored(after)] == [[1], [2]]
    assert "No space left on device" in warnings(caplog)[0]


def test_an_entry_too_large_for_a_temporary_folder_is_not_written_there(unusable, caplog):
    entry = entry_of("large.npy")
    assert not entry.make(lambda place: place.write_bytes(b""), elsewhere=False)
    assert not entry.exists()
    assert len(warnings(caplog)) == 1


def test_a_disk_that_fills_up_while_a_file_is_written_leaves_no_half_of_it(good, caplog):
    attempts = []

    def write(file):
        file.write(b"half")
        attempts.append(file.name)
        if len(attempts) == 1:
            raise FULL

    entry = entry_of("name.bin")
    entry.write(write)
    assert list(good.rglob("*.*")) == []
    assert entry.read(Path.read_bytes) == b"half"
    assert len(warnings(caplog)) == 1


def test_a_stop_while_a_file_is_written_is_no_reason_to_give_up(good):
    def stop(_file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        entry_of("name.bin").write(stop)
    assert list(good.rglob("*.*")) == []
    assert not cache._given_up()


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\3\4 no archive"])
def test_a_damaged_file_counts_as_missing_and_is_named(good, caplog, content):
    entry = entry_of("name.npz")
    entry.write(lambda file: file.write(content))

    def read(place):
        with place.open("rb") as file:
            return np.load(file)

    assert entry.read(read) is None
    assert f"{entry.path} is damaged" in caplog.text


def test_a_private_entry_is_for_this_user_alone(good):
    entry = Cache("kind", ".bin", spread=True, private=True).entry("name")
    entry.write(lambda file: file.write(b"content"))
    assert entry.path.stat().st_mode & 0o077 == 0
    assert entry.path.parent.name == entry.path.stem[:2]


def test_other_facts_are_another_entry(good):
    keys = {
        key_of("ab"),
        key_of(b"ab"),
        key_of("a", "b"),
        key_of(b"a", b"b"),
        key_of(np.arange(6).data),
        key_of(np.arange(7).data),
    }
    assert len(keys) == 6
    assert key_of(np.arange(6).data) == key_of(np.arange(6).data)


def test_a_tilde_in_the_variable_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CADLIB_CACHE", "~/cache")
    assert cache.cache_dir() == tmp_path / "cache"


def test_the_temporary_folder_is_removed_at_the_end(tmp_path):
    code = (
        "from cadlib.files.cache import CacheEntry, cache_dir\n"
        "entry = CacheEntry(cache_dir() / 'a.bin')\n"
        "entry.write(lambda file: file.write(b'a'))\n"
        "print(entry.place)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "CADLIB_CACHE": "/proc/cadlib"},
    )  # fmt: skip
    path = Path(ended.stdout.strip())
    assert path.name == "a.bin"
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
    computed = cached_evaluation(drawn_model_folder, record, drawn_dataset, lambda *_: None)
    stored = read_evaluation(evaluation_folder(record, drawn_dataset), record, drawn_dataset)
    assert stored is not None
    assert np.array_equal(computed.probabilities, stored.probabilities)
    assert computed.metrics == stored.metrics
    assert len(warnings(caplog)) == 1


def test_an_evaluation_is_the_same_where_nothing_at_all_can_be_kept(
    good, drawn_model_folder, drawn_dataset, monkeypatch, tmp_path
):
    record = read_record(drawn_model_folder)
    expected = cached_evaluation(drawn_model_folder, record, drawn_dataset, lambda *_: None)

    def refuse(**_):
        raise FULL

    monkeypatch.setenv("CADLIB_CACHE", "/proc/cadlib-full")
    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse)
    computed = cached_evaluation(drawn_model_folder, record, drawn_dataset, lambda *_: None)
    assert np.allclose(computed.probabilities, expected.probabilities, atol=1e-6)
    assert computed.table.equals(expected.table)
    assert computed.metrics.subgroups.keys() == expected.metrics.subgroups.keys()
    assert computed.metrics.gaps == expected.metrics.gaps
    assert computed.metrics.data == expected.metrics.data


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


@pytest.mark.usefixtures("same_graphs")
def test_training_goes_on_without_a_cache(synthetic_dataset, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CADLIB_CACHE", "/proc/cadlib")
    monkeypatch.setattr(cache, "_stand_ins", {})
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    where = {"data": synthetic_dataset, "name": "x", "run_dir": tmp_path / "run"}
    settings = {**TINY, "last_px": 32, "epochs": 1, "workers": 1}
    assert main(["train", *flags({**where, **settings})]) == 0
    assert (tmp_path / "models" / "x" / "model.json").exists()
    assert len(warnings(caplog)) == 1
