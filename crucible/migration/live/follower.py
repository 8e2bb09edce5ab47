"""Follows evaluations until they end: keeps results of the legacy queue, and pairs up copies.

The legacy queue reports nothing by itself, so it is polled for many evaluations at once, as long as
there are any. What this process no longer follows (it was killed, or there were too many) is
missing from comparisons and metrics, and webhooks are notified of it once somebody looks it up;
``verify`` finds every evaluation without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from crucible.broker.results.meta import REVOKED
from crucible.errors import BrokerError, LegacyError, LegacyTaskUnknown
from crucible.evaluation.record import task_id_of
from crucible.evaluation.request import size_of
from crucible.evaluation.view import evaluation_of
from crucible.legacy.wire import ENDED_STATES
from crucible.migration.legacy_results import meta_of_task
from crucible.migration.routing import QueueSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.broker.results.meta import Meta
    from crucible.broker.results.task_result import Results
    from crucible.evaluation.record import Record
    from crucible.evaluation.request import EvalRequest
    from crucible.legacy import LegacyClient
    from crucible.migration.live.ends import LegacyEnds
    from crucible.migration.live.ledger import Ledger
    from crucible.models import Evaluation

log = logging.getLogger(__name__)

#: Evaluations followed at once; beyond that the oldest are dropped.
LIMIT = 20_000
#: Seconds between two rounds, evaluations in one request, and results fetched at once.
ROUND_S, BATCH, FETCH = 0.25, 500, 8
#: Evaluations polled in a second at most: a long backlog must not load either queue system.
RATE = 4000
#: Memory that requests kept for comparison may take.
ASKED_BYTES = 64 * 1024 * 1024
#: Seconds after which an evaluation that has not ended is dropped.
PATIENCE_S = 3600.0


class Observer(Protocol):
    """Called when evaluations end."""

    def completed(self, queue_system: QueueSystem, evaluation: Evaluation) -> None:
        """An evaluation, or a copy of one, ended in ``queue_system``."""

    def paired(self, asked: EvalRequest, legacy: Evaluation, celery: Evaluation) -> None:
        """An evaluation and its copy both ended."""


@dataclass(slots=True)
class Followed:
    """One evaluation that has not ended.

    Attributes:
        record: its record.
        asked: what to run, kept only where a copy is to be compared.
        legacy: still awaited from the legacy queue.
        celery: still awaited from Celery.
        since_s: monotonic seconds when it was accepted.
        legacy_meta: its result from the legacy queue, once it is known.
        celery_meta: the same from Celery.
    """

    record: Record
    asked: EvalRequest | None
    legacy: bool
    celery: bool
    since_s: float
    legacy_meta: Meta | None = None
    celery_meta: Meta | None = None


class Follower:
    """Follows evaluations. Open it with ``async with``."""

    def __init__(
        self,
        legacy: LegacyClient,
        results: Results,
        ledger: Ledger,
        ends: LegacyEnds,
        observer: Observer,
    ) -> None:
        self._legacy = legacy
        self._results = results
        self._ledger = ledger
        self._ends = ends
        self._observer = observer
        self._followed: OrderedDict[str, Followed] = OrderedDict()
        self._asked_bytes = 0
        self._awaited = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.totals: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_following(), name="crucible-follower")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._followed)

    def record_of(self, eval_id: str) -> Record | None:
        """The record of an evaluation this process submitted, while it follows it."""
        found = self._followed.get(eval_id)
        return None if found is None else found.record

    def follow(self, eval_id: str, record: Record, asked: EvalRequest | None = None) -> None:
        """Follow an evaluation that was accepted; with ``asked`` also its copy."""
        queue_system = QueueSystem(record.queue_system)
        self._drop(eval_id)
        if asked is not None:
            if self._asked_bytes + size_of(asked) > ASKED_BYTES:
                self.totals["not_compared"] += 1
                asked = None
            else:
                self._asked_bytes += size_of(asked)
        self._followed[eval_id] = Followed(
            record=record,
            asked=asked,
            legacy=queue_system is QueueSystem.LEGACY,
            celery=queue_system is QueueSystem.CELERY or asked is not None,
            since_s=time.monotonic(),
        )
        self._awaited.set()
        while len(self._followed) > LIMIT:
            self._drop(next(iter(self._followed)))
            self.totals["given_up"] += 1

    def without_copy(self, eval_id: str) -> None:
        """Stop waiting for a copy, because none was sent."""
        found = self._followed.get(eval_id)
        if found is not None and QueueSystem(found.record.queue_system) is QueueSystem.LEGACY:
            self._forget_asked(found)
            found.celery = False
            self._finish(eval_id, found)

    def _drop(self, eval_id: str) -> Followed | None:
        found = self._followed.pop(eval_id, None)
        if found is not None:
            self._forget_asked(found)
        return found

    def _forget_asked(self, found: Followed) -> None:
        if found.asked is not None:
            self._asked_bytes -= size_of(found.asked)
            found.asked = None

    async def _keep_following(self) -> None:
        while True:
            await self._awaited.wait()
            self._awaited.clear()
            while self._followed:
                try:
                    await self._round()
                except Exception:  # supervision: following must outlive any one evaluation
                    log.exception("a round of polling failed")
                await asyncio.sleep(max(ROUND_S, len(self._followed) / RATE))

    async def _round(self) -> None:
        self._give_up()
        for ids in _batches([i for i, one in self._followed.items() if one.legacy]):
            await self._look_at_legacy(ids)
        for ids in _batches([i for i, one in self._followed.items() if one.celery]):
            await self._look_at_celery(ids)

    def _give_up(self) -> None:
        limit = time.monotonic() - PATIENCE_S
        for eval_id in [i for i, one in self._followed.items() if one.since_s < limit]:
            self._drop(eval_id)
            self.totals["given_up"] += 1

    async def _look_at_legacy(self, ids: Sequence[str]) -> None:
        try:
            views = await self._legacy.find(ids)
        except LegacyError as error:
            log.debug("the legacy queue cannot be polled: %s", error)
            return
        known = {view.id for view in views}
        for eval_id in ids:
            if eval_id not in known and self._drop(eval_id):
                self.totals["lost"] += 1
                log.warning("the legacy queue lost evaluation %s", eval_id)
        ended = [view.id for view in views if view.status in ENDED_STATES]
        for start in range(0, len(ended), FETCH):
            await asyncio.gather(*map(self._fetch, ended[start : start + FETCH]))

    async def _fetch(self, eval_id: str) -> None:
        followed = self._followed.get(eval_id)
        if followed is None:
            return
        try:
            meta = meta_of_task(await self._legacy.result(eval_id))
        except LegacyTaskUnknown:
            self._drop(eval_id)
            return
        except LegacyError as error:
            log.debug("the result of %s cannot be fetched now: %s", eval_id, error)
            return
        try:
            # ``migration recover`` cancels here what it moved to Celery: it has not ended.
            record = await self._ledger.record(eval_id) if meta.status == REVOKED else None
            if record is not None and record.queue_system == "celery":
                self.follow(eval_id, record)
                return
            await self._ends.note(eval_id, followed.record, meta)
        except BrokerError as error:
            # Still followed, since the legacy queue will drop the result: the next round tries
            # again.
            log.debug("the result of %s cannot be kept now: %s", eval_id, error)
            return
        found = self._followed.get(eval_id)
        if found is not None and found.legacy:
            found.legacy, found.legacy_meta = False, meta
            self._observer.completed(QueueSystem.LEGACY, evaluation_of(eval_id, found.record, meta))
            self._finish(eval_id, found)

    async def _look_at_celery(self, ids: Sequence[str]) -> None:
        try:
            metas = await self._results.metas([task_id_of(eval_id) for eval_id in ids])
        except BrokerError as error:
            log.debug("results cannot be read now: %s", error)
            return
        for eval_id, meta in zip(ids, metas, strict=True):
            found = self._followed.get(eval_id)
            if found is not None and meta is not None and meta.ready:
                found.celery, found.celery_meta = False, meta
                self._observer.completed(QueueSystem.CELERY, _copy_of(eval_id, found.record, meta))
                self._finish(eval_id, found)

    def _finish(self, eval_id: str, found: Followed) -> None:
        if found.legacy or found.celery:
            return
        asked = found.asked
        self._drop(eval_id)
        if asked is not None and found.legacy_meta and found.celery_meta:
            legacy = evaluation_of(eval_id, found.record, found.legacy_meta)
            self._observer.paired(asked, legacy, _copy_of(eval_id, found.record, found.celery_meta))


def _copy_of(eval_id: str, record: Record, meta: Meta) -> Evaluation:
    view = evaluation_of(eval_id, record, meta)
    view.queue_system = "celery"
    return view


def _batches(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
