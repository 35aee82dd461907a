"""Writes and checks the audit log, a chain of hashes.

Each entry has the SHA-256 of the one before it and of its own content as canonical JSON, so that a
changed, removed or inserted entry breaks the chain. An entry about a stored row has the hash of the
row, so that a changed row is found too. (Logging for AI systems of high risk: Regulation (EU)
2024/1689, Article 12.)

An entry names ids and hashes, never a name or a note, so that it may stay when a patient is erased.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, desc, insert, select

from cadlib.cases.schema import audit_log

FIRST_PREVIOUS = "0" * 64
"""What the first entry has as the hash of the one before it."""
PRUNED = "prune audit log"
"""The action of the entry after which older ones were removed."""

_PAGE = 1000
"""Entries that are read at once."""
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """An entry of the audit log.

    `number` counts from 1. `actor` did `action` to the row `subject` of the table `kind`. `details`
    are JSON values.
    """

    number: int
    at: datetime
    actor: str
    action: str
    kind: str
    subject: str | None
    details: Values
    previous_sha256: str
    sha256: str


@dataclass(frozen=True)
class Head:
    """The last entry of a log: its number and hash."""

    number: int
    sha256: str


def canonical(value: Any) -> str:
    """Return JSON text that is the same for the same values: sorted keys, no spaces."""
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=_as_text,
    )


def _as_text(value: object) -> str:
    """Return a moment or a day as ISO 8601."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"Expected a value that JSON can hold, but got {type(value).__name__}.")


def digest(value: Any) -> str:
    """Return the SHA-256 of a value as canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def now() -> datetime:
    """Return the time of an entry, in UTC."""
    return datetime.now(UTC)


def head(connection: Connection) -> Head:
    """Return the last entry of the log."""
    query = (
        select(audit_log.c.number, audit_log.c.sha256).order_by(desc(audit_log.c.number)).limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return Head(0, FIRST_PREVIOUS)
    return Head(row.number, row.sha256)


def append(
    connection: Connection,
    actor: str,
    action: str,
    kind: str,
    subject: str | None,
    details: Values,
) -> Entry:
    """Add an entry to the log, in a transaction that holds the lock of the store."""
    # The lock keeps others from adding an entry with the same number.
    last = head(connection)
    content: dict[str, Any] = {
        "number": last.number + 1,
        "at": now(),
        "actor": actor,
        "action": action,
        "kind": kind,
        "subject": subject,
        "details": dict(details),
        "previous_sha256": last.sha256,
    }
    entry = Entry(**content, sha256=digest(content))
    # The text is stored, because a database may change the order of keys.
    row = content | {"details": canonical(details), "sha256": entry.sha256}
    connection.execute(insert(audit_log).values(row))
    return entry


def entries(connection: Connection, first: int = 1) -> Iterator[Entry]:
    """Yield the entries from a number on, oldest first.

    The details of an entry that somebody damaged may not be JSON; they are then `{}`, which breaks
    the entry's hash.
    """
    while True:
        is_next = audit_log.c.number >= first
        query = select(audit_log).where(is_next).order_by(audit_log.c.number).limit(_PAGE)
        rows = connection.execute(query).mappings().all()
        if not rows:
            return
        for row in rows:
            yield _entry(row)
        first = rows[-1]["number"] + 1


def _entry(row: RowMapping) -> Entry:
    values = dict(row)
    try:
        details = json.loads(values["details"])
    except ValueError:
        details = {}
    if not isinstance(details, dict):
        details = {}
    values["details"] = details
    return Entry(**values)


@dataclass(frozen=True)
class BadEntry:
    """The first entry at which a chain is broken, and why."""

    number: int
    reason: str


def first_bad(log: Iterator[Entry]) -> BadEntry | None:
    """Return the first entry that does not follow from those before it; None if all do.

    A log that was pruned begins later than at 1. Its first entry has to be the one that the pruning
    recorded as the oldest to stay.
    """
    previous: Entry | None = None
    oldest: Entry | None = None
    anchor: Values = {"first_kept": 1, "previous_sha256": FIRST_PREVIOUS}
    for entry in log:
        oldest = oldest or entry
        reason = _reason(entry, previous)
        if reason:
            return BadEntry(entry.number, reason)
        if entry.action == PRUNED:
            anchor = entry.details
        previous = entry
    if oldest is None:
        return None
    expected = (anchor.get("first_kept"), anchor.get("previous_sha256"))
    if (oldest.number, oldest.previous_sha256) != expected:
        return BadEntry(oldest.number, "entries before it are missing")
    return None


def _reason(entry: Entry, previous: Entry | None) -> str:
    """Return why an entry does not follow from the one before it; empty if it does."""
    content = {
        "number": entry.number,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "kind": entry.kind,
        "subject": entry.subject,
        "details": entry.details,
        "previous_sha256": entry.previous_sha256,
    }
    if digest(content) != entry.sha256:
        return "its content was changed after it was written"
    if previous is None:
        # What the oldest entry follows is checked at the end.
        return ""
    if entry.number != previous.number + 1:
        return f"entries {previous.number + 1} to {entry.number - 1} are missing"
    if entry.previous_sha256 != previous.sha256:
        return f"it does not follow entry {previous.number}"
    return ""
