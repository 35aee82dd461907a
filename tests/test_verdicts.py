"""Verdicts on suspects survive new lists, and two readers who judge at once lose none."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from portalocker import Lock

from cadlib.errors import VerdictsInvalid
from cadlib.label_review import (
    CHOICES,
    KINDS,
    Finding,
    Suspects,
    Verdict,
    beside,
    cleaned,
    read_verdicts,
    said_now,
    save_verdict,
)
from cadlib.label_review import verdicts as store
from cadlib.label_review.lists import COLUMNS, findings

HEAD = "kind,image,other_image,diagnosis,other_diagnosis,verdict,should_be,when_utc\n"
WHEN = "2026-01-31T12:00:00+00:00"
VERDICT_LINE = f"doubted labels,a,,NV,,cannot tell,,{WHEN}\n"
ROWS: list[dict[str, object]] = [
    {"kind": "doubted labels", "image": "b", "diagnosis": "NV", "suggested": "MEL", "score": 0.9, "why": "w"},
    {"kind": "doubted labels", "image": "a", "diagnosis": "BCC", "suggested": "AK", "score": 0.8, "why": "w"},
    {"kind": "near-duplicates", "image": "d", "other_image": "c", "diagnosis": "NV", "score": 1.0, "why": "w"},
    {"kind": "contradictions", "image": "f", "other_image": "e", "diagnosis": "NV", "other_diagnosis": "MEL",
     "score": 1.0, "why": "w"},
    {"kind": "unreadable files", "image": "g", "score": 1.0, "why": "w"},
]  # fmt: skip


def lists(rows: list[dict[str, object]] = ROWS, model_id: str = "m 1.0.0") -> Suspects:
    return Suspects("drawn", model_id, "now", 10, 8, findings(rows))


def about(row: dict[str, object]) -> Finding:
    return Finding.of(next(lists([row]).table.itertuples()))


def say(
    row: dict[str, object], words: str, should_be: str = "", dataset: str = "drawn"
) -> Verdict | None:
    return save_verdict(dataset, about(row), Verdict(words, should_be, WHEN))


def verdicts_beside(suspects: Suspects) -> dict[str, str]:
    table = beside(suspects, read_verdicts(suspects.dataset)).table
    return dict(table[["image", "verdict"]].dropna().itertuples(index=False, name=None))


def test_there_is_a_vocabulary_for_every_kind_of_finding():
    assert list(CHOICES) == list(KINDS)
    assert all(len(set(words)) == len(words) >= 2 for words in CHOICES.values())


def test_verdicts_are_read_back_beside_the_lists():
    say(ROWS[0], "label is wrong", "MEL")
    say(ROWS[2], "same picture")
    table = beside(lists(), read_verdicts("drawn")).table
    assert list(table) == [*COLUMNS, "verdict", "should_be", "when_utc"]
    assert table["verdict"].fillna("").tolist() == ["label is wrong", "", "same picture", "", ""]
    assert table["should_be"].fillna("").tolist() == ["MEL", "", "", "", ""]
    assert table["when_utc"].fillna("").tolist() == [WHEN, "", WHEN, "", ""]
    assert list(beside(lists(), read_verdicts("drawn")).done.values()) == [1, 1, 0, 0]


def test_the_file_is_a_table_that_a_person_can_read(verdicts_folder):
    say(ROWS[3], "a label is wrong", "NV")
    say({**ROWS[0], "image": 'b,"ü"'}, "label is right")
    assert (verdicts_folder / "drawn.csv").read_text(encoding="utf-8").splitlines() == [
        HEAD.strip(),
        f"contradictions,e,f,MEL,NV,a label is wrong,NV,{WHEN}",
        f'doubted labels,"b,""ü""",,NV,,label is right,,{WHEN}',
    ]
    assert [finding.image for finding in read_verdicts("drawn")] == ["e", 'b,"ü"']


def swapped_pair(row):
    """Return the row of a pair with its two images in the other order, and another score."""
    return {
        **row,
        "image": row["other_image"],
        "other_image": row["image"],
        "diagnosis": row.get("other_diagnosis"),
        "other_diagnosis": row["diagnosis"],
        "score": 0.3,
    }


def test_verdicts_survive_reordered_lists_and_pairs():
    verdicts = ("label is wrong", "label is right", "different", "not one lesion", "fetch again")
    for row, words in zip(ROWS, verdicts, strict=True):
        say(row, words)
    turned = [swapped_pair(row) for row in ROWS[2:4]]
    more = {**ROWS[0], "image": "new", "score": 1.0}
    verdicts = verdicts_beside(
        lists([more, *turned, ROWS[4], {**ROWS[1], "score": 0.95}, ROWS[0]], "m 2.0.0")
    )
    assert verdicts == {
        "a": "label is right",
        "b": "label is wrong",
        "c": "different",
        "e": "not one lesion",
        "g": "fetch again",
    }


def test_a_corrected_label_is_judged_again_but_not_a_pair():
    for row, words in (
        (ROWS[0], "label is wrong"),
        (ROWS[2], "same picture"),
        (ROWS[3], "cannot tell"),
    ):
        say(row, words)
    corrected = [{**row, "diagnosis": "DF"} for row in (ROWS[0], ROWS[2], ROWS[3])]
    assert verdicts_beside(lists(corrected)) == {"d": "same picture"}
    assert len(verdicts_beside(lists())) == 3  # and nothing is lost


def test_another_data_set_has_verdicts_of_its_own():
    say(ROWS[0], "label is right", dataset="other")
    assert verdicts_beside(lists()) == {}


def test_a_verdict_can_be_changed_and_withdrawn():
    assert say(ROWS[0], "label is wrong", "MEL") is None
    assert say(ROWS[0], "cannot tell") == Verdict("label is wrong", "MEL", WHEN)
    assert verdicts_beside(lists()) == {"b": "cannot tell"}
    assert save_verdict("drawn", about(ROWS[0]), None) == Verdict("cannot tell", "", WHEN)
    assert verdicts_beside(lists()) == {}
    assert save_verdict("drawn", about(ROWS[0]), None) is None


def test_a_verdict_of_now_has_its_time_in_utc():
    now = pd.Timestamp.now("UTC")
    time = pd.Timestamp(said_now("cannot tell").when_utc)
    assert abs(now - time) < pd.Timedelta(seconds=5)
    assert time.utcoffset() == pd.Timedelta(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: say(ROWS[0], "same picture"), "Expected one of label is right"),
        (lambda: say(ROWS[0], "label is right", "MEL"), "got 'MEL' beside 'label is right'"),
        (lambda: say(ROWS[0], "label is wrong", "melanoma"), "got 'melanoma'"),
        (lambda: Verdict("cannot tell", "", "yesterday"), "got 'yesterday'"),
        (
            lambda: Verdict("cannot tell", "", "2026-01-31T12:00:00+02:00"),
            "got '2026-01-31T12:00:00.02:00'",
        ),
        (lambda: Verdict("cannot tell", "", "2026-01-31T12:00:00"), "got '2026-01-31T12:00:00'"),
        (lambda: Finding("doubts", "a"), "one of doubted labels"),
        (lambda: Finding("near-duplicates", "a", "a"), "but got 'a' and 'a'"),
        (lambda: about({**ROWS[4], "image": None}), "an image in a finding of 'unreadable files'"),
    ],
)
def test_refuses_an_invalid_verdict(make, message, verdicts_folder):
    with pytest.raises(VerdictsInvalid, match=message):
        make()
    assert not verdicts_folder.exists() or not [*verdicts_folder.iterdir()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 0: Expected the columns kind,image"),
        (b"image\na\n", "line 1: Expected the columns kind,image.* but got 'image'"),
        (f"{HEAD}doubted labels,a\n".encode(), "line 2: Expected 8 values but got 2"),
        (f"{HEAD}doubts,a,,NV,,cannot tell,,{WHEN}\n".encode(), "line 2: Expected a kind"),
        (f"{HEAD}doubted labels,,,NV,,cannot tell,,{WHEN}\n".encode(), "line 2: Expected an image"),
        (f"{HEAD}doubted labels,a,,NV,,perhaps,,{WHEN}\n".encode(), "but got 'perhaps'"),
        (f"{HEAD}doubted labels,a,,NV,,cannot tell,,today\n".encode(), "Expected a time"),
        (f"{HEAD}doubted labels,a,,NV,,label is wrong,XX,{WHEN}\n".encode(), "got 'XX'"),
        (f"{HEAD}{VERDICT_LINE}{VERDICT_LINE}".encode(), "line 3: Expected one verdict on a"),
        (f'{HEAD}doubted labels,"a\n'.encode(), "line 2: unexpected end of data"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_left_as_it_is(content, message, verdicts_folder):
    verdicts_folder.mkdir()
    path = verdicts_folder / "drawn.csv"
    path.write_bytes(content)
    for use in (lambda: read_verdicts("drawn"), lambda: say(ROWS[0], "cannot tell")):
        with pytest.raises(VerdictsInvalid, match=rf"(?s)drawn\.csv.*{message}"):
            use()
    assert path.read_bytes() == content


def test_a_file_edited_by_hand_is_read(verdicts_folder):
    verdicts_folder.mkdir()
    line = f"near-duplicates,d,c,NV,NV,same picture,,{WHEN}"
    (verdicts_folder / "drawn.csv").write_text(
        f"\ufeff{HEAD.strip()}\r\n{line}\r\n\r\n", encoding="utf-8"
    )
    assert verdicts_beside(lists()) == {"d": "same picture"}


def test_a_folder_that_cannot_be_written_is_named(verdicts_folder):
    verdicts_folder.write_text("no folder")
    with pytest.raises(VerdictsInvalid, match="cannot be written: .*CADLIB_VERDICTS"):
        say(ROWS[0], "cannot tell")


def test_two_processes_at_once_lose_no_verdict_of_each_other():
    code = (
        "import sys; from cadlib.label_review import *\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(60):\n"
        "    save_verdict('drawn', Finding('unreadable files', f'{sys.argv[1]}-{n}'), said_now('fetch again'))"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    root = Path(__file__).parents[1]
    running = [
        subprocess.Popen([sys.executable, "-c", code, name], cwd=root, **pipes) for name in "ab"
    ]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0, 0]
    assert {finding.image for finding in read_verdicts("drawn")} == {
        f"{name}-{n}" for name in "ab" for n in range(60)
    }


def test_reports_a_lock_held_too_long(verdicts_folder, monkeypatch):
    monkeypatch.setattr(store, "_LOCKED_S", 0.1)
    say(ROWS[0], "cannot tell")
    with (
        Lock(verdicts_folder / ".drawn.csv.lock", "a"),
        pytest.raises(VerdictsInvalid, match="another process"),
    ):
        say(ROWS[1], "cannot tell")
    assert verdicts_beside(lists()) == {"b": "cannot tell"}


def table_of(**codes: str) -> pd.DataFrame:
    return pd.DataFrame({"image": list(codes), "diagnosis": list(codes.values())})


def test_nothing_is_cleaned_without_a_verdict():
    assert cleaned(table_of(b="NV", a="MEL"), {}) == ("b", "a")


def test_an_image_whose_label_was_judged_wrong_is_left_out_until_it_is_corrected():
    say(ROWS[0], "label is wrong", "MEL")
    say(ROWS[1], "label is right")
    verdicts = read_verdicts("drawn")
    assert cleaned(table_of(a="BCC", b="NV"), verdicts) == ("a",)
    assert cleaned(table_of(a="BCC", b="MEL"), verdicts) == ("a", "b")


@pytest.mark.parametrize(
    ("should_be", "remaining"),
    [("NV", ("f", "x")), ("MEL", ("e", "x")), ("DF", ("x",)), ("", ("x",))],
)
def test_cleaning_keeps_the_image_with_the_right_diagnosis(should_be, remaining):
    say(ROWS[3], "a label is wrong", should_be)
    assert cleaned(table_of(e="MEL", f="NV", x="NV"), read_verdicts("drawn")) == remaining


def test_cleaning_keeps_the_first_of_identical_images():
    pair = ROWS[2]
    for image, other_image in (("d", "c"), ("d", "h"), ("k", "i"), ("n", "m")):
        words = "same lesion" if image == "n" else "same picture"
        say({**pair, "image": image, "other_image": other_image}, words)
    table = table_of(m="NV", n="NV", k="NV", i="NV", h="NV", d="NV", c="NV")
    assert cleaned(table, read_verdicts("drawn")) == ("m", "n", "i", "c")


def test_a_wrongly_labelled_image_does_not_replace_another():
    say({**ROWS[2], "image": "d", "other_image": "b"}, "same picture")
    say({**ROWS[2], "image": "h", "other_image": "b"}, "same picture")
    say(ROWS[0], "label is wrong", "MEL")
    assert cleaned(table_of(b="NV", d="NV", h="NV"), read_verdicts("drawn")) == ("d",)
    assert cleaned(table_of(d="NV", h="NV"), read_verdicts("drawn")) == (
        "d",
    )  # b is not there at all


def test_lists_with_verdicts_show_how_many_are_done():
    say(ROWS[0], "cannot tell")
    text = str(beside(lists(), read_verdicts("drawn")))
    assert "       2  doubted labels, 1 done\n" in text
    assert "       1  near-duplicates, 0 done\n" in text
    assert "done" not in str(lists())
