"""The statements that write rows: repeated or late, a row never moves backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, not_, or_
from sqlalchemy.dialects import postgresql, sqlite

from crucible.history.rows import STATE, SUBMISSION
from crucible.history.schema import attempts, evaluations, labels, purged, transitions

if TYPE_CHECKING:
    from sqlalchemy import Table

#: A statement of either dialect.
Insert = postgresql.Insert | sqlite.Insert


def upsert_evaluations(dialect: str) -> Insert:
    """Rows of ``evaluations`` (see ``rows.fold``).

    Where a copy in another queue system was seen first (dual write), the original submission takes
    the row over, and events of the copy count no more.
    """
    insert, old = _insert(dialect, evaluations), evaluations.c
    new = insert.excluded
    takes_over = and_(new.submitted, not_(old.submitted), new.queue_system != old.queue_system)
    later = or_(
        and_(new.seq > old.seq, new.queue_system == old.queue_system),
        takes_over,
    )
    submits = and_(new.submitted, not_(old.submitted))
    changed: dict[str, Any] = {name: case((later, new[name]), else_=old[name]) for name in STATE}
    changed |= {name: case((submits, new[name]), else_=old[name]) for name in SUBMISSION}
    changed["submitted"] = or_(old.submitted, new.submitted)
    unsubmitted = not_(old.submitted)
    least = func.min if dialect == "sqlite" else func.least
    changed["created_ms"] = case(
        (submits, new.created_ms),
        (unsubmitted, least(new.created_ms, old.created_ms)),
        else_=old.created_ms,
    )
    for name in ("queue", "language"):
        changed[name] = case((submits, new[name]), else_=func.coalesce(old[name], new[name]))
    earlier = and_(unsubmitted, new.created_ms < old.created_ms)
    return insert.on_conflict_do_update(
        index_elements=["tenant", "eval_id"],
        set_=changed,
        where=or_(later, submits, earlier),
    )


def upsert_attempts(dialect: str) -> Insert:
    """Rows of ``attempts``: the later event says how it stands, any says when it started."""
    insert, old = _insert(dialect, attempts), attempts.c
    new = insert.excluded
    later = new.seq > old.seq
    changed: dict[str, Any] = {
        name: case((later, new[name]), else_=old[name])
        for name in (
            "seq", "transition", "worker", "ended_ms", "verdict", "wall_time_ms", "cpu_time_ms",
            "memory_peak_kb", "message",
        )
    }  # fmt: skip
    changed["started_ms"] = case(
        (later, func.coalesce(new.started_ms, old.started_ms)),
        else_=func.coalesce(old.started_ms, new.started_ms),
    )
    return insert.on_conflict_do_update(
        index_elements=[column.name for column in attempts.primary_key],
        set_=changed,
        where=or_(later, and_(old.started_ms.is_(None), new.started_ms.is_not(None))),
    )


def insert_transitions(dialect: str) -> Insert:
    """Rows of ``transitions``; those that are there stay."""
    return _insert(dialect, transitions).on_conflict_do_nothing()


def insert_labels(dialect: str) -> Insert:
    """Rows of ``labels``; those that are there stay."""
    return _insert(dialect, labels).on_conflict_do_nothing()


def insert_purged(dialect: str) -> Insert:
    """Rows of ``purged``; those that are there stay."""
    return _insert(dialect, purged).on_conflict_do_nothing()


def _insert(dialect: str, table: Table) -> Insert:
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
