"""What was claimed ahead and cannot start goes back, whatever the server answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import pytest

from crucible.broker.claiming.claims import Claim
from crucible.errors import BrokerUnavailable
from crucible.worker import consumer as module
from crucible.worker.consumer import Consumer
from crucible.worker.run import Run
from crucible.worker.settlement_writer import SettlementWriter
from crucible.worker.slots import Slots
from crucible.worker.unsettled import UnsettledRuns

if TYPE_CHECKING:
    from crucible.broker.claiming.claims import Claims


class SilentAtFirst:
    """Claims of a server that gives back and whose answer is lost ``silences`` times."""

    def __init__(self, silences: int, slot_is_free: asyncio.Event) -> None:
        self.silences = silences
        self.slot_is_free = slot_is_free
        self.given_back: list[str] = []
        self.answered = asyncio.Event()

    is_full = False

    async def take(self, limit: int, limit_when_full: int = 0) -> list[Claim]:
        await asyncio.Event().wait()
        return []

    async def requeue(self, claims: Sequence[Claim]) -> int:
        self.given_back += [claim.field for claim in claims if claim.field not in self.given_back]
        self.slot_is_free.set()
        # The slot has every chance to start something before the answer fails to come.
        for _ in range(5):
            await asyncio.sleep(0)
        if self.silences:
            self.silences -= 1
            raise BrokerUnavailable("the answer was lost")
        self.answered.set()
        return 0


async def test_what_may_be_back_in_its_list_is_not_run_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an unanswered return the messages are returned again, and never run by this worker."""
    monkeypatch.setattr(module, "POLL_S", 0.001)
    started: list[str] = []
    ended = asyncio.Event()

    async def process(run: Run) -> None:
        started.append(run.claim.field)
        await ended.wait()

    claims, unsettled, slots = SilentAtFirst(2, ended), UnsettledRuns(), Slots(1)
    async with slots.serving(process):
        slots.offer(unsettled.add([Claim(f"f{number}", "q", 0, b"") for number in range(3)]))
        consumer = Consumer(
            cast("Claims", claims),
            slots,
            unsettled,
            SettlementWriter(cast("Claims", claims)),
            None,
            lambda: False,
        )
        running = asyncio.create_task(consumer.run(lambda: None))
        try:
            async with asyncio.timeout(60):
                await claims.answered.wait()
            await slots.wait_until_idle()
        finally:
            running.cancel()
            await asyncio.wait([running])
    assert claims.given_back == ["f1", "f2"]
    assert started == ["f0"]
    assert [run.claim.field for run in unsettled] == ["f0"]
