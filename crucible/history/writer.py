"""Writes events to the tables, a batch in one transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, text, tuple_

from crucible.errors import HistoryError, HistoryUnavailable
from crucible.history.database import translated
from crucible.history.insertion import Insertion
from crucible.history.rows import batch_of
from crucible.history.schema import attempts, evaluations, labels, purged, transitions
from crucible.history.upserts import (
    insert_labels,
    insert_transitions,
    upsert_attempts,
    upsert_evaluations,
)
from crucible.history.version import require_newest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from crucible.events.event import Event
    from crucible.history.rows import Batch, Key

log = logging.getLogger(__name__)

#: Ids of one look-up; SQLite takes 32 766 parameters.
_LOOK_UP = 5000


class Known(NamedTuple):
    """What the database has of an evaluation: its submission was seen, and where it stands."""

    submitted: bool
    seq: int
    status: str


class HistoryWriter:
    """Writes events; writing them again changes nothing.

    Args:
        engine: of the database.

    Attributes:
        written: events the database has.
        refused: events it refused, which are left out.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.written = 0
        self.refused = 0
        self._engine = engine.execution_options(writes=True)
        name = engine.dialect.name
        self._earlier = Insertion(name, (evaluations, upsert_evaluations))
        self._batch = Insertion(
            name,
            (evaluations, upsert_evaluations),
            (transitions, insert_transitions),
            (attempts, upsert_attempts),
            (labels, insert_labels),
        )

    async def check_schema(self) -> None:
        """Refuse a database whose schema is not that of this code.

        Raises:
            RequirementError: it is older, newer or not there.
            HistoryError: the database does not answer.
        """
        await require_newest(self._engine)

    async def write(
        self,
        events: Sequence[Event],
        batch: Batch | None = None,
        working: asyncio.Event | None = None,
    ) -> None:
        """Write events, all or none; what the database refuses by itself is left out.

        Args:
            events: in any order, and perhaps written before.
            batch: their rows, where they were made beforehand.
            working: is set when the database has most of its work before it; not set where it
                gets none.

        Raises:
            HistoryUnavailable: it does not answer; nothing is written, or all of it is.
        """
        try:
            with translated():
                await self._write(events, batch, working)
        except HistoryUnavailable:
            raise
        except HistoryError as error:
            await self._write_apart(events, error)
        else:
            self.written += len(events)

    async def known(self, keys: Sequence[Key]) -> dict[Key, Known]:
        """What the database has of some evaluations; those that it has not are left out.

        Args:
            keys: tenant and id of each, at most some hundreds.

        Raises:
            HistoryError: it does not answer.
        """
        columns = evaluations.c
        query = select(
            columns.tenant, columns.eval_id, columns.submitted, columns.seq, columns.status
        ).where(tuple_(columns.tenant, columns.eval_id).in_(keys))
        with translated():
            async with self._engine.begin() as connection:
                rows = await connection.execute(query)
                return {(row.tenant, row.eval_id): Known(*row[2:]) for row in rows}

    async def _write_apart(self, events: Sequence[Event], error: HistoryError) -> None:
        """Find the one event that the database refuses, so that the others are written."""
        if len(events) == 1:
            self.refused += 1
            log.error("an event of %s cannot be written: %s", events[0].eval_id, error)
            return
        middle = len(events) // 2
        await self.write(events[:middle])
        await self.write(events[middle:])

    async def _write(
        self, events: Sequence[Event], batch: Batch | None, working: asyncio.Event | None
    ) -> None:
        if not events:
            return
        async with self._engine.begin() as connection:
            kept = await self._not_purged(connection, events)
            if batch is None or len(kept) < len(events):
                batch = batch_of(kept)
            if not batch.evaluations:
                return
            *earlier, last = batch.evaluations
            for wave in earlier:
                await self._earlier.execute(connection, wave)
            await self._batch.execute(
                connection,
                last,
                batch.transitions,
                batch.attempts,
                batch.labels,
                working=working,
            )

    async def _not_purged(
        self, connection: AsyncConnection, events: Sequence[Event]
    ) -> Sequence[Event]:
        """Events of evaluations that were not forgotten on request."""
        if connection.dialect.name == "postgresql":
            # Whoever forgets one waits for this transaction; SQLite has one writer anyway.
            await connection.execute(text("LOCK TABLE purged IN SHARE MODE"))
        if (await connection.execute(select(purged.c.tenant).limit(1))).first() is None:
            return events
        ids = sorted({event.eval_id for event in events})
        gone: set[tuple[str, str]] = set()
        for first in range(0, len(ids), _LOOK_UP):
            query = select(purged.c.tenant, purged.c.eval_id).where(
                purged.c.eval_id.in_(ids[first : first + _LOOK_UP])
            )
            gone |= {(tenant, eval_id) for tenant, eval_id in await connection.execute(query)}
        return [event for event in events if (event.tenant, event.eval_id) not in gone]
