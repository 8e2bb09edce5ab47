"""What the battle reads of the event bus about who had an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from benchmarks.chaos.service.judge import Verdict
from benchmarks.chaos.service.parts import ASYNC
from benchmarks.chaos.service.records import Records
from crucible.events.event import FORMAT, Event, Transition, encode_event
from crucible.redis_keys import EVENTS

if TYPE_CHECKING:
    from redis.asyncio import Redis

OURS, STOCK = next(iter(ASYNC.values())), "stock@battle"
RAN, AGAIN = Transition.RUNNING, Transition.RETRYING


@pytest.mark.parametrize(
    ("events", "has_it"),
    [
        ([(RAN, OURS)], True),
        ([(RAN, OURS), (AGAIN, OURS)], False),
        ([(RAN, OURS), (AGAIN, OURS), (RAN, STOCK)], False),
        ([(RAN, OURS), (AGAIN, OURS), (RAN, OURS)], True),
        ([(RAN, STOCK)], False),
    ],
)
async def test_who_tries_again_has_put_the_message_back(
    redis: Redis, events: list[tuple[Transition, str]], has_it: bool
) -> None:
    """Stock may take and lose it from then on."""
    for at, (transition, worker) in enumerate(events, 1):
        event = Event("e", at, at, transition, "running", worker=worker)
        fields: Any = {FORMAT: encode_event(event)}
        await redis.xadd(EVENTS, fields, id=f"{at}000-0")
    records = Records(cast("Any", None), Verdict())
    await records._read_events(redis)
    named, back = (found.get("e", 0.0) for found in (records.found.named, records.found.given_back))
    assert (named > back) is has_it
