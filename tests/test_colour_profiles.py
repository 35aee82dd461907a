"""Colour profiles cost a bounded amount of memory."""

import gc
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cadlib.images import read_image
from cadlib.images.colour import transforms
from cadlib.images.colour.transforms import (
    MAX_KEPT,
    MAX_KEPT_PROFILE_BYTES,
    MAX_PROFILE_BYTES,
    cache_by_digest,
)
from cadlib.images.decoding.pool import decoder_pool
from tests import hostile_files
from tests.encoded_images import encoded
from tests.hostile_files import large_profile, riff_chunk


def test_a_profile_that_is_absurdly_large_is_left_aside_with_a_note() -> None:
    data = encoded(
        hostile_files.picture(), "TIFF", icc_profile=large_profile(MAX_PROFILE_BYTES + 1)
    )
    image = read_image(data)
    assert any("16 MB that are read, and was ignored" in note for note in image.notes)
    assert np.array_equal(image.pixels, np.asarray(hostile_files.picture()))


def test_a_large_profile_is_used() -> None:
    data = encoded(hostile_files.picture(), "TIFF", icc_profile=large_profile(8 * 2**20))
    assert read_image(data).notes == (
        "The colours were converted to sRGB by the colour profile of the file.",
    )


def test_the_same_profile_is_computed_once() -> None:
    computed: list[bytes] = []
    transform = cache_by_digest(lambda icc: computed.append(icc) or len(computed))
    assert [transform(b"one"), transform(b"two"), transform(b"one")] == [1, 2, 1]


def test_no_more_than_a_few_results_are_kept() -> None:
    computed: list[bytes] = []
    transform = cache_by_digest(computed.append)
    for number in range(MAX_KEPT + 1):
        transform(bytes([number]))
    transform(bytes([0]))
    assert len(computed) == MAX_KEPT + 2


def test_the_result_for_a_large_profile_is_not_kept() -> None:
    computed: list[bytes] = []
    transform = cache_by_digest(computed.append)
    for _ in range(2):
        transform(bytes(MAX_KEPT_PROFILE_BYTES + 1))
    assert len(computed) == 2


def test_the_profiles_themselves_are_not_kept() -> None:
    transform = cache_by_digest(len)
    tracemalloc.start()
    try:
        for number in range(MAX_KEPT):
            transform(bytes([number]) * MAX_KEPT_PROFILE_BYTES)
        gc.collect()
        allocated_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert allocated_bytes < MAX_KEPT_PROFILE_BYTES


@pytest.mark.parametrize("source", ["bytes", "Pillow image"])
def test_many_large_profiles_leave_little_behind(source: str) -> None:
    """320 MB of profiles pass through this process and its decoders."""
    profile_bytes = 10 * 2**20
    read_image(encoded(hostile_files.picture(), "PNG"))
    before = resident_bytes()
    for number in range(32):
        icc = large_profile(profile_bytes, number)
        if source == "bytes":
            read_image(hostile_files.webp_with(riff_chunk(b"ICCP", icc)))
        else:
            image = Image.new("RGB", (80, 80))
            image.info["icc_profile"] = icc
            read_image(image)
    gc.collect()
    assert resident_bytes() - before < 12 * profile_bytes


def resident_bytes() -> int:
    """Return the memory of this process and its decoders, in bytes."""
    pids = [os.getpid(), *decoder_pool(0).worker_pids()]
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def test_the_note_names_the_limit_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_PROFILE_BYTES", 2**20)
    assert "has 2 MB, more than the 1 MB" in transforms.too_large_note(bytes(2 * 2**20))
