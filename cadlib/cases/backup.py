"""Writes all cases into one file, and restores them from it.

The file is a ZIP archive: `backup.json` with the columns of each table and the hashes of its rows,
`tables/NAME.jsonl` with a row a line, and `images/SHA256.png`. It has the state of one moment.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Date,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    insert,
    select,
)

from cadlib.cases import audit_log, database, schema
from cadlib.cases.audit_log import canonical
from cadlib.cases.image_store import ImageStore
from cadlib.cases.schema import UtcTime
from cadlib.cases.store import CaseStore
from cadlib.cases.upgrade import run_migrations, schema_version, upgrade
from cadlib.errors import CaseStoreFailed
from cadlib.progress import Progress, no_progress

FORMAT = 1
CONTENTS = "backup.json"
COPYING = "copying images"
"""What `progress` is called with."""
_ROWS_AT_ONCE = 1000
_TYPES: Mapping[str, type[Any]] = {
    "boolean": Boolean,
    "day": Date,
    "id": Uuid,
    "integer": Integer,
    "moment": UtcTime,
    "number": Double,
    "text": Text,
}
"""Names of types in a backup, so that it can be read when the tables have changed."""


@dataclass(frozen=True)
class BackedUp:
    """The number of rows and images in a backup."""

    n_rows: int
    n_images: int


def back_up(
    store: CaseStore,
    path: Path,
    actor: str,
    progress: Progress = no_progress,
) -> BackedUp:
    """Write all cases into a new file, complete or not at all.

    Readers and writers may go on meanwhile. Raise CaseStoreFailed if the file is there already, or
    where the store or the disk fails.
    """
    if path.exists():
        raise CaseStoreFailed(
            f"Expected a new file for the backup, but {path} is there. Give another name."
        )
    with store.write(actor) as cases:
        cases.log("back up", "audit_log", None)
    # The name appears once the file is complete.
    unfinished = path.with_name(f"{path.name}.part")
    try:
        # It has the notes of all patients.
        unfinished.touch(mode=0o600)
        with unfinished.open("wb") as file:
            backed_up = _write(store, file, progress)
        unfinished.replace(path)
    except OSError as error:
        raise CaseStoreFailed(
            f"Expected to write the backup {path}, but {error.strerror}. "
            "Free disk space, or give another place."
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return backed_up


def _write(store: CaseStore, file: IO[bytes], progress: Progress) -> BackedUp:
    with store.read() as connection, zipfile.ZipFile(file, "w") as archive:
        tables = {table.name: _write_table(connection, table, archive) for table in _tables()}
        hashes = sorted(set(connection.execute(select(schema.images.c.sha256)).scalars()))
        for number, sha256 in enumerate(hashes, start=1):
            # A PNG is compressed already.
            archive.writestr(_image_name(sha256), store.images.read(sha256))
            progress(COPYING, number, len(hashes))
        contents = {
            "format": FORMAT,
            "schema": schema_version(connection),
            "created": datetime.now(UTC),
            "head": audit_log.head(connection).sha256,
            "tables": tables,
            # JSON has no order of keys, and a row needs those that it names before it.
            "order": list(tables),
            "images": hashes,
        }
        archive.writestr(CONTENTS, canonical(contents))
    n_rows = sum(table["rows"] for table in tables.values())
    return BackedUp(n_rows, len(hashes))


def _tables() -> list[Table]:
    """Return the tables with cases; those that name others come after them."""
    pending = schema.files_to_remove
    return [table for table in schema.metadata.sorted_tables if table is not pending]


def _image_name(sha256: str) -> str:
    return f"images/{sha256}.png"


def _table_name(name: str) -> str:
    return f"tables/{name}.jsonl"


def _write_table(connection: Connection, table: Table, archive: zipfile.ZipFile) -> dict[str, Any]:
    """Write the rows of a table, and return what `backup.json` says about it."""
    hashed = hashlib.sha256()
    n_rows = 0
    # Without a date, so that two backups of the same cases have the same parts.
    info = zipfile.ZipInfo(_table_name(table.name))
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as file:
        # In the order of writing, so that a row comes after those that it names.
        order = table.c.number if table is schema.audit_log else table.c.entry
        for row in connection.execute(select(table).order_by(order)):
            line = canonical(row._asdict()).encode() + b"\n"
            hashed.update(line)
            file.write(line)
            n_rows += 1
    columns = {column.name: _type_name(column) for column in table.columns}
    return {"rows": n_rows, "sha256": hashed.hexdigest(), "columns": columns}


def _type_name(column: Column[Any]) -> str:
    for name, kind in _TYPES.items():
        if isinstance(column.type, kind):
            return name
    # A string of limited length; `Text` is one without a limit.
    return "text"


def restore(
    path: Path,
    url: str,
    images: str,
    actor: str,
    progress: Progress = no_progress,
) -> BackedUp:
    """Restore a backup into an empty store at a database URL and an address of images.

    A backup of an older schema is upgraded. Raise CaseStoreFailed for a store with cases, for a
    file that is damaged or no backup, and where the store fails; no case was restored then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _restore(archive, path, url, images, actor, progress)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise CaseStoreFailed(
            f"Expected {path} to be a backup of cases, but it cannot be read: {error}. "
            "Give another backup."
        ) from error


def _restore(
    archive: zipfile.ZipFile,
    path: Path,
    url: str,
    images: str,
    actor: str,
    progress: Progress,
) -> BackedUp:
    contents = json.loads(archive.read(CONTENTS))
    if contents.get("format") != FORMAT:
        raise CaseStoreFailed(
            f"Expected a backup of format {FORMAT}, but {path} has format "
            f"{contents.get('format')}. Update cadlib."
        )
    engine = database.connect(url)
    store = CaseStore(engine, ImageStore(images))
    try:
        # Images first: a row without its image would be a damaged case.
        _restore_images(store, archive, contents["images"], progress)
        with database.writing(engine) as connection:
            _create_tables(connection, contents["schema"])
            for name in contents["order"]:
                _restore_table(connection, archive, name, contents["tables"][name])
        # The backup may have the tables of an older version.
        upgrade(engine)
        with store.write(actor) as cases:
            cases.log("restore", "audit_log", None, backup_head=contents["head"])
    finally:
        store.close()
    n_rows = sum(about["rows"] for about in contents["tables"].values())
    return BackedUp(n_rows, len(contents["images"]))


def _restore_images(
    store: CaseStore,
    archive: zipfile.ZipFile,
    hashes: list[str],
    progress: Progress,
) -> None:
    for number, sha256 in enumerate(hashes, start=1):
        written = store.images.write(archive.read(_image_name(sha256)))
        _check_hash(_image_name(sha256), written, sha256)
        progress(COPYING, number, len(hashes))


def _create_tables(connection: Connection, version: str) -> None:
    """Create the tables of a schema; raise CaseStoreFailed for a store with cases."""
    if schema_version(connection) is None:
        run_migrations(connection, version)
    elif schema_version(connection) != version:
        raise CaseStoreFailed(
            f"Expected an empty database, but it has tables of schema "
            f"{schema_version(connection)}. Restore into a new database."
        )
    if connection.execute(select(schema.audit_log.c.number).limit(1)).first():
        raise CaseStoreFailed(
            "Expected an empty store, but it has cases. Restore into a new database."
        )


def _restore_table(
    connection: Connection,
    archive: zipfile.ZipFile,
    name: str,
    about: Mapping[str, Any],
) -> None:
    _check_rows(archive, name, about["sha256"])
    columns = about["columns"]
    typed = [Column(column, _column_type(kind)) for column, kind in columns.items()]
    table = Table(name, MetaData(), *typed)
    rows: list[dict[str, Any]] = []
    with archive.open(_table_name(name)) as file:
        for line in file:
            row = json.loads(line)
            rows.append({key: _value(columns[key], value) for key, value in row.items()})
            if len(rows) == _ROWS_AT_ONCE:
                connection.execute(insert(table), rows)
                rows = []
    if rows:
        connection.execute(insert(table), rows)


def _check_rows(archive: zipfile.ZipFile, name: str, sha256: str) -> None:
    """Raise ValueError for rows that were changed, before any of them is written."""
    hashed = hashlib.sha256()
    with archive.open(_table_name(name)) as file:
        for line in file:
            hashed.update(line)
    _check_hash(_table_name(name), hashed.hexdigest(), sha256)


def _column_type(kind: str) -> Any:
    # Ids are texts in Python, whatever the database makes of them.
    return Uuid(as_uuid=False) if kind == "id" else _TYPES[kind]()


def _value(kind: str, value: Any) -> Any:
    """Return a value of a row from its JSON."""
    if value is None:
        return None
    if kind == "moment":
        return datetime.fromisoformat(value)
    if kind == "day":
        return date.fromisoformat(value)
    return value


def _check_hash(name: str, sha256: str, expected: str) -> None:
    """Raise ValueError for a part of a backup that was changed."""
    if sha256 != expected:
        raise ValueError(f"{name} was changed")
