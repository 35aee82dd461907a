from pathlib import Path

import msgspec
import pytest

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import convert
from cadlib.model.audit_result import LEAKS, LeakAudit, claim

FILE = Path("model.json")


def audit_of(**changes) -> LeakAudit:
    """Return a result without a leak, but for the changes."""
    facts = {
        "created": "2026-01-01T00:00:00+00:00", "dataset": "drawn", "split_sha256": "0" * 64,
        "images": {"train": 70, "validation": 15, "test": 15}, **dict.fromkeys(LEAKS, 0),
        "contradictions": dict.fromkeys(CONTRADICTIONS, 0), "named": (),
    }  # fmt: skip
    facts |= changes
    leaks = any(facts[name] for name in LEAKS)
    return LeakAudit(**facts, leaks=leaks)


def test_a_passed_audit_names_what_it_found_and_validates_nothing():
    assert not audit_of().leaks
    assert (
        claim(audit_of())
        == "leak audit passed: no image or lesion was found in more than one split"
    )
    assert "validated" not in claim(audit_of())


@pytest.mark.parametrize("name", LEAKS)
def test_one_leak_of_any_kind_removes_the_claim(name):
    audit = audit_of(**{name: 1})
    assert audit.leaks
    assert claim(audit) == f"NOT validated: its splits are not separate (1 {LEAKS[name]})"


def test_labels_that_contradict_each_other_are_no_leak():
    assert not audit_of(contradictions=dict.fromkeys(CONTRADICTIONS, 2)).leaks


def test_a_missing_audit_is_stated():
    assert claim(None, "mymodel") == (
        "not audited: it is not known whether evaluation lesions were also used for training; "
        "check with `python -m cadlib audit --model mymodel --data DIR --into-model`"
    )
    assert "validated" not in claim(None)


def test_the_audit_result_is_read_back():
    audit = audit_of(same_pictures=1, named=("one picture: a (train), b (test)",))
    raw = msgspec.to_builtins(audit)
    assert convert(raw, LeakAudit, FILE) == audit
    assert raw["leaks"] is True


@pytest.mark.parametrize(
    "change",
    [
        {"leaks": True},
        {"shared_lesions": 1},
        {"near_duplicates": -1},
        {"near_duplicates": 0.0},
        {"near_duplicates": False},
        {"dataset": None},
        {"named": [1]},
        {"images": {"train": "many"}},
        {"contradictions": {}},
        {"surprise": 1},
    ],
)
def test_refuses_a_result_that_is_wrong(change):
    raw = msgspec.to_builtins(audit_of()) | change
    with pytest.raises(ModelInvalid):
        convert(raw, LeakAudit, FILE)


@pytest.mark.parametrize("name", LeakAudit.__struct_fields__)
def test_refuses_a_result_without_a_key(name):
    raw = msgspec.to_builtins(audit_of())
    del raw[name]
    with pytest.raises(ModelInvalid, match=rf"`\$\.{name}` in model.json, but it is missing"):
        convert(raw, LeakAudit, FILE)
