"""Compares the audit log, the rows and the images of a store.

The log is a chain of hashes, and has the hash of each row that was written. So a changed, removed
or inserted entry is found, and so is a row that somebody changed, deleted or added past the log.
Entries that were removed from the end leave an unbroken chain: compare the last hash with one that
was noted elsewhere (`expected_head`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select

from cadlib.cases import audit_log, schema
from cadlib.cases.audit_log import BadEntry, Entry, Head, digest, first_bad
from cadlib.cases.erasure import ERASED
from cadlib.cases.image_store import ImageStore
from cadlib.errors import CaseStoreFailed

TABLES = tuple(table for table in schema.metadata.sorted_tables if "entry" in table.c)
"""The tables whose rows the log has hashes of."""


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    `bad_entry` is the first entry at which the chain is broken, `row_problems` and `image_problems`
    have a sentence each. `unneeded_images` are files that no row names, as a process leaves them
    that was killed while it saved; they are no fault.
    """

    n_entries: int
    head: Head
    bad_entry: BadEntry | None
    row_problems: tuple[str, ...]
    image_problems: tuple[str, ...]
    unneeded_images: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Return whether nothing was changed past the log."""
        return not (self.bad_entry or self.row_problems or self.image_problems)

    def __str__(self) -> str:
        """Return the result as lines of text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.bad_entry:
            number = self.bad_entry.number
            yield f"Audit log: broken at entry {number:,}: {self.bad_entry.reason}."
        else:
            yield f"Audit log: unbroken, {self.n_entries:,} entries."
        yield f"Last entry: {self.head.number:,}, SHA-256 {self.head.sha256}"
        yield from self.row_problems
        yield from self.image_problems
        if self.unneeded_images:
            yield f"Images that no case needs: {len(self.unneeded_images):,}"


def verify(
    connection: Connection,
    images: ImageStore,
    expected_head: str | None = None,
    *,
    with_images: bool = True,
) -> Verification:
    """Compare log, rows and images.

    `expected_head` is a hash that the log had at its end once. Without `with_images`, the files of
    images are not read.
    """
    log = _LogSummary()
    bad = first_bad(log.note(entry) for entry in audit_log.entries(connection))
    if bad is None and expected_head and expected_head not in log.heads:
        # Each hash of an unbroken log was its last one at some time.
        bad = BadEntry(
            log.last,
            "the log never had the expected hash; entries after it are missing",
        )
    # An image is stored once, however many rows have it.
    needed = set(connection.execute(select(schema.images.c.sha256)).scalars())
    return Verification(
        n_entries=log.n_entries,
        head=audit_log.head(connection),
        bad_entry=bad,
        # A broken chain says nothing of the rows.
        row_problems=() if bad else tuple(_row_problems(connection, log)),
        image_problems=tuple(_image_problems(images, needed)) if with_images else (),
        unneeded_images=tuple(sorted(set(images.names()) - needed)),
    )


class _LogSummary:
    """What the entries of a log say of rows, collected while the chain is checked.

    `rows` has the table and the hash of the row of each entry that recorded one, without those of
    erased patients. `heads` are the hashes of all entries.
    """

    def __init__(self) -> None:
        self.rows: dict[int, tuple[str, str]] = {}
        self.heads: set[str] = set()
        self.n_entries = 0
        self.first = 1
        self.last = 0

    def note(self, entry: Entry) -> Entry:
        """Add an entry, and return it."""
        # A pruned log begins later than at 1.
        if not self.n_entries:
            self.first = entry.number
        self.n_entries += 1
        self.last = entry.number
        self.heads.add(entry.sha256)
        row_sha256 = entry.details.get("row_sha256")
        if row_sha256:
            self.rows[entry.number] = (entry.kind, row_sha256)
        # An erasure comes after the rows that it deleted.
        if entry.action == ERASED:
            for number in entry.details.get("entries", ()):
                self.rows.pop(number, None)
        return entry


def _row_problems(connection: Connection, log: _LogSummary) -> Iterator[str]:
    """Yield a sentence for each row that is not as the log has it."""
    unseen = dict(log.rows)
    for table in TABLES:
        # Rows before the first entry of a pruned log cannot be compared.
        for row in _rows(connection, table, log.first):
            number = row["entry"]
            kind, row_sha256 = unseen.pop(number, ("", ""))
            if kind != table.name:
                yield f"Table {table.name}: the row of entry {number:,} was added past the log."
            elif digest(row) != row_sha256:
                yield f"Table {table.name}: the row of entry {number:,} was changed past the log."
    for number, (kind, _) in unseen.items():
        yield f"Table {kind}: the row of entry {number:,} was deleted past the log."


def _rows(connection: Connection, table: Table, first: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table from an entry on."""
    query = select(table).where(table.c.entry >= first).order_by(table.c.entry)
    for row in connection.execute(query):
        yield row._asdict()


def _image_problems(images: ImageStore, needed: set[str]) -> Iterator[str]:
    """Yield a sentence for each image that is missing or was changed."""
    for sha256 in sorted(needed):
        try:
            images.read(sha256)
        except CaseStoreFailed as error:
            yield str(error)
