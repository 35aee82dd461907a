"""Storing the files of images."""

import io
import os
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cadlib.cases.image_store import ImageStore, decode, encode
from cadlib.errors import CaseStoreFailed


@pytest.fixture(params=["folder", "memory"])
def images(request, tmp_path) -> ImageStore:
    address = str(tmp_path / "images") if request.param == "folder" else f"memory://{uuid4().hex}"
    return ImageStore(address)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_pixels_are_read_as_they_were_encoded(height_px, width_px, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), np.uint8)
    decoded = decode(encode(pixels))
    assert np.array_equal(decoded, pixels)
    assert not decoded.flags.writeable


def test_a_file_has_no_metadata():
    data = encode(np.zeros((8, 8, 3), np.uint8))
    with Image.open(io.BytesIO(data)) as image:
        assert image.info == {}
        assert not image.getexif()


def test_a_file_is_found_by_its_hash(images):
    sha256 = images.write(b"content")
    assert images.write(b"content") == sha256
    assert images.has(sha256)
    assert images.read(sha256) == b"content"
    assert list(images.names()) == [sha256]
    images.remove(sha256)
    images.remove(sha256)
    assert not images.has(sha256)
    assert list(images.names()) == []


def test_a_missing_file_is_an_error(images):
    with pytest.raises(CaseStoreFailed, match=r"Expected the image 00.* but it is missing"):
        images.read("0" * 64)


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    images = ImageStore(str(tmp_path / "images"))

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CaseStoreFailed, match=r"No space left on device\. Nothing was saved"):
        images.write(b"content")
    files = [path for path in Path(images.address).rglob("*") if path.is_file()]
    assert files == []


def test_an_unknown_address_is_an_error():
    with pytest.raises(CaseStoreFailed, match="fsspec can open"):
        ImageStore("nothing://bucket")
