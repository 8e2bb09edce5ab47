"""Proof that nothing was lost: every accepted evaluation has ended or is queued somewhere.

What was accepted is known from the records of submissions (see ``Sides.records``). The places are
searched one after the other, so an evaluation that moves meanwhile can be missed; what was not
found is looked for again.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import LegacyError
from crucible.evaluation.record import task_id_of
from crucible.legacy.wire import ENDED_STATES, TaskState
from crucible.migration.operations.sides import PAGE, Recorded, Sides
from crucible.migration.operations.whereabouts import claimed_ids, dead_letter_ids, queued_ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crucible.legacy import TaskView

log = logging.getLogger(__name__)

#: Searches for what was not found, and seconds between them.
LOOKS, PAUSE_S = 3, 1.0
#: Seconds past the longest run allowed after which a legacy task counts as stuck.
STUCK_MARGIN_S = 60.0


class Place(enum.StrEnum):
    """Where an accepted evaluation is."""

    ENDED = "ended"
    QUEUED = "queued"
    RUNNING = "running"
    #: Claimed by a worker without a heartbeat: a stock worker, alive or dead, or an async one that
    #: died just now. Recovery gives it back, at the visibility timeout at the latest.
    CLAIMED = "claimed"
    DEAD_LETTER = "dead_letter"
    #: A worker of the legacy queue took it and died: it will never end.
    STUCK = "stuck"
    LOST = "lost"
    #: The legacy queue does not answer, so it is not known.
    UNKNOWN = "unknown"


#: Places that need an operator.
WRONG = (Place.LOST, Place.STUCK, Place.UNKNOWN)


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation that will not end by itself."""

    eval_id: str
    queue_system: str
    place: Place
    created_at: str


class Verification(msgspec.Struct, kw_only=True):
    """What was found.

    Attributes:
        accepted: evaluations on record.
        places: how many are where, by queue system.
        unrecorded: tasks the legacy queue accepted while no record could be written; runs of
            ``crucible compare``, which need none, are not among them.
        missing: those that will not end by themselves.
    """

    accepted: int = 0
    places: dict[str, dict[str, int]] = {}
    unrecorded: int = 0
    missing: list[Missing] = []

    @property
    def proved(self) -> bool:
        """Every accepted evaluation has ended or is on its way."""
        return not self.missing


async def verify(sides: Sides) -> tuple[Verification, list[Recorded]]:
    """Look for every accepted evaluation.

    Returns:
        What was found, and the records of what is missing.

    Raises:
        BrokerError: the task queue server does not answer; nothing can be proved then.
    """
    search = _Search(sides)
    async for page in sides.records():
        await search.sort(page)
    for look in range(LOOKS):
        await search.look()
        if not search.open_ or look == LOOKS - 1:
            break
        await asyncio.sleep(PAUSE_S)
    return await search.report()


class _Search:
    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._accepted = 0
        self._places: dict[str, Counter[str]] = defaultdict(Counter)
        self.open_: dict[str, Recorded] = {}
        self._stuck: dict[str, Recorded] = {}
        self._legacy_away = False

    async def sort(self, page: list[Recorded]) -> None:
        """Count what has ended; the rest is to be looked for."""
        self._accepted += len(page)
        ended = await self._ended_on_celery(page)
        legacy = [one.eval_id for one in page if one.record.queue_system == "legacy"]
        ended |= await self._sides.with_kept_results(legacy)
        for one in page:
            if one.eval_id in ended:
                self._count(one, Place.ENDED)
            else:
                self.open_[one.eval_id] = one

    async def _ended_on_celery(self, page: list[Recorded]) -> set[str]:
        celery = [one.eval_id for one in page if one.record.queue_system == "celery"]
        metas = await self._sides.metas(celery)
        return {eval_id for eval_id, meta in metas.items() if meta.ready}

    def _count(self, one: Recorded, place: Place) -> None:
        self._places[one.record.queue_system][place] += 1

    def _found(self, one: Recorded, place: Place) -> None:
        self._count(one, place)
        self.open_.pop(one.eval_id, None)

    async def look(self) -> None:
        """Look for what was not found, in both queue systems."""
        # Read again: repair, recovery or a failover may have changed sides meanwhile.
        for ids in _pages(self.open_):
            read = await self._sides.read(ids)
            fresh = {one.eval_id: one for one in read if not one.record.purged}
            for eval_id in ids:
                if eval_id in fresh:
                    self.open_[eval_id] = fresh[eval_id]
                else:
                    # Withdrawn: its submission was refused after all; or forgotten on request.
                    del self.open_[eval_id]
                    self._accepted -= 1
        await self._look_at_legacy()
        if any(one.record.queue_system == "celery" for one in self.open_.values()):
            await self._look_at_celery()

    async def _look_at_celery(self) -> None:
        client, keys = self._sides.client, self._sides.keys
        # In the order a message moves, so that one on its way is seen at least once.
        queued = await queued_ids(client, keys)
        claimed = await claimed_ids(client, keys)
        dead = await dead_letter_ids(client, keys)
        for ids in _pages(self.open_):
            page = [self.open_[i] for i in ids if self.open_[i].record.queue_system == "celery"]
            ended = await self._ended_on_celery(page)
            for one in page:
                task_id = task_id_of(one.eval_id)
                if one.eval_id in ended:
                    self._found(one, Place.ENDED)
                elif task_id in claimed.held:
                    self._found(one, Place.RUNNING)
                elif task_id in claimed.unsure:
                    self._found(one, Place.CLAIMED)
                elif task_id in queued or task_id in claimed.delayed:
                    self._found(one, Place.QUEUED)
                elif task_id in dead:
                    self._found(one, Place.DEAD_LETTER)

    async def _look_at_legacy(self) -> None:
        self._legacy_away = False
        open_ = [i for i, one in self.open_.items() if one.record.queue_system == "legacy"]
        for ids in _pages(open_):
            for view in await self._legacy_views(ids):
                await self._sort_legacy(self.open_[view.id], view)
            # Also while the queue does not answer: clients get the results of copies then.
            await self._rescued([i for i in ids if i in self.open_])

    async def _legacy_views(self, ids: list[str]) -> list[TaskView]:
        if self._sides.legacy is None or self._legacy_away:
            return []
        try:
            return await self._sides.legacy.find(ids)
        except LegacyError as error:
            log.warning("the legacy queue does not answer: %s", error)
            self._legacy_away = True
            return []

    async def _sort_legacy(self, one: Recorded, view: TaskView) -> None:
        if view.status in ENDED_STATES:
            try:
                await self._sides.keep_result(one.eval_id)
            except LegacyError as error:
                log.warning("the result of %s cannot be kept: %s", one.eval_id, error)
            self._found(one, Place.ENDED)
        elif view.status is TaskState.RUNNING and self._is_stuck(view):
            self._stuck[one.eval_id] = one
            self._found(one, Place.STUCK)
        else:
            running = view.status is TaskState.RUNNING
            self._found(one, Place.RUNNING if running else Place.QUEUED)

    def _is_stuck(self, view: TaskView) -> bool:
        if view.started_at is None:
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(view.started_at)
        return age.total_seconds() > self._sides.settings.max_wall_time_s + STUCK_MARGIN_S

    async def _rescued(self, ids: list[str]) -> None:
        """Unknown to the legacy queue, but ended: by its copy, or with a result kept meanwhile."""
        metas = await self._sides.metas(ids)
        kept = await self._sides.with_kept_results(ids)
        for eval_id in ids:
            meta = metas.get(eval_id)
            if eval_id in kept or (meta is not None and meta.status == "SUCCESS"):
                self._found(self.open_[eval_id], Place.ENDED)

    async def report(self) -> tuple[Verification, list[Recorded]]:
        """The result of the search."""
        missing = [(one, Place.STUCK) for one in self._stuck.values()]
        for one in self.open_.values():
            away = self._legacy_away and one.record.queue_system == "legacy"
            place = Place.UNKNOWN if away else Place.LOST
            self._count(one, place)
            missing.append((one, place))
        verification = Verification(
            accepted=self._accepted,
            places={side: dict(counts) for side, counts in sorted(self._places.items())},
            unrecorded=await self._unrecorded(),
            missing=[_missing(one, place) for one, place in missing],
        )
        return verification, [one for one, _ in missing]

    async def _unrecorded(self) -> int:
        """How many there are; their results are kept, since records may still be written."""
        if self._sides.legacy is None or self._legacy_away:
            return 0
        # A task that moves on between two of the questions is in both answers.
        found: set[str] = set()
        on_purpose = await self._sides.comparisons()
        try:
            for status in TaskState:
                views = await self._sides.legacy.tasks(status, 1000)
                clients = [view.id for view in views if not view.id.startswith(on_purpose)]
                for ids in _pages(clients):
                    recorded = {one.eval_id for one in await self._sides.read(ids)}
                    unrecorded = [eval_id for eval_id in ids if eval_id not in recorded]
                    found.update(unrecorded)
                    if status in ENDED_STATES:
                        for eval_id in unrecorded:
                            await self._sides.keep_result(eval_id)
        except LegacyError as error:
            log.warning("the legacy queue does not answer: %s", error)
        return len(found)


def _missing(one: Recorded, place: Place) -> Missing:
    created = datetime.fromtimestamp(one.record.created_ms / 1000, UTC)
    return Missing(
        eval_id=one.eval_id,
        queue_system=one.record.queue_system,
        place=place,
        created_at=created.isoformat(timespec="milliseconds"),
    )


def _pages(ids: Iterable[str]) -> Iterator[list[str]]:
    every = list(ids)
    for start in range(0, len(every), PAGE):
        yield every[start : start + PAGE]
