"""Copies for Celery: offering one neither waits nor fails, whatever the Celery side does."""

from __future__ import annotations

import asyncio

from crucible.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from crucible.errors import BrokerUnavailable
from crucible.evaluation.request import EvalRequest
from crucible.migration.live.shadow import Shadow

ASKED = EvalRequest(code="print(1)")


def breaker() -> CircuitBreaker:
    """One that opens at the second failure."""
    return CircuitBreaker("queue", BrokerUnavailable, policy=BreakerPolicy(failures=2))


async def test_a_silent_celery_side_costs_the_offer_nothing() -> None:
    """Nothing is ever confirmed: every offer returns at once, and what finds no room is told."""
    missed: list[str] = []
    silent = asyncio.Event()

    async def send(eval_id: str, asked: EvalRequest) -> None:
        await silent.wait()

    async with Shadow(send, missed.append, breaker(), limit=5) as shadow:
        for n in range(40):
            shadow.offer(str(n), ASKED)
        # No await above: what was offered cannot have waited for anybody.
        assert missed == [str(n) for n in range(5, 40)]
        assert shadow.totals["no_room"] == 35
        silent.set()


async def test_failures_open_the_circuit_and_are_told() -> None:
    """Two failures, then no more attempts; each evaluation without a copy is named."""
    missed: list[str] = []
    attempts: list[str] = []
    circuit = breaker()

    async def send(eval_id: str, asked: EvalRequest) -> None:
        attempts.append(eval_id)
        raise BrokerUnavailable("away")

    async with Shadow(send, missed.append, circuit) as shadow:
        for n in range(30):
            shadow.offer(str(n), ASKED)
            while len(missed) <= n:
                await asyncio.sleep(0)
    assert (len(attempts), len(missed), circuit.state) == (2, 30, BreakerState.OPEN)
    assert (shadow.totals["failed"], shadow.totals["circuit_open"]) == (2, 28)


async def test_a_defect_in_one_copy_does_not_end_the_sender() -> None:
    """Whatever one copy does, the next is sent."""
    sent: list[str] = []

    async def send(eval_id: str, asked: EvalRequest) -> None:
        if eval_id == "bad":
            raise ValueError(eval_id)
        sent.append(eval_id)

    async with Shadow(send, lambda _: None, breaker()) as shadow:
        shadow.offer("bad", ASKED)
        shadow.offer("good", ASKED)
    assert (sent, shadow.totals["broken"]) == (["good"], 1)


async def test_many_large_copies_are_bounded_by_memory() -> None:
    """Sixty-four MiB wait at most, however many places are free."""
    missed: list[str] = []
    held = asyncio.Event()

    async def send(eval_id: str, asked: EvalRequest) -> None:
        await held.wait()

    large = EvalRequest(code="x" * (8 * 1024 * 1024))
    async with Shadow(send, missed.append, breaker()) as shadow:
        for n in range(20):
            shadow.offer(str(n), large)
        assert len(missed) == 13
        held.set()
