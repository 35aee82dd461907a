import io

import numpy as np
import pytest
from PIL import Image

from cadlib.errors import ImageRejected
from cadlib.images import thumbnails
from cadlib.images.synthetic import render_lesion
from cadlib.images.thumbnails import SIDE_PX, thumbnail


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "lesion.jpg"
    Image.fromarray(render_lesion("MEL", 0, 600)).crop((0, 75, 600, 525)).save(path, quality=90)
    return path


def test_a_thumbnail_is_the_picture_made_small(picture):
    small = Image.open(io.BytesIO(thumbnail(picture)))
    assert small.size == (SIDE_PX, SIDE_PX * 3 // 4)
    exact = Image.open(picture).resize(small.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(small, float) - np.asarray(exact, float)).mean() < 2


def test_a_thumbnail_is_made_once_for_each_version_of_a_file(picture, monkeypatch):
    first = thumbnail(picture)
    monkeypatch.setattr(thumbnails, "read_image", lambda *_, **__: pytest.fail("made again"))
    assert thumbnail(picture) == first
    monkeypatch.undo()
    monkeypatch.setenv("CADLIB_CACHE", str(picture.parent / "cache"))
    Image.fromarray(render_lesion("NV", 0, 600)).save(picture, quality=90)
    assert thumbnail(picture) != first


def test_a_file_that_cannot_be_read_has_none_and_leaves_none(picture):
    picture.write_bytes(picture.read_bytes()[:2000])
    for _ in range(2):
        with pytest.raises(ImageRejected, match="incomplete or damaged"):
            thumbnail(picture)
    assert not list((picture.parent / "cache").rglob("*"))


def test_a_cache_folder_that_is_a_file_is_no_reason_to_fail(picture):
    picture.parent.joinpath("cache").write_text("no folder")
    assert thumbnail(picture) == thumbnail(picture)
