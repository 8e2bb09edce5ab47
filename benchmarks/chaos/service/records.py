"""What everybody recorded of a load: results, history, deliveries, events and reports."""

from __future__ import annotations

import itertools
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from redis.asyncio import Redis
from sqlalchemy import select

from benchmarks.chaos.service.judge import Delivered, Found, Verdict, end_of
from benchmarks.chaos.service.parts import ASYNC, VISIBILITY_S
from benchmarks.chaos.settling import settle
from crucible.broker.wire.priority import STEPS
from crucible.events.event import TERMINAL, Transition
from crucible.events.reader import entries_of
from crucible.history.consumer import HistoryConsumer
from crucible.history.database import open_database
from crucible.history.schema import evaluations
from crucible.redis_keys import DLQ, EVENTS, UNACKED, Keys
from crucible.settings.fields import QUEUES

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from benchmarks.chaos.service.client import Client
    from benchmarks.chaos.service.up import Service

#: Seconds without progress until a run is given up.
_PATIENCE_S = 6.0 * VISIBILITY_S
_ENDED = ("completed", "failed", "cancelled")
_ROWS = 1000
#: What an async worker writes when it puts messages back; what an id is made of; and how a line of
#: a log begins.
_GIVEN_BACK = "recovered the claims of dead workers"
_WORD = re.compile(r"[\w-]+")
_LINE_BEGINS = "%Y-%m-%d %H:%M:%S,%f"


class Records:
    """Collects them.

    Args:
        service: whose.
        verdict: gets what is wrong already.

    Attributes:
        found: so far.
    """

    def __init__(self, service: Service, verdict: Verdict) -> None:
        self.found = Found()
        self._service = service
        self._verdict = verdict

    async def settle(self) -> None:
        """Wait until evaluations and assessments have ended, and nothing is left to do."""
        service = self._service
        async with (
            Redis.from_url(service.queue.url) as queues,
            Redis.from_url(service.bus.url) as events,
        ):
            consumer = HistoryConsumer(events, Keys(), 1)

            async def left() -> int:
                await service.revive()
                open_ = sum([await self._open(client) for client in service.clients])
                behind = await consumer.oldest_s() is not None
                return open_ + await queued(queues) + behind

            await settle(left, _PATIENCE_S)
            letters = await queues.xlen(DLQ)
        if letters:
            self._verdict.faults.append(f"{letters} dead letters")

    async def _open(self, client: Client) -> int:
        """Count what has not ended, and keep what has."""
        found, ledger = self.found, client.ledger
        for name in ledger.suites.keys() - found.reports.keys():
            _, suite = await client.ask("GET", f"/api/v1/assessments/{name}")
            found.suites[name] = suite or {}
            if suite and suite.get("status") in _ENDED:
                status, report = await client.ask("GET", f"/api/v1/assessments/{name}/report")
                found.reports[name] = report if status == 200 else None
        for eval_id in ledger.asked.keys() - found.results.keys():
            _, shown = await client.ask("GET", f"/api/eval/{eval_id}")
            if shown and shown.get("status") in _ENDED:
                shown["output"] = await client.whole_output(shown)
                found.results[eval_id] = shown
        closed = len(found.reports.keys() & ledger.suites) + len(
            found.results.keys() & ledger.asked
        )
        return len(ledger.suites) + len(ledger.asked) - closed

    async def collect(self) -> None:
        """Read all of them; results once more, for they may not change any more."""
        await self._repair()
        for client in self._service.clients:
            await self._compare_results(client)
        self._read_deliveries()
        columns = (evaluations.c.eval_id, evaluations.c.status, evaluations.c.verdict)
        async with (
            open_database(self._service.history) as engine,
            engine.connect() as connection,
        ):
            for row in await connection.execute(select(*columns)):
                self.found.history[row.eval_id] = (row.status, row.verdict)
        async with Redis.from_url(self._service.bus.url) as client_of_bus:
            await self._read_events(client_of_bus)
        async with Redis.from_url(self._service.queue.url) as queues:
            left = await messages(queues)
        self.found.left = [message.decode(errors="replace") for message in left]
        known = {eval_id for client in self._service.clients for eval_id in client.ledger.asked}
        for name in ASYNC:
            for line in self._service.part(name).log:
                self._read_line(line, known)

    def _read_line(self, line: str, known: AbstractSet[str]) -> None:
        """Note the evaluations that a line of an async worker names."""
        found = self.found
        noted = found.given_back if _GIVEN_BACK in line else found.named
        for eval_id in known & set(_WORD.findall(line)):
            noted[eval_id] = max(noted.get(eval_id, 0.0), _time_of(line))

    async def _compare_results(self, client: Client) -> None:
        for eval_id in client.ledger.asked:
            _, shown = await client.ask("GET", f"/api/eval/{eval_id}")
            before = self.found.results.get(eval_id)
            if before and end_of(before) != end_of(shown or {}):
                self._verdict.faults.append(f"{eval_id}: {end_of(before)}, later {shown}")

    def _read_deliveries(self) -> None:
        for headers, body in self._service.received.requests:
            data = msgspec.json.decode(body)["data"]
            delivered = self.found.deliveries.setdefault(data["eval_id"], Delivered())
            delivered.ids.add({k.lower(): v for k, v in headers.items()}["webhook-id"])
            delivered.ends.add(end_of(data))

    async def _read_events(self, client: Any) -> None:
        after = "-"
        while rows := await client.xrange(EVENTS, after, "+", _ROWS):
            for entry in entries_of(rows):
                event = entry.event
                if event.worker in ASYNC.values():
                    # Said once its next try is in the list again, where stock may take it.
                    again = event.transition is Transition.RETRYING
                    noted = self.found.given_back if again else self.found.named
                    # By the clock of the bus: those of workers are turned.
                    at = entry.position.ms / 1000
                    noted[event.eval_id] = max(noted.get(event.eval_id, 0.0), at)
                if event.transition in TERMINAL:
                    ends = self.found.events.setdefault(event.eval_id, [])
                    ends.append((str(event.status), event.verdict and str(event.verdict)))
            after = f"({rows[-1][0].decode()}"

    async def _repair(self) -> None:
        """``crucible historian repair``: what the bus lost is in the results."""
        repair = self._service.part("historian 1").beside("repair", "repair", "--json")
        await repair.start()
        if await repair.ended():
            self._verdict.faults.append(f"the repair failed: {repair.lines[-5:]}")


def _time_of(line: str) -> float:
    """When a line was written, seconds since the epoch; infinite where it does not say that."""
    try:
        return datetime.strptime(line[:23], _LINE_BEGINS).astimezone().timestamp()
    except ValueError:
        return math.inf


async def messages(client: Any) -> list[bytes]:
    """Every message in a list, and every claim."""
    names = itertools.product(QUEUES, STEPS)
    found = [await client.lrange(Keys().step_list(*name), 0, -1) for name in names]
    return [*itertools.chain.from_iterable(found), *(await client.hgetall(UNACKED)).values()]


async def queued(client: Any) -> int:
    """Messages and claims."""
    names = itertools.product(QUEUES, STEPS)
    sizes = [await client.llen(Keys().step_list(queue, step)) for queue, step in names]
    return int(sum(sizes) + await client.hlen(UNACKED))
