"""An async producer as a process: ``python -m benchmarks.chaos.producer NAME MODE RATE SEED
PROGRAMS``.

Modes: ``single`` sends one work at a time, ``batch`` sends batches of plain tasks, ``once`` sends
plain tasks with an idempotency record and repeats each until the server confirms. Stops on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.ledger import URL_VARIABLE, Ledger, open_client
from benchmarks.chaos.records import Accepted, Offered, Refused
from benchmarks.chaos.workload import Kind, Work, works
from crucible.broker import Publisher
from crucible.broker.canvas.signature import Signature, chain, chord, signature
from crucible.broker.publishing.group_commit import IdempotencyRecord
from crucible.broker.wire.call import TaskCall, TaskOptions
from crucible.broker.wire.encode import encode_task
from crucible.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_BATCH = 20
_ONCE_TTL_S = 600.0
_AGAIN_S = 0.2


def canvas(work: Work) -> Signature:
    """A chain or chord as a signature with the work's task ids."""
    parts = [
        signature(
            "chaos.work",
            kwargs={"seconds": work.seconds},
            task_id=task_id,
            queue=work.queue,
            priority=work.priority,
        )
        for task_id in work.ids
    ]
    return chain(*parts) if work.kind is Kind.CHAIN else chord(parts[:-1], parts[-1])


def call(work: Work) -> TaskCall:
    """A plain task."""
    name, kwargs, delayed = plain(work)
    options: TaskOptions = {"countdown": work.countdown} if delayed else {}
    return TaskCall(name, (), kwargs, work.name, work.queue, work.priority, None, options)


def plain(work: Work) -> tuple[str, dict[str, Any], bool]:
    """Name and keyword arguments of a plain task, and whether it is delayed."""
    if work.kind is Kind.RETRYING:
        return "chaos.flaky", {"times": work.size, "countdown": work.countdown}, False
    if work.kind is Kind.PROGRAM:
        return "chaos.program", {"isolation": work.isolation}, False
    return "chaos.work", {"seconds": work.seconds}, work.kind is Kind.DELAYED


class Producer:
    """Sends works and records them in the ledger."""

    def __init__(self, name: str, ledger: Ledger, publisher: Publisher) -> None:
        self._name = name
        self._ledger = ledger
        self._publisher = publisher

    async def single(self, some: list[Work]) -> None:
        """Send works one after the other."""
        for work in some:
            await self._offer([work])
            if work.kind in (Kind.CHAIN, Kind.CHORD):
                await self._send([work], self._publisher.send_canvas(canvas(work)))
            else:
                await self._send([work], self._publisher.send(call(work)))

    async def batch(self, some: list[Work]) -> None:
        """Send works as one batch."""
        await self._offer(some)
        outcomes = await self._publisher.try_batch([call(work) for work in some])
        for work, outcome in zip(some, outcomes, strict=True):
            error = outcome if isinstance(outcome, BrokerError) else None
            await self._outcome([work], error)

    async def once(self, some: list[Work]) -> None:
        """Send each work until the server confirms; it is pushed once however often it is sent."""
        for work in some:
            await self._offer([work])
            sent = call(work)
            raw = encode_task(
                sent.name, (), sent.kwargs, task_id=work.name, queue=work.queue,
                priority=work.priority, options=sent.options or {},
            )  # fmt: skip
            key = self._publisher.keys.idempotency(work.name)
            mark = IdempotencyRecord(key, work.name.encode(), _ONCE_TTL_S)
            while True:
                try:
                    await self._publisher.publish(
                        raw, queue=work.queue, priority=work.priority, idempotency=mark
                    )
                except BrokerError:
                    await asyncio.sleep(_AGAIN_S)
                    continue
                break
            await self._outcome([work], None)

    async def _offer(self, some: list[Work]) -> None:
        now = time.time()
        for work in some:
            await self._ledger.write(
                Offered(work.name, work.label, self._name, work.expected(now), now)
            )

    async def _send(self, some: list[Work], sending: Awaitable[object]) -> None:
        try:
            await sending
        except BrokerError as error:
            await self._outcome(some, error)
        else:
            await self._outcome(some, None)

    async def _outcome(self, some: list[Work], error: BrokerError | None) -> None:
        now = time.time()
        for work in some:
            await self._ledger.write(
                Refused(work.name, str(error), now) if error else Accepted(work.name, now)
            )


async def pace(
    some: Iterator[Work],
    rate: float,
    step: int,
    send: Callable[[list[Work]], Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Send ``rate`` works a second, ``step`` at a time; delays by faults are not caught up."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        due = loop.time() + step / rate
        await send([next(some) for _ in range(step)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await stop.wait()


async def main(name: str, mode: str, rate: float, seed: int, programs: int) -> None:
    """Send until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    some = works(seed, name, programs)
    if mode != "single":
        some = (work for work in some if work.kind not in (Kind.CHAIN, Kind.CHORD))
    async with (
        open_client(os.environ[URL_VARIABLE]) as client,
        Publisher.connect(os.environ["CELERY_BROKER_URL"]) as publisher,
    ):
        producer = Producer(name, Ledger(client), publisher)
        send = {"single": producer.single, "batch": producer.batch, "once": producer.once}[mode]
        await pace(some, rate, _BATCH if mode == "batch" else 1, send, stop)


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    )
