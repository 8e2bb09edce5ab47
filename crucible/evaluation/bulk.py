"""Many submissions that go to the queue server together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.errors import BrokerError, CrucibleError, QuotaExceeded
from crucible.evaluation.record import decode_record, public_id
from crucible.evaluation.service import Submitted
from crucible.evaluation.submission import check_same, with_id

if TYPE_CHECKING:
    from crucible.broker.publishing.group_commit import PublishResult
    from crucible.evaluation.celery_service import CeleryService
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.submission import Draft
    from crucible.identity.principal import Principal

#: How often those are sent again that were refused because too much was in flight.
MORE_TRIES = 4


class Bulk:
    """Submissions under way; each is begun on its own and fails on its own.

    Args:
        service: takes them.
        caller: whose they will be.
    """

    def __init__(self, service: CeleryService, caller: Principal) -> None:
        self._service = service
        self._caller = caller
        self._entries: list[_Entry | CrucibleError] = []
        self._pending = 0
        self._done: asyncio.Future[None] | None = None

    def begin(self, asked: EvalRequest, key: str | None) -> None:
        """Add one submission to the next flush; what is wrong with it is kept as its outcome."""
        entry = _Entry(self)
        try:
            entry.draft = self._service.begin(self._caller, asked, key, entry)
        except CrucibleError as error:
            self._entries.append(error)
            return
        self._pending += 1
        self._entries.append(entry)

    async def outcomes(self) -> list[Submitted | CrucibleError]:
        """How each ended, in order. The deadline is the group commit's: each has one."""
        await self._settled()
        for _ in range(MORE_TRIES):
            refused = self._over_in_flight()
            if not refused or not await self._has_room(refused[0]):
                break
            self._send_again(refused)
            await self._settled()
        # Entries refer to this: kept here, they would stay until the garbage collector runs.
        entries, self._entries = self._entries, []
        return [
            entry if isinstance(entry, CrucibleError) else self._outcome(entry) for entry in entries
        ]

    async def _settled(self) -> None:
        if self._pending:
            self._done = asyncio.get_running_loop().create_future()
            await self._done

    def _over_in_flight(self) -> list[_Entry]:
        """Those refused because as many are in flight as may be: some may have ended meanwhile."""
        return [
            entry
            for entry in self._entries
            if isinstance(entry, _Entry)
            and isinstance(entry.error, QuotaExceeded)
            and entry.error.in_flight
        ]

    async def _has_room(self, refused: _Entry) -> bool:
        try:
            return await self._service.release_ended(refused.draft)
        except BrokerError:
            return False  # what each was refused for is its outcome

    def _send_again(self, refused: list[_Entry]) -> None:
        for entry in refused:
            entry.error = None
            try:
                self._service.send(entry.draft, entry)
            except BrokerError as error:
                entry.error = error
            else:
                self._pending += 1

    def ended(self) -> None:
        """One more is known."""
        self._pending -= 1
        if not self._pending and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _outcome(self, entry: _Entry) -> Submitted | CrucibleError:
        draft, error = entry.draft, entry.error
        if error is not None:
            return with_id(error, draft)
        if entry.existing is None:
            return Submitted(public_id(draft.eval_id), self._service.accepted(draft), True)
        first = decode_record(entry.existing)
        try:
            check_same(draft, first)
        except CrucibleError as conflict:
            return conflict
        return Submitted(public_id(draft.eval_id), first.queue, False, first.queue_system)


class _Entry:
    """One of them; the group commit calls it with the publish result."""

    __slots__ = ("_bulk", "draft", "error", "existing")

    draft: Draft

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self.error: BrokerError | None = None
        self.existing: bytes | None = None

    def done(self) -> bool:
        """Never abandoned: what was begun is sent, whether its client still waits or not."""
        return False

    def set_result(self, result: PublishResult) -> None:
        """The queue server answered."""
        self.error, self.existing = result.error, result.existing
        rate = self.draft.rate
        if isinstance(self.error, QuotaExceeded) and rate is not None:
            # What comes next is refused here for as long as the server would refuse it.
            rate.refused(self.error)
        self._bulk.ended()

    def set_exception(self, error: BrokerError) -> None:
        """The flush as a whole failed."""
        self.error = error
        self._bulk.ended()
