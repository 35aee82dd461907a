from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from cadlib.data import pixel_cache
from cadlib.data.dataset import open_dataset
from cadlib.data.pixel_cache import cached_pixels
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.images import read_image
from cadlib.images.preprocess import InputSpec, to_pixels

SPEC = InputSpec(48, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), symmetric=True)


@pytest.fixture
def table(synthetic_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    return open_dataset(synthetic_dataset).table.head(10)


def test_holds_exactly_what_prediction_reads(table):
    cached = cached_pixels(table, SPEC)
    for row, path in enumerate(table["path"]):
        assert np.array_equal(cached[row], to_pixels(read_image(path), SPEC))


def test_the_second_call_decodes_nothing(table, monkeypatch):
    first = cached_pixels(table, SPEC)[:]
    monkeypatch.setattr(pixel_cache, "read_image", None)
    assert np.array_equal(cached_pixels(table, SPEC)[:], first)


def test_rows_are_read_in_the_requested_order(table):
    cached = cached_pixels(table, SPEC)
    stored = np.load(cached.path)
    assert stored.shape == cached.shape
    rows = np.array([7, 0, 7, -1])
    assert np.array_equal(cached[rows], stored[rows])
    assert np.array_equal(cached[2:9:3], stored[2:9:3])
    assert cached[rows[:0]].shape == (0, 48, 48, 3)
    with pytest.raises(IndexError):
        cached[10]


def test_images_cached_before_a_stop_are_not_decoded_again(table, tmp_path, monkeypatch):
    def stop(_step, done, _total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_pixels(table, SPEC, stop)
    [part] = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    with part.open("r+b") as file:  # as a killed process leaves it: in the middle of a row
        file.truncate(part.stat().st_size - 1)
    read = []
    calls = []
    monkeypatch.setattr(
        pixel_cache, "read_image", lambda path: read.append(path) or read_image(path)
    )
    cached = cached_pixels(table, SPEC, lambda _, *step: calls.append(step))
    assert sorted(read) == table["path"].tolist()[5:]
    assert calls == [(done, 10) for done in range(6, 11)]
    for row, path in enumerate(table["path"]):
        assert np.array_equal(cached[row], to_pixels(read_image(path), SPEC))


def test_a_process_that_fills_the_same_file_at_the_same_time_spoils_nothing(table):
    inner = []

    def start_another(_step, done, _total):
        if done == 4:
            inner.append(cached_pixels(table, SPEC)[:])

    outer = cached_pixels(table, SPEC, start_another)[:]
    assert np.array_equal(inner[0], outer)
    for row, path in enumerate(table["path"]):
        assert np.array_equal(outer[row], to_pixels(read_image(path), SPEC))


def test_a_file_that_ends_too_early_is_refused(table):
    cached = cached_pixels(table, SPEC)
    with cached.path.open("r+b") as file:
        file.truncate(cached.path.stat().st_size - 1)
    assert cached[8].shape == (48, 48, 3)
    with pytest.raises(DatasetInvalid, match="ends before row 9; delete the file"):
        cached[9]


def test_another_size_is_another_cache(table):
    cached_pixels(table, SPEC)
    assert cached_pixels(
        table, InputSpec(32, "bicubic", SPEC.mean, SPEC.std, symmetric=True)
    ).shape == (
        10,
        32,
        32,
        3,
    )


def test_a_changed_file_makes_a_new_cache(table, tmp_path):
    own = tmp_path / "own.png"
    own.write_bytes(Path(table["path"].iloc[0]).read_bytes())
    changing = table.assign(path=[str(own), *table["path"].iloc[1:]])
    before = cached_pixels(changing, SPEC)[0]
    own.write_bytes(Path(table["path"].iloc[-1]).read_bytes())
    after = cached_pixels(changing, SPEC)[0]
    assert np.array_equal(after, to_pixels(read_image(own), SPEC))
    assert not np.array_equal(after, before)


def test_nothing_is_left_when_an_image_cannot_be_read(table, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff no picture")
    unreadable = table.assign(path=[*table["path"].iloc[:-1], str(bad)])
    with pytest.raises(ImageRejected):
        cached_pixels(unreadable, SPEC)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_on_a_full_disk_nothing_is_written_and_the_images_are_decoded(
    table, tmp_path, monkeypatch, caplog
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _path: usage(10**9, 10**9 - 1, 1))
    decoded = cached_pixels(table, SPEC)
    expected = np.stack([to_pixels(read_image(path), SPEC) for path in table["path"]])
    assert np.array_equal(decoded[:], expected)
    assert np.array_equal(decoded[-1], expected[-1])
    assert np.array_equal(np.concatenate(list(decoded.batches(4))), expected)
    with pytest.raises(IndexError):
        decoded[10]
    assert "CADLIB_CACHE" in caplog.text
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
