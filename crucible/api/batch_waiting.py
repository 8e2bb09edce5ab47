"""The answer to a batch with ``?wait=``: NDJSON of its evaluations, each as it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiohttp import web

from crucible.api.app_keys import SERVICE
from crucible.api.callers import caller_of
from crucible.errors import BrokerError, LegacyError, NotFound
from crucible.http.answers import has_hung_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.models import Evaluation

#: Evaluations waited for at a time, the first that are left: about three kilobytes each.
WINDOW = 1000
#: Seconds after which a client that is gone is noticed.
_LOOK_S = 1.0

_encode = msgspec.json.Encoder().encode


class Awaited(NamedTuple):
    """An item of a batch that is queued.

    Attributes:
        at: its position in the request, its ``index`` in the answer.
        eval_id: its id.
        custom_id: the item's own.
    """

    at: int
    eval_id: str
    custom_id: str | None


async def stream_ended(
    request: web.Request, lines: Sequence[str], accepted: Sequence[Awaited], wait_s: float
) -> web.StreamResponse:
    """Answer with one line an item, each with its ``index``, in the order they end.

    Rejected items come first. What has not ended after ``wait_s`` seconds comes last, as it is
    then. A client that hangs up ends the waiting, not the evaluations.

    Args:
        request: answered here.
        lines: what was said of each item when it was submitted.
        accepted: those that are queued.
        wait_s: seconds to wait.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    queued = {one.at for one in accepted}
    rejected = [_line(at, line) for at, line in enumerate(lines) if at not in queued]
    waiting = _Waiting(request, lines, wait_s)
    rest = iter(sorted(accepted))
    workers = [asyncio.create_task(waiting.work(rest)) for _ in range(min(WINDOW, len(accepted)))]
    try:
        if rejected:
            await response.write(b"".join(rejected))
        left = len(accepted)
        while left:
            ended = await waiting.ended()
            for worker in workers:
                if worker.done():
                    worker.result()  # raises what it failed with
            if has_hung_up(request):
                return response
            left -= len(ended)
            if ended:
                await response.write(b"".join(ended))
        await response.write_eof()
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return response


class _Waiting:
    """Waits for evaluations and collects the lines of those that have ended."""

    def __init__(self, request: web.Request, lines: Sequence[str], wait_s: float) -> None:
        self._service = request.app[SERVICE]
        self._caller = caller_of(request)
        self._lines = lines
        self._until = asyncio.get_running_loop().time() + wait_s
        self._ended: list[bytes] = []
        self._any = asyncio.Event()

    async def work(self, rest: Iterator[Awaited]) -> None:
        """Wait for one after the other of what is left."""
        for one in rest:
            line = await self._line_of(one)
            # Not in one expression: the list may be another one by the time the line is there.
            self._ended.append(line)
            self._any.set()

    async def _line_of(self, one: Awaited) -> bytes:
        left_s = max(0.0, self._until - asyncio.get_running_loop().time())
        try:
            await self._service.wait(self._caller, one.eval_id, left_s)
            evaluation = await self._service.look_up(self._caller, one.eval_id)
        except (BrokerError, LegacyError, NotFound):
            # What is known of it for certain is that it was queued.
            return _line(one.at, self._lines[one.at])
        return _evaluation_line(one, evaluation)

    async def ended(self) -> list[bytes]:
        """Lines of those that have ended since the last call; none after a while without any."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._any.wait()
        except TimeoutError:
            return []
        self._any.clear()
        ended, self._ended = self._ended, []
        return ended


def _evaluation_line(one: Awaited, evaluation: Evaluation) -> bytes:
    named = b"" if one.custom_id is None else b'"custom_id":%b,' % _encode(one.custom_id)
    return b'{"index":%d,%b%b\n' % (one.at, named, _encode(evaluation)[1:])


def _line(index: int, text: str) -> bytes:
    """What was said of an item, with its index."""
    return f'{{"index":{index},{text[1:]}\n'.encode()
