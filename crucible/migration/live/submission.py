"""Submitting where there is a legacy queue: each evaluation goes where its mode sends it.

The record of an evaluation on the task queue server says which queue system has it; without one,
the queue system that knows the id. While that server is away, generated ids cannot have been used
before, and what the legacy queue accepts is recorded once the server is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from crucible.breaker import BreakerState
from crucible.errors import (
    BrokerError,
    BrokerUnavailable,
    LegacyError,
    NothingStored,
    QuotaExceeded,
)
from crucible.evaluation.record import decode_record, public_id
from crucible.evaluation.request import queue_of
from crucible.evaluation.service import NOT_QUEUED, Submitted
from crucible.evaluation.submission import check_same
from crucible.evaluation.transitions import queued
from crucible.migration.legacy_results import LEGACY_QUEUE
from crucible.migration.live.ledger import PATIENCE_S, SPLIT_PATIENCE_S, Entry, encode_asked
from crucible.migration.routing import Decision, Mode, QueueSystem, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.evaluation.celery_service import CeleryService
    from crucible.evaluation.record import Record
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.submission import Draft
    from crucible.identity.principal import Principal
    from crucible.identity.rates import KeyRate, RateStatus
    from crucible.migration.live.migration import Migration

log = logging.getLogger(__name__)


class RoutedSubmission:
    """Sends each submission to the queue system that the switches, or its own past, name.

    Args:
        celery: checks submissions, and publishes those for Celery.
        migration: decides, and takes those for the legacy queue.
        selected: called with the seconds that each choice of a queue system took.
    """

    def __init__(
        self, celery: CeleryService, migration: Migration, selected: Callable[[float], None]
    ) -> None:
        self._celery = celery
        self._watch = migration.watch
        self._breaker = migration.breakers.queue
        self._backend = migration.backend
        self._ledger = migration.ledger
        self._follower = migration.follower
        self._sampler = migration.sampler
        self._shadow = migration.shadow
        self._selected = selected
        self._legacy_total = 0

    def submitted(self) -> dict[str, int]:
        """Evaluations accepted since the start, by queue system; copies are not counted."""
        return {**self._celery.submitted(), "legacy": self._legacy_total}

    async def submit(
        self, caller: Principal, asked: EvalRequest, key: str | None = None, retry_of: str = ""
    ) -> Submitted:
        """Queue one evaluation.

        Raises:
            InputError: it could never run.
            ConflictError: the id was used for something else.
            BrokerError: Celery did not accept it, nor the legacy queue where that may.
            LegacyError: the legacy queue did not accept it.
        """
        draft = self._celery.draft(caller, asked, key)
        draft.retry_of = retry_of
        began = time.perf_counter()
        is_open = self._breaker.state is BreakerState.OPEN
        graded = asked.tests is not None
        decision = decide(self._watch.switches, draft.eval_id, celery_open=is_open, graded=graded)
        self._selected(time.perf_counter() - began)
        if not graded:
            self._sampler.offer(draft.eval_id, asked)
        if decision.primary is QueueSystem.CELERY:
            return await self._celery_first(draft, decision)
        try:
            return await self._legacy_first(draft, dual=decision.shadow is not None)
        except LegacyError as error:
            if decision.mode is not Mode.CELERY_PRIMARY:
                raise
            legacy_error = error
        # The circuit is open and the legacy queue did not accept it: the queue server may be back.
        try:
            only = Decision(mode=decision.mode, primary=QueueSystem.CELERY)
            return await self._celery_first(draft, only)
        except NothingStored as error:
            if isinstance(legacy_error, NOT_QUEUED):
                raise
            raise BrokerUnavailable(f"{legacy_error}; {error}") from error

    async def _celery_first(self, draft: Draft, decision: Decision) -> Submitted:
        try:
            first, rate = await self._guarded_publish(draft)
        except QuotaExceeded:
            raise
        except BrokerError as error:
            if decision.failover is not QueueSystem.LEGACY:
                raise
            return await self._fail_over(draft, error)
        if first is not None:
            return await self._repeated(draft, first)
        queue = queue_of(draft.asked.priority)
        self._follower.follow(draft.eval_id, draft.record("celery", queue))
        return Submitted(public_id(draft.eval_id), queue, True, rate=rate)

    async def _guarded_publish(self, draft: Draft) -> tuple[Record | None, RateStatus | None]:
        permit = self._breaker.permit()
        if permit is None:
            raise NothingStored("the queue server failed repeatedly and is not called for now")
        with permit:
            return await self._celery.publish(draft)

    async def _fail_over(self, draft: Draft, error: BrokerError) -> Submitted:
        log.info("%s fails over to the legacy queue: %s", draft.eval_id, error)
        try:
            await self._backend.submit(draft.eval_id, draft.asked)
        except LegacyError as other:
            known = isinstance(error, NOT_QUEUED) and isinstance(other, NOT_QUEUED)
            raise (NothingStored if known else BrokerUnavailable)(f"{error}; {other}") from error
        record = draft.record("legacy", LEGACY_QUEUE)
        self._ledger.enter_later(draft.eval_id, Entry(record, encode_asked(draft.asked)))
        return self._accepted_by_legacy(draft, record, dual=False)

    async def _legacy_first(self, draft: Draft, *, dual: bool) -> Submitted:
        record = draft.record("legacy", LEGACY_QUEUE, shadow=dual)
        entry = Entry(record, encode_asked(draft.asked))
        rate = None
        if draft.field or draft.rate is not None:
            # The id may have been used before, in either queue system, or the rate be used up: that
            # is found out first.
            first, rate = await self._enter(draft, entry)
            if first is not None:
                return await self._repeated(draft, first)
            await self._take_or_withdraw(draft)
        else:
            entering = asyncio.create_task(self._enter(draft, entry))
            try:
                await self._backend.submit(draft.eval_id, draft.asked)
            except BaseException:
                await asyncio.wait({entering})
                await self._ledger.withdraw(draft.eval_id)
                raise
            # Bounded by the patience of the ledger, and usually done by now.
            await entering
        return self._accepted_by_legacy(draft, record, dual=dual, rate=rate)

    async def _enter(self, draft: Draft, entry: Entry) -> tuple[Record | None, RateStatus | None]:
        """Record what is about to go to the legacy queue, and charge its key; waits briefly.

        A server that is away fails nothing here: the legacy queue works without it.

        Raises:
            QuotaExceeded: the rate is used up, or too much is in flight.
        """
        # Until Celery has a share, its server must not slow submissions to the legacy queue.
        mode = self._watch.switches.mode
        legacy_only = mode in (Mode.LEGACY_ONLY, Mode.DUAL_WRITE)
        patience_s = PATIENCE_S if legacy_only else SPLIT_PATIENCE_S
        try:
            if draft.rate is not None:
                return await self._charged(draft, entry, draft.rate, patience_s)
            return await self._ledger.enter(draft.eval_id, entry, patience_s), None
        except QuotaExceeded:
            raise
        except BrokerError:
            self._ledger.enter_later(draft.eval_id, entry)
            return None, None

    async def _charged(
        self, draft: Draft, entry: Entry, rate: KeyRate, patience_s: float
    ) -> tuple[Record | None, RateStatus | None]:
        enter = partial(self._ledger.enter_charged, draft.eval_id, entry, rate.quota, patience_s)
        result = await enter()
        if isinstance(result.error, QuotaExceeded) and result.error.in_flight:
            with suppress(BrokerError):  # then it is refused for what is known
                if await self._celery.release_ended(draft):
                    result = await enter()
        if isinstance(result.error, QuotaExceeded):
            rate.refused(result.error)
            raise result.error
        status = None if result.quota is None else rate.status(result.quota)
        return decode_record(result.existing) if result.existing else None, status

    async def _take_or_withdraw(self, draft: Draft) -> None:
        try:
            await self._backend.submit(draft.eval_id, draft.asked)
        except BaseException:
            await self._ledger.withdraw(draft.eval_id)
            raise

    def _accepted_by_legacy(
        self, draft: Draft, record: Record, *, dual: bool, rate: RateStatus | None = None
    ) -> Submitted:
        self._legacy_total += 1
        self._celery.events.add(queued(draft, LEGACY_QUEUE, "legacy"))
        self._follower.follow(draft.eval_id, record, draft.asked if dual else None)
        if dual:
            self._shadow.offer(draft.eval_id, draft.asked)
        return Submitted(public_id(draft.eval_id), LEGACY_QUEUE, True, "legacy", rate)

    async def _repeated(self, draft: Draft, first: Record) -> Submitted:
        """A submission whose id is known: it goes where the first one went."""
        check_same(draft, first)
        legacy = first.queue_system == "legacy"
        if legacy and await self._backend.kept_result(draft.eval_id) is None:
            # The legacy queue returns the task it has, and accepts again one that it lost.
            await self._backend.submit(draft.eval_id, draft.asked)
            self._follower.follow(draft.eval_id, first)
        return Submitted(public_id(draft.eval_id), first.queue, False, first.queue_system)
