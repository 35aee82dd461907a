"""The chain of the audit log, and what breaks it."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select, update

from cadlib.cases import audit_log, schema
from cadlib.cases.audit_log import BadEntry, canonical, digest, first_bad
from tests.case_examples import add_case, add_readings

log = schema.audit_log


def bad_entry(store) -> BadEntry | None:
    with store.read() as connection:
        return first_bad(audit_log.entries(connection))


@pytest.fixture
def filled(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[0])
    add_readings(store, case, assessment, model)
    return store


def test_a_log_that_nobody_changed_is_unbroken(filled):
    assert bad_entry(filled) is None


def test_an_empty_log_is_unbroken(store):
    assert bad_entry(store) is None


def test_an_entry_has_what_an_audit_asks_for(filled, model, lesion_images):
    """Input, output, time, model, and whether a person decided otherwise."""
    with filled.read() as connection:
        by_action = {entry.action: entry for entry in audit_log.entries(connection)}
    assessed = by_action["assess image"]
    assert assessed.details["model_id"] == model.record.model_id
    assert assessed.details["malignant_probability"] > 0
    assert by_action["add image"].details["source_sha256"] == lesion_images[0].sha256
    assert datetime.now(UTC) - assessed.at < timedelta(minutes=1)
    reading = by_action["read image"]
    assert reading.details["response"] == "overrides"
    assert reading.actor == "local"


def test_no_entry_has_a_name_or_a_note(store, lesion_images, assessment, model):
    case = add_case(store, "SECRET-NAME", lesion_images[0])
    add_readings(store, case, assessment, model)
    with store.read() as connection:
        text = canonical([dict(row._mapping) for row in connection.execute(select(log))])
    assert "SECRET" not in text
    assert "Growth" not in text


@pytest.mark.parametrize("column", ["actor", "action", "kind", "subject", "details", "at"])
def test_a_changed_entry_is_named(filled, column):
    value = datetime.now(UTC) - timedelta(days=1) if column == "at" else '{"x":1}'
    with filled.engine.begin() as connection:
        connection.execute(update(log).where(log.c.number == 5).values({column: value}))
    bad = bad_entry(filled)
    assert bad.number == 5
    assert "changed after it was written" in bad.reason


def test_a_changed_entry_with_its_hash_computed_anew_is_found_by_the_next(filled):
    with filled.engine.begin() as connection:
        entries = {entry.number: entry for entry in audit_log.entries(connection)}
        content = {
            "number": 5,
            "at": entries[5].at,
            "actor": "somebody else",
            "action": entries[5].action,
            "kind": entries[5].kind,
            "subject": entries[5].subject,
            "details": entries[5].details,
            "previous_sha256": entries[5].previous_sha256,
        }
        forged = {"actor": "somebody else", "sha256": digest(content)}
        connection.execute(update(log).where(log.c.number == 5).values(forged))
    bad = bad_entry(filled)
    assert bad == BadEntry(6, "it does not follow entry 5")


def test_a_removed_entry_is_named(filled):
    with filled.engine.begin() as connection:
        connection.execute(delete(log).where(log.c.number.in_([4, 5])))
    assert bad_entry(filled) == BadEntry(6, "entries 4 to 5 are missing")


def test_a_removed_beginning_is_named(filled):
    with filled.engine.begin() as connection:
        connection.execute(delete(log).where(log.c.number < 4))
    assert bad_entry(filled) == BadEntry(4, "entries before it are missing")


def test_details_that_are_no_json_are_named(filled):
    with filled.engine.begin() as connection:
        connection.execute(update(log).where(log.c.number == 3).values(details="[1"))
    assert bad_entry(filled).number == 3


def test_canonical_text_does_not_depend_on_the_order_of_keys():
    first = {"b": 1, "a": {"y": 0.1, "x": "é"}}
    second = {"a": {"x": "é", "y": 0.1}, "b": 1}
    assert canonical(first) == canonical(second) == '{"a":{"x":"é","y":0.1},"b":1}'


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_a_value_that_json_cannot_hold_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        canonical({"x": value})
