"""The handler of ``POST /api/eval/batch``: many programs in one request.

The body is parsed as it arrives. Until ``HELD_BYTES`` of it, or all of it, have come nothing is
queued, so that a batch that is refused as a whole (malformed, too many items) queues nothing unless
it is larger than that; then the refusal says what was queued before. Items are submitted in chunks,
of which a few are under way at a time: while one travels the next is encoded, and a client that
sends faster than the queue server takes is not read meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from crucible.api import batch_answers
from crucible.api.app_keys import SERVICE, SETTINGS
from crucible.api.batch_answers import RequestCounts
from crucible.api.batch_waiting import Awaited, stream_ended
from crucible.api.callers import caller_of
from crucible.api.evaluations import JSON_TYPE, key_of, wait_of
from crucible.api.problems import not_submitted, translate
from crucible.errors import BrokerError, CrucibleError, InputError, LegacyError, NothingStored
from crucible.evaluation.batch_item import BatchItem, custom_id_of, decode_item
from crucible.http.body import BodyTooLarge, body_parts
from crucible.http.items import ArraySplitter, ItemSplitter, LineSplitter
from crucible.http.problems import of_http, with_members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.evaluation.service import EvaluationService, Submitted
    from crucible.identity.principal import Principal

NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
MAX_ITEMS = 10_000
MAX_BYTES = 64 << 20
#: Bytes of items that are held before the first of them is queued.
HELD_BYTES = 4 << 20
#: Items submitted at once; encoding them is all the loop does meanwhile.
CHUNK = 50
#: Chunks under way at a time: as many items as go in one flush.
UNDER_WAY = 20
#: Times that what the queue server never got is sent again, each with a deadline of its own.
MORE_TRIES = 2
#: Between the key of a batch and the number of an item: no header field can have it, so the key of
#: an item is never that of another request.
_ITEM_OF_KEY = "\n"


class TooManyItems(web.HTTPRequestEntityTooLarge):
    """A batch has more items than the service takes in one request."""

    def __init__(self) -> None:
        text = f"a batch must not have more than {MAX_ITEMS} items"
        super().__init__(max_size=MAX_ITEMS, actual_size=MAX_ITEMS + 1, text=text)


async def submit(request: web.Request) -> web.StreamResponse:
    """``POST /api/eval/batch``: queue many programs; with ``?wait=`` stream them as they end."""
    wait_s, key = wait_of(request), key_of(request)
    most = request.app[SETTINGS].max_body_kb * 1024
    splitter = _splitter_of(request, most)
    batch = Batch(request.app[SERVICE], caller_of(request), key, most)
    try:
        try:
            async for part in body_parts(request, MAX_BYTES):
                await batch.take(splitter.feed(part))
            await batch.take(splitter.finish())
            await batch.flush()
        finally:
            await batch.settle()
    except (BodyTooLarge, TooManyItems) as error:
        return batch.refused(of_http(error))
    except InputError as error:
        return batch.refused(translate(error))
    if batch.overload is not None and not batch.accepted():
        response = not_submitted(batch.overload, named=key is not None)
        return with_members(response, **batch.members())
    if wait_s is None:
        body = msgspec.json.encode(batch.members())
        return web.Response(body=body, status=202, content_type=JSON_TYPE)
    return await stream_ended(request, batch.lines, batch.accepted(), wait_s)


def _splitter_of(request: web.Request, most: int) -> ItemSplitter:
    kind = request.content_type
    if kind in NDJSON_TYPES:
        return LineSplitter(most)
    # Any web page can have a browser send other types to a loopback address without asking.
    if kind == JSON_TYPE or kind.endswith("+json"):
        return ArraySplitter(most)
    raise web.HTTPUnsupportedMediaType(
        text=f"the Content-Type must be {JSON_TYPE} (an array) or application/x-ndjson"
    )


class Batch:
    """The items of one request, and what became of each.

    What is kept of an item is a few strings. Ten thousand objects of the kind that the garbage
    collector looks at would cost more in its passes than all that is done with them.

    Args:
        service: takes them.
        caller: whose they will be.
        key: the ``Idempotency-Key`` of the whole; each item without an id has one made of it.
        most: bytes of the largest item.

    Attributes:
        lines: of each item what is said of it, as JSON; empty until that is known.
        overload: an error for which items that were in order could not be queued.
    """

    def __init__(
        self, service: EvaluationService, caller: Principal, key: str | None, most: int
    ) -> None:
        self.lines: list[str] = []
        self.overload: BrokerError | LegacyError | None = None
        self._service = service
        self._caller = caller
        self._key = key
        self._most = most
        #: Of each item; empty where it is not queued.
        self._eval_ids: list[str] = []
        self._custom_ids: dict[int, str] = {}
        #: Not submitted yet; the last ones that came.
        self._waiting: deque[bytes | None] = deque()
        self._held_bytes = 0
        self._has_begun = False
        self._under_way: deque[asyncio.Task[None]] = deque()

    async def take(self, items: Sequence[bytes | None]) -> None:
        """Take more items, and submit those that make up chunks.

        Args:
            items: as sent; None for one that is too large.

        Raises:
            TooManyItems: there are more than may be.
        """
        self._waiting += items
        if len(self.lines) + len(self._waiting) > MAX_ITEMS:
            raise TooManyItems
        self._held_bytes += sum(len(item) for item in items if item is not None)
        if self._has_begun or self._held_bytes > HELD_BYTES:
            self._has_begun = True
            while len(self._waiting) >= CHUNK:
                await self._submit_chunk()

    async def flush(self) -> None:
        """Submit what is left: the body has ended as it should."""
        while self._waiting:
            await self._submit_chunk()

    async def settle(self) -> None:
        """Wait for what is under way; publications have deadlines of their own."""
        while self._under_way:
            await self._under_way.popleft()

    async def _submit_chunk(self) -> None:
        chunk: list[tuple[int, BatchItem]] = []
        first = len(self.lines)
        for at in range(first, first + min(CHUNK, len(self._waiting))):
            raw = self._waiting.popleft()
            self.lines.append("")
            self._eval_ids.append("")
            try:
                chunk.append((at, self._decoded(raw)))
            except InputError as error:
                named = custom_id_of(raw) if raw is not None else None
                self.lines[at] = batch_answers.rejected(error, named, named=False)
        self._under_way.append(asyncio.create_task(self._submit(chunk)))
        # The loop goes round: this chunk is encoded, and what was before it is sent or answered.
        # Without that all chunks that may be under way would be encoded first, and then waited for.
        await asyncio.sleep(0)
        while len(self._under_way) >= UNDER_WAY:
            await self._under_way.popleft()

    def _decoded(self, raw: bytes | None) -> BatchItem:
        if raw is None:
            raise InputError("", f"must not have more than {self._most // 1024} KiB")
        return decode_item(raw)

    async def _submit(self, chunk: Sequence[tuple[int, BatchItem]]) -> None:
        keys = [self._key_of(at, item) for at, item in chunk]
        items = [item for _, item in chunk]
        outcomes = await self._submitted(items, keys)
        for (at, item), key, outcome in zip(chunk, keys, outcomes, strict=True):
            if isinstance(outcome, CrucibleError):
                self._reject(at, item, outcome, named=bool(item.eval_id or key))
                continue
            self._eval_ids[at] = outcome.eval_id
            if item.custom_id is not None:
                self._custom_ids[at] = item.custom_id
            if outcome.new:
                self.lines[at] = batch_answers.accepted(outcome, item.custom_id)
            else:
                self.lines[at] = await self._known(outcome, item)

    async def _submitted(
        self, items: Sequence[BatchItem], keys: Sequence[str | None]
    ) -> list[Submitted | CrucibleError]:
        """How each was submitted; those that the server never got are sent again.

        A server that is slow for a moment must not cost a batch thousands of its items.
        """
        outcomes = await self._service.submit_many(self._caller, items, keys)
        for _ in range(MORE_TRIES):
            # Of the kinds of this error, such as full memory, none would be over by now.
            unsent = [at for at, outcome in enumerate(outcomes) if type(outcome) is NothingStored]
            if not unsent:
                break
            again = await self._service.submit_many(
                self._caller, [items[at] for at in unsent], [keys[at] for at in unsent]
            )
            for at, outcome in zip(unsent, again, strict=True):
                outcomes[at] = outcome
        return outcomes

    def _key_of(self, at: int, item: BatchItem) -> str | None:
        if self._key is None or item.eval_id is not None:
            return None
        return f"{self._key}{_ITEM_OF_KEY}{at}"

    def _reject(self, at: int, item: BatchItem, error: CrucibleError, *, named: bool) -> None:
        if isinstance(error, (BrokerError, LegacyError)):
            self.overload = error
        self.lines[at] = batch_answers.rejected(error, item.custom_id, named=named)

    async def _known(self, submitted: Submitted, item: BatchItem) -> str:
        """What is said of an evaluation that was submitted before."""
        try:
            evaluation = await self._service.look_up(self._caller, submitted.eval_id)
        except (BrokerError, LegacyError):
            # It is queued all the same, or has been.
            return batch_answers.accepted(submitted, item.custom_id)
        return batch_answers.known(evaluation, item.custom_id)

    def accepted(self) -> list[Awaited]:
        """The items that are queued, in order."""
        named = self._custom_ids.get
        return [Awaited(at, one, named(at)) for at, one in enumerate(self._eval_ids) if one]

    def members(self) -> dict[str, object]:
        """The members of an answer, ``BatchAccepted``."""
        total = len(self.lines)
        accepted = total - self._eval_ids.count("")
        counts = RequestCounts(total=total, accepted=accepted, rejected=total - accepted)
        items = msgspec.Raw(f"[{','.join(self.lines)}]".encode())
        return {"items": items, "request_counts": counts}

    def refused(self, response: web.Response) -> web.Response:
        """The refusal of the whole; what was submitted before it was noticed is in it."""
        return with_members(response, **self.members()) if self.lines else response
