import json

import pytest

from cadlib.errors import TrainingFailed
from cadlib.training.history import cut


def line(epoch: int) -> bytes:
    return json.dumps({"epoch": epoch, "loss": 1.5}).encode() + b"\n"


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_bytes(line(1) + line(2) + line(3))
    return path


def test_lines_of_later_epochs_are_cut(history):
    cut(history, 2, pytest.fail)
    assert history.read_bytes() == line(1) + line(2)


def test_a_run_without_a_history_gets_an_empty_one(tmp_path):
    cut(tmp_path / "history.jsonl", 0, pytest.fail)
    assert (tmp_path / "history.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    "torn",
    [b'{"epoch": 4, "lo', b"{", b"\0" * 40, b"\xff\xfe", b'{"epoch": 4, "loss": 1.5', b"12\n"],
)
def test_a_half_written_last_line_is_dropped_with_a_message(history, torn):
    content = history.read_bytes()
    history.write_bytes(content + torn)
    messages = []
    cut(history, 3, messages.append)
    assert history.read_bytes() == content
    assert len(messages) == 1
    assert "half written" in messages[0]


def test_keeps_a_last_line_without_a_line_break(history):
    content = history.read_bytes()
    history.write_bytes(content[:-1])
    cut(history, 3, pytest.fail)
    assert history.read_bytes() == content


@pytest.mark.parametrize(
    "torn",
    [
        b'{"epoch": 2, "lo\n',
        b"\n",
        b"[]\n",
        b'{"epoch": "2"}\n',
        b'{"epoch": true}\n',
        b"[" * 9999 + b"\n",
    ],
)
def test_a_broken_line_before_the_last_is_an_error_and_nothing_is_lost(history, torn):
    history.write_bytes(line(1) + torn + line(3))
    before = history.read_bytes()
    with pytest.raises(TrainingFailed, match="Expected line 2 of .*history.jsonl"):
        cut(history, 3, pytest.fail)
    assert history.read_bytes() == before
