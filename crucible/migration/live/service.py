"""The service of an installation with a legacy queue: each evaluation goes the way of its mode.

Who decides which side an evaluation belongs to: its record on the task queue server, where there
is one; else the side that knows it. While that server is away, ids made up here cannot have been
used before, and what the legacy queue takes is recorded once the server is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from crucible.api.problems import NOT_QUEUED
from crucible.breaker import BreakerState
from crucible.broker.redis.connection import open_client
from crucible.errors import BrokerError, BrokerUnavailable, LegacyError, NothingStored
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.request import queue_of
from crucible.evaluation.service import Draft, Submitted, check_same
from crucible.legacy import LegacyClient
from crucible.migration.legacy_results import LEGACY_QUEUE
from crucible.migration.live.breakers import Breakers
from crucible.migration.live.comparer import DualComparer, Mismatches
from crucible.migration.live.copies import Copies
from crucible.migration.live.follower import Follower
from crucible.migration.live.ledger import (
    PATIENCE_S,
    SPLIT_PATIENCE_S,
    Entry,
    Ledger,
    encode_asked,
)
from crucible.migration.live.legacy_backend import LegacySide
from crucible.migration.live.lookup import TwoSided
from crucible.migration.live.sample import Sampler
from crucible.migration.live.shadow import Shadow
from crucible.migration.live.watch import SwitchWatch
from crucible.migration.routing import Decision, Mode, Side, decide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.evaluation.record import Record
    from crucible.evaluation.request import EvalRequest
    from crucible.models import Evaluation
    from crucible.settings import Settings
    from crucible.telemetry.submissions import Meter

log = logging.getLogger(__name__)


class RoutedService(TwoSided):
    """A service with two sides. Opened with ``opened``.

    Attributes:
        breakers: of what it depends on.
        watch: the switches in force.
        mismatches: what comparisons found.
        shadow: copies for Celery.
        legacy_total: submissions that the legacy queue took.
    """

    legacy_total = 0
    breakers: Breakers
    watch: SwitchWatch
    mismatches: Mismatches
    shadow: Shadow
    _comparer: DualComparer
    _sampler: Sampler
    _meter: Meter
    _tally: CompletionCounter

    @asynccontextmanager
    async def opened(self, settings: Settings, meter: Meter) -> AsyncIterator[RoutedService]:
        """Connect to the legacy side; what is sent in the background ends with the context."""
        keys = self._publisher.keys
        self._meter = meter
        self.breakers = Breakers(settings)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            client = await enter(open_client(settings.celery_broker_url, name="migration"))
            token = settings.queue_service_token
            self.legacy = await enter(LegacyClient(settings.queue_service_url, token=token))
            self.watch = await enter(SwitchWatch(client, keys, settings, self.breakers.queue))
            self._ledger = await enter(
                Ledger(client, keys, self._record_ttl_s, self._result_ttl_s, self.breakers.records)
            )
            self.mismatches = Mismatches(client, keys)
            self._side = LegacySide(
                self.legacy,
                self.breakers.legacy,
                self._ledger,
                self._publisher.results,
                languages=self._languages,
                ceilings=self._ceilings,
                isolation=settings.isolation,
            )
            self._tally = await enter(
                CompletionCounter().writing(settings.celery_broker_url, keys, self._result_ttl_s)
            )
            copies = Copies(self._publisher, self._messages, self._result_ttl_s)
            self._comparer = await enter(DualComparer(self.mismatches, copies.run_again))
            self._follower = await enter(
                Follower(self.legacy, self._publisher.results, self._ledger, self)
            )
            self._sampler = await enter(Sampler(client, keys))
            self.shadow = await enter(
                Shadow(copies.send, self._follower.without_copy, self.breakers.queue)
            )
            yield self

    # Submitting

    def submitted(self) -> dict[str, int]:
        """Evaluations each side took since the start; copies are not among them."""
        return {"celery": self.celery_total, "legacy": self.legacy_total}

    async def submit(self, asked: EvalRequest, key: str | None = None) -> Submitted:
        """Queue one evaluation on the side that the switches, or its own past, name.

        Raises:
            InputError: it could never run.
            ConflictError: the id was used for something else.
            BrokerError: the Celery side did not take it, nor the legacy queue where it may.
            LegacyError: the legacy queue did not take it.
        """
        draft = self._draft(asked, key)
        began = time.perf_counter()
        is_open = self.breakers.queue.state is BreakerState.OPEN
        decision = decide(self.watch.switches, draft.eval_id, celery_open=is_open)
        self._meter.selected(time.perf_counter() - began)
        self._sampler.offer(draft.eval_id, asked)
        if decision.primary is Side.CELERY:
            return await self._celery_first(draft, decision)
        try:
            return await self._legacy_first(draft, dual=decision.shadow is not None)
        except LegacyError as error:
            if decision.mode is not Mode.CELERY_PRIMARY:
                raise
            legacy_error = error
        # The circuit is open and the legacy queue is of no help: the queue server may be back.
        try:
            only = Decision(mode=decision.mode, primary=Side.CELERY)
            return await self._celery_first(draft, only)
        except NothingStored as error:
            if isinstance(legacy_error, NOT_QUEUED):
                raise
            raise BrokerUnavailable(f"{legacy_error}; {error}") from error

    async def _celery_first(self, draft: Draft, decision: Decision) -> Submitted:
        try:
            first = await self._guarded_publish(draft)
        except BrokerError as error:
            if decision.failover is not Side.LEGACY:
                raise
            return await self._fail_over(draft, error)
        if first is not None:
            return await self._repeated(draft, first)
        queue = queue_of(draft.asked.priority)
        self._follower.follow(draft.eval_id, draft.record("celery", queue))
        return Submitted(draft.eval_id, queue, True)

    async def _guarded_publish(self, draft: Draft) -> Record | None:
        permit = self.breakers.queue.permit()
        if permit is None:
            raise NothingStored("the queue server is let alone for a while")
        with permit:
            return await self._publish(draft)

    async def _fail_over(self, draft: Draft, error: BrokerError) -> Submitted:
        log.info("%s goes to the legacy queue: %s", draft.eval_id, error)
        try:
            await self._side.submit(draft.eval_id, draft.asked)
        except LegacyError as other:
            known = isinstance(error, NOT_QUEUED) and isinstance(other, NOT_QUEUED)
            raise (NothingStored if known else BrokerUnavailable)(f"{error}; {other}") from error
        record = draft.record("legacy", LEGACY_QUEUE)
        self._ledger.enter_later(draft.eval_id, Entry(record, encode_asked(draft.asked)))
        return self._accepted_by_legacy(draft, record, dual=False)

    async def _legacy_first(self, draft: Draft, *, dual: bool) -> Submitted:
        record = draft.record("legacy", LEGACY_QUEUE, shadow=dual)
        entry = Entry(record, encode_asked(draft.asked))
        if draft.field:
            # Somebody may have used the id before, on either side: that comes first.
            first = await self._enter(draft.eval_id, entry)
            if first is not None:
                return await self._repeated(draft, first)
            await self._take_or_withdraw(draft)
        else:
            entering = asyncio.create_task(self._enter(draft.eval_id, entry))
            try:
                await self._side.submit(draft.eval_id, draft.asked)
            except BaseException:
                await asyncio.wait({entering})
                await self._ledger.withdraw(draft.eval_id)
                raise
            # Bounded by the ledger's patience, and as a rule over by now.
            await entering
        return self._accepted_by_legacy(draft, record, dual=dual)

    async def _enter(self, eval_id: str, entry: Entry) -> Record | None:
        """Write down what is about to go to the legacy queue; never fails, hardly waits."""
        try:
            # Until Celery has a share, nothing of its side may slow the legacy path.
            mode = self.watch.switches.mode
            legacy_only = mode in (Mode.LEGACY_ONLY, Mode.DUAL_WRITE)
            patience_s = PATIENCE_S if legacy_only else SPLIT_PATIENCE_S
            return await self._ledger.enter(eval_id, entry, patience_s)
        except BrokerError:
            self._ledger.enter_later(eval_id, entry)
            return None

    async def _take_or_withdraw(self, draft: Draft) -> None:
        try:
            await self._side.submit(draft.eval_id, draft.asked)
        except BaseException:
            await self._ledger.withdraw(draft.eval_id)
            raise

    def _accepted_by_legacy(self, draft: Draft, record: Record, *, dual: bool) -> Submitted:
        self.legacy_total += 1
        self._follower.follow(draft.eval_id, record, draft.asked if dual else None)
        if dual:
            self.shadow.offer(draft.eval_id, draft.asked)
        return Submitted(draft.eval_id, LEGACY_QUEUE, True, "legacy")

    async def _repeated(self, draft: Draft, first: Record) -> Submitted:
        """A submission whose id is known goes where the first one went."""
        check_same(draft, first)
        legacy = first.queue_system == "legacy"
        if legacy and await self._side.kept_end(draft.eval_id) is None:
            # The legacy queue hands back its own; one that it lost it takes again.
            await self._side.submit(draft.eval_id, draft.asked)
            self._follower.follow(draft.eval_id, first)
        return Submitted(draft.eval_id, first.queue, False, first.queue_system)

    # Following (see ``follower.Observer``)

    def ended(self, side: Side, evaluation: Evaluation) -> None:
        """An evaluation or its copy ended; workers count those of Celery themselves."""
        timing = evaluation.timing_ms
        if side is Side.LEGACY and timing is not None:
            self._tally.note("legacy", evaluation.status, evaluation.eval_id, timing.total / 1000)

    def paired(self, asked: EvalRequest, legacy: Evaluation, celery: Evaluation) -> None:
        """An evaluation and its copy both ended."""
        self._comparer.compare(asked, legacy, celery)

    @property
    def following(self) -> int:
        """Evaluations of this process that have not ended as far as it knows."""
        return len(self._follower)
