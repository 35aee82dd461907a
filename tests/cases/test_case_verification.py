"""Proving that no case was changed past the audit log."""

from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from cadlib.cases import audit_log, database, retention, schema
from cadlib.cases.retention import LEAST_DAYS, prune
from cadlib.cases.verification import verify
from cadlib.errors import CaseRejected
from tests.case_examples import add_case, add_readings


@pytest.fixture
def case(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[0])
    add_readings(store, case, assessment, model)
    return case


def verified(store, expected_head=None):
    with store.read() as connection:
        return verify(connection, store.images, expected_head)


def test_a_store_that_nobody_changed_is_proved(store, case):
    verification = verified(store)
    assert verification.unchanged
    assert verification.n_entries == verification.head.number
    assert str(verification).startswith("Audit log: unbroken, ")


def test_a_store_after_an_erasure_is_proved(store, case, lesion_images):
    add_case(store, "P-2", lesion_images[1])
    store.erase_patient(case.patient.id)
    assert verified(store).unchanged


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        (schema.assessments, "malignant_probability", 0.01),
        (schema.assessments, "content", "{}"),
        (schema.readings, "diagnosis", "BKL"),
        (schema.outcomes, "malignant", False),
        (schema.patient_versions, "birth_year", 1980),
        (schema.states, "state", "read"),
    ],
)
def test_a_changed_row_is_named(store, case, table, column, value):
    with store.engine.begin() as connection:
        connection.execute(update(table).values({column: value}))
    verification = verified(store)
    assert not verification.unchanged
    assert verification.bad_entry is None
    assert f"Table {table.name}: the row of entry" in str(verification)
    assert "changed past the log" in str(verification)


def test_a_deleted_row_is_named(store, case):
    with store.engine.begin() as connection:
        connection.execute(delete(schema.outcomes))
    [problem] = verified(store).row_problems
    assert problem.startswith("Table outcomes: the row of entry")
    assert "deleted past the log" in problem


def test_an_added_row_is_named(store, case):
    values = {
        "image_id": case.image.id,
        "entry": 999,
        "recorded_at": audit_log.now(),
        "state": "read",
    }
    with store.engine.begin() as connection:
        connection.execute(insert(schema.states).values(values))
    [problem] = verified(store).row_problems
    assert problem == "Table states: the row of entry 999 was added past the log."


def test_entries_removed_from_the_end_are_found_by_a_hash_that_was_noted(store, case):
    noted = verified(store).head
    assert verified(store, noted.sha256).unchanged
    with store.engine.begin() as connection:
        connection.execute(
            delete(schema.audit_log).where(schema.audit_log.c.number == noted.number)
        )
    bad = verified(store, noted.sha256).bad_entry
    assert bad.number == noted.number - 1
    assert "never had the expected hash" in bad.reason


def test_a_missing_and_a_changed_image_are_named(store, case, lesion_images):
    add_case(store, "P-2", lesion_images[1])
    first, second = sorted(Path(store.images.address).glob("??/*.png"))
    first.unlink()
    second.write_bytes(b"something else")
    problems = verified(store).image_problems
    assert len(problems) == 2
    assert "missing" in problems[0] + problems[1]
    assert "was changed" in problems[0] + problems[1]


def test_an_image_that_no_case_needs_is_counted_and_no_fault(store, case):
    sha256 = store.images.write(b"left by a process that was killed")
    verification = verified(store)
    assert verification.unneeded_images == (sha256,)
    assert verification.unchanged


def age(store, monkeypatch, days: int) -> None:
    """Let the clock of the log go on by some days."""
    later = audit_log.now()

    def now():
        from datetime import timedelta

        return later + timedelta(days=days)

    monkeypatch.setattr(audit_log, "now", now)


def pruned(store, keep_days: int) -> int:
    with database.writing(store.engine) as connection:
        return prune(connection, keep_days, "admin")


def test_old_entries_are_removed_and_the_rest_still_proves_itself(
    store, case, lesion_images, monkeypatch
):
    n_before = verified(store).n_entries
    age(store, monkeypatch, LEAST_DAYS + 1)
    add_case(store, "P-2", lesion_images[1])
    assert pruned(store, LEAST_DAYS) == n_before
    assert verified(store).unchanged
    # Later entries, corrections and erasures follow as before.
    store.erase_patient(case.patient.id)
    assert verified(store).unchanged


def test_a_pruned_log_without_its_beginning_is_broken(store, case, lesion_images, monkeypatch):
    age(store, monkeypatch, LEAST_DAYS + 1)
    add_case(store, "P-2", lesion_images[1])
    pruned(store, LEAST_DAYS)
    oldest = min(entry.number for entry in _entries(store))
    with store.engine.begin() as connection:
        connection.execute(delete(schema.audit_log).where(schema.audit_log.c.number == oldest))
    assert verified(store).bad_entry.reason == "entries before it are missing"


def _entries(store):
    with store.read() as connection:
        return list(audit_log.entries(connection))


def test_a_log_that_is_old_as_a_whole_keeps_the_entry_that_says_so(store, case, monkeypatch):
    age(store, monkeypatch, 2 * LEAST_DAYS)
    pruned(store, LEAST_DAYS)
    [entry] = _entries(store)
    assert entry.action == audit_log.PRUNED
    assert verified(store).unchanged
    assert pruned(store, LEAST_DAYS) == 0


def test_less_than_six_months_is_refused(store, case):
    with pytest.raises(CaseRejected, match="at least 183 days"):
        pruned(store, retention.LEAST_DAYS - 1)
