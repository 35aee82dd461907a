"""Removes old entries of the audit log."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select

from cadlib.cases import audit_log, schema
from cadlib.errors import CaseRejected

LEAST_DAYS = 183
"""Six months: the least time that logs of an AI system of high risk are kept.

Regulation (EU) 2024/1689, Articles 19 and 26.
"""


def prune(connection: Connection, keep_days: int, actor: str) -> int:
    """Remove entries older than `keep_days`, and return their number.

    The last entry says what was removed, so that the chain still proves itself. The cases stay.
    Raise CaseRejected for less than LEAST_DAYS.
    """
    if keep_days < LEAST_DAYS:
        raise CaseRejected(
            f"Expected to keep the audit log for at least {LEAST_DAYS} days, but got {keep_days}. "
            "Give a longer time."
        )
    log = schema.audit_log
    first_kept = _first_kept(connection, keep_days)
    old = log.c.number < first_kept
    n_old = connection.execute(select(func.count()).where(old)).scalar_one()
    if not n_old:
        return 0
    # The oldest entry that stays follows this one, which nobody can read any more.
    last_removed = select(log.c.sha256).where(log.c.number == first_kept - 1)
    details = {
        "first_kept": first_kept,
        "previous_sha256": connection.execute(last_removed).scalar_one(),
        "removed": n_old,
        "keep_days": keep_days,
    }
    audit_log.append(connection, actor, audit_log.PRUNED, log.name, None, details)
    connection.execute(delete(log).where(old))
    return int(n_old)


def _first_kept(connection: Connection, keep_days: int) -> int:
    """Return the number of the first entry that is recent enough to stay."""
    log = schema.audit_log
    limit: datetime = audit_log.now() - timedelta(days=keep_days)
    # Not by time alone: a clock that went back must not leave a gap.
    query = select(func.min(log.c.number)).where(log.c.at >= limit)
    first_kept = connection.execute(query).scalar()
    if first_kept is None:
        # The entry that says so will be the only one to stay.
        return audit_log.head(connection).number + 1
    return int(first_kept)
