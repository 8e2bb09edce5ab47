"""A steady load of well-behaved clients, and its results."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from support.observed import Observed

if TYPE_CHECKING:
    from support.corpus import CorpusProgram

#: Seconds a client retries one request, and waits for one completion.
REQUEST_S, END_S = 15.0, 300.0
#: Evaluations in progress at once; on a slow machine the load is throttled.
MOST = 40
#: Wall time limit of a program, seconds; on an overloaded machine an interpreter starts slowly.
WALL_S = 100.0
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Tally:
    """The results of one phase's submissions.

    Attributes:
        failed_requests: submissions refused, or without a response for ``REQUEST_S``.
        repeated: submissions sent again to another api process after a broken connection.
        wrong: outcomes other than expected of the program.
        platform: completed without a verdict on the program.
        latencies_s: from submission to the result.
    """

    submitted: int = 0
    completed: int = 0
    failed_requests: list[str] = field(default_factory=list)
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)
    platform: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    by_side: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def _request_of(program: CorpusProgram) -> dict[str, Any]:
    """The body of a submission, with enough time for a busy machine."""
    body = program.request()
    body["limits"] = {"wall_time_s": WALL_S, **body.get("limits", {})}
    return body


class Load:
    """Submits programs at a steady rate and waits for each result."""

    def __init__(self, apis: list[str], programs: list[CorpusProgram], rate: float) -> None:
        self.tally = Tally()
        self._apis = itertools.cycle(apis)
        self._programs = itertools.cycle(programs)
        self._rate = rate
        self._number = 0
        self._following: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=40)
        self._session = aiohttp.ClientSession(timeout=timeout)
        self._task = asyncio.create_task(self._submit_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.finish()
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        await self._session.close()

    def phase(self) -> Tally:
        """Start a new tally; earlier submissions still count for the previous one."""
        self.tally = Tally()
        return self.tally

    async def finish(self) -> None:
        """Submit nothing more, and wait for every completion."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        if self._following:
            await asyncio.wait(self._following, timeout=END_S)

    async def _submit_all(self) -> None:
        while not self._stopping.is_set():
            if len(self._following) >= MOST:
                await asyncio.wait(self._following, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._one(self.tally, self._number, next(self._programs)))
            self._following.add(task)
            task.add_done_callback(self._following.discard)
            self._number += 1
            await asyncio.sleep(1 / self._rate)

    async def _one(self, tally: Tally, number: int, program: CorpusProgram) -> None:
        eval_id = f"demo-{number}"
        began = time.monotonic()
        accepted = await self._submit(tally, {**_request_of(program), "eval_id": eval_id})
        if accepted is None:
            return
        tally.submitted += 1
        ended = await self._end_of(eval_id)
        if ended is None:
            tally.unended.append(eval_id)
            return
        tally.latencies_s.append(time.monotonic() - began)
        tally.completed += 1
        tally.by_side[ended["queue_system"]] += 1
        if ended["verdict"] in ("internal_error", "expired", "cancelled"):
            tally.platform.append(f"{eval_id}: {ended['message']}")
        elif found := program.check(Observed.from_view(ended)):
            tally.wrong.append(f"{eval_id} ({program.name}): {found[0]}")

    async def _submit(self, tally: Tally, body: dict[str, Any]) -> dict[str, Any] | None:
        """Submit once; after a broken connection try the other api process with the same id."""
        deadline = time.monotonic() + REQUEST_S
        while time.monotonic() < deadline:
            try:
                async with self._session.post(f"{next(self._apis)}/api/eval", json=body) as answer:
                    found: dict[str, Any] = await answer.json()
                if answer.status in (200, 202):
                    return found
                tally.failed_requests.append(f"{body['eval_id']}: {answer.status} {found}")
                return None
            except (aiohttp.ClientError, TimeoutError):
                tally.repeated += 1
                await asyncio.sleep(0.05)
        tally.failed_requests.append(f"{body['eval_id']}: no response")
        return None

    async def _end_of(self, eval_id: str) -> dict[str, Any] | None:
        deadline = time.monotonic() + END_S
        while time.monotonic() < deadline:
            path = f"{next(self._apis)}/api/eval/{eval_id}?wait=5"
            try:
                async with self._session.get(path) as answer:
                    found: dict[str, Any] = await answer.json()
                if answer.status == 200 and found["status"] in ENDED:
                    return found
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass
            await asyncio.sleep(0.1)
        return None
