"""Counts and limits the memory of sessions, each and all together."""

import gc

import pytest

from cadlib.errors import HoldingFull
from cadlib.server import session_memory
from cadlib.server.session_memory import Holding, held_bytes, process_limit_bytes


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Let no session of another test count."""
    gc.collect()
    monkeypatch.setattr(session_memory, "_holdings", type(session_memory._holdings)())
    monkeypatch.setattr(session_memory, "_elsewhere", [])


def test_an_image_beyond_the_limit_of_a_session_is_refused(monkeypatch):
    monkeypatch.setattr(session_memory, "SESSION_LIMIT_BYTES", 3_000_000)
    session = Holding()
    session.take("a", 2_000_000)
    with pytest.raises(
        HoldingFull, match="at most 3 MB of images at a time, but found 2 MB and 2 MB more"
    ):
        session.take("b", 2_000_000)
    assert session.bytes == 2_000_000


def test_an_image_beyond_the_limit_of_the_server_is_refused(monkeypatch):
    monkeypatch.setenv("CADLIB_MEMORY_MB", "3")
    first = Holding()
    second = Holding()
    first.take("a", 2_000_000)
    with pytest.raises(HoldingFull, match="MB of all its users"):
        second.take("b", 2_000_000)


def test_there_is_room_again_once_an_image_is_removed(monkeypatch):
    monkeypatch.setattr(session_memory, "SESSION_LIMIT_BYTES", 3_000_000)
    session = Holding()
    for _ in range(60):
        session.take("a", 3_000_000)
        session.drop("a")
    assert held_bytes() == 0


def test_a_session_that_ended_no_longer_counts():
    session = Holding()
    session.take("a", 5)
    assert held_bytes() == 5
    del session
    assert held_bytes() == 0


def test_an_image_given_twice_counts_once():
    session = Holding()
    session.take("a", 5)
    session.take("a", 7)
    assert session.bytes == 7


def test_derived_data_is_computed_once_and_freed_with_its_image():
    session = Holding()
    computations = []
    for _ in range(2):
        assert (
            session.derived("image", "square", lambda: computations.append(1) or b"123", len)
            == b"123"
        )
    assert (len(computations), session.bytes) == (1, 3)
    session.derived("other", "square", lambda: b"12", len)
    session.forget("image")
    assert session.bytes == 2


def test_the_oldest_derived_picture_gives_way(monkeypatch):
    monkeypatch.setattr(session_memory, "DERIVED_LIMIT_BYTES", 10)
    session = Holding()
    for name in "abc":
        session.derived(name, "square", lambda: b"1234", len)
    assert session.bytes == 8
    assert session.derived("a", "square", lambda: b"new", len) == b"new"
    assert session.derived("c", "square", lambda: b"new", len) == b"1234"


def test_a_derived_picture_that_fits_nowhere_is_returned_all_the_same(monkeypatch):
    monkeypatch.setattr(session_memory, "DERIVED_LIMIT_BYTES", 2)
    session = Holding()
    assert session.derived("a", "square", lambda: b"1234", len) == b"1234"
    assert session.bytes == 0


@pytest.mark.parametrize("value", ["much", "0", "-1", "1.5"])
def test_a_limit_that_is_no_number_is_an_error(monkeypatch, value):
    monkeypatch.setenv("CADLIB_MEMORY_MB", value)
    with pytest.raises(ValueError, match="Expected CADLIB_MEMORY_MB to be a number of megabytes"):
        process_limit_bytes()


def test_half_of_a_small_container_may_be_held(monkeypatch, tmp_path):
    monkeypatch.delenv("CADLIB_MEMORY_MB", raising=False)
    (tmp_path / "memory.max").write_text("1000000\n")
    monkeypatch.setattr(session_memory, "_CGROUP_LIMIT", tmp_path / "memory.max")
    assert process_limit_bytes() == 500_000


def test_data_derived_during_removal_is_not_held():
    here = session_memory.Holding()

    def compute():
        here.forget("image")  # as the reader removes it meanwhile
        return b"picture"

    assert here.derived("image", "small", compute, len) == b"picture"
    assert here.bytes == 0
