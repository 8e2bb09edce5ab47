"""Parts of events and remote control that need no server."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
from stock_rig.golden import load
from stock_rig.mask import mask_message

from crucible.broker.control.client import ControlClient
from crucible.broker.control.event_stream import EventStream, utc_offset_h
from crucible.broker.control.lamport import LamportClock
from crucible.broker.control.pidbox import Mailbox, Request, read_request
from crucible.broker.control.revoked import RevokedTasks
from crucible.broker.wire.fanout import Envelope, unpack
from crucible.errors import BrokerUnavailable, MessageError
from crucible.redis_keys import Keys
from crucible.worker.rate_limits import RateLimits, per_second
from crucible.worker.registry import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.link import Link
    from crucible.broker.redis.store import RedisStore
    from crucible.worker.run import Run


class Recorded:
    """Stands for steps and link: keeps the commands and answers with what it was given."""

    def __init__(self, answer: Any = 1) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.answer = answer

    async def command(self, *command: Any) -> Any:
        self.commands.append(command)
        return None if command[0] == "BRPOP" else self.answer

    call = command

    def connection(self, **_: Any) -> Recorded:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def calls(self, _held: object, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        self.commands += commands
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * len(commands)


def golden(method: str, command: str) -> str:
    """The first golden message of a command, as stock 5.7 wrote it."""
    for entry in load("5.7.0", "control")["entries"]:
        if entry.get("method") == method:
            for words in entry["trace"]:
                if words[0] == command and words[-1].startswith("{"):
                    return str(words[-1])
    raise AssertionError(f"no {command} for {method}")


async def test_a_request_is_byte_for_byte_stocks() -> None:
    """Masked of ids and counts, our ping request equals the one a stock client published."""
    recorded = Recorded()
    client = ControlClient(cast("RedisStore", recorded), Keys(), 0)
    await client.ask("ping", timeout_s=0.01)
    [published] = [command for command in recorded.commands if command[0] == "PUBLISH"]
    assert published[1] == "/0.celery.pidbox"
    assert mask_message(published[2]) == mask_message(golden("ping", "PUBLISH"))


async def test_a_reply_is_byte_for_byte_stocks() -> None:
    """The same for the reply of a worker."""
    theirs = golden("ping", "LPUSH")
    oid = json.loads(theirs)["properties"]["delivery_info"]["routing_key"]
    recorded = Recorded()
    recorded.answer = [f"{oid}\x06\x16\x06\x16{oid}.reply.celery.pidbox".encode()]
    mailbox = Mailbox(cast("Link", recorded), Keys(), 0, "stock1@rig", LamportClock(), lambda: None)
    ticket = json.loads(theirs)["headers"]["ticket"]
    await mailbox.reply(Request("ping", {}, ticket, oid), {"ok": "pong"})
    [pushed] = [command for command in recorded.commands if command[0] == "LPUSH"]
    assert pushed[1] == f"{oid}.reply.celery.pidbox"
    assert mask_message(pushed[2]) == mask_message(theirs)


def stream(link: object, limit: int = 1000) -> EventStream:
    return EventStream(cast("Link", link), Keys(), 1, "n@h", LamportClock(), limit=limit)


async def test_events_beyond_the_bound_push_out_the_oldest() -> None:
    """While the server is away the newest events are kept, and the lost ones counted."""

    class Away(Recorded):
        async def calls(self, _held: object, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
            raise ConnectionError("away")

    link: Recorded = Away()
    events = stream(link, limit=5)
    for number in range(4):
        events.add(f', "n": {number}}}')
    with pytest.raises(BrokerUnavailable):
        await events.run(lambda: None)
    for number in range(4, 12):
        events.add(f', "n": {number}}}')
    assert events.dropped == 3
    link = events._link = cast("Any", Recorded())
    sending = asyncio.create_task(events.run(lambda: None))
    await events.flushed()
    sending.cancel()
    await asyncio.wait([sending])
    sent = [event for command in link.commands for event in unpack(command[2].encode())[0]]
    # Those in hand when the server went away go first; then what was kept.
    assert [event["n"] for event in sent] == [0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert [event["clock"] for event in sent] == [1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert {command[1] for command in link.commands} == {"/1.celeryev/task.multi"}


async def test_a_server_that_refuses_events_does_not_stop_the_worker() -> None:
    """A user who may not PUBLISH loses events, and nothing else."""
    from redis.exceptions import ResponseError

    link = Recorded(answer=ResponseError("NOPERM this user has no permissions"))
    events = stream(link)
    events.add(', "n": 1}')
    sending = asyncio.create_task(events.run(lambda: None))
    async with asyncio.timeout(60):
        await events.flushed()
    assert not sending.done()
    assert events.dropped == 1
    sending.cancel()
    await asyncio.wait([sending])


@pytest.mark.parametrize(
    ("zone", "west_h"), [("UTC", 0.0), ("Asia/Kolkata", -5.5), ("Etc/GMT+3", 3.0)]
)
def test_offsets_are_hours_west(monkeypatch: pytest.MonkeyPatch, zone: str, west_h: float) -> None:
    """Events carry the local offset with stock's sign, halves of hours included."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert utc_offset_h() == west_h
    finally:
        monkeypatch.undo()
        time.tzset()


def test_clocks_go_on_from_the_larger() -> None:
    """Lamport's rules, and nonsense counts as nothing."""
    clock = LamportClock()
    assert clock.forward() == 1
    assert clock.adjust(10) == 11
    assert clock.adjust(3) == 12
    for nonsense in (None, "99", 5.5, True, [1]):
        clock.adjust(nonsense)
    assert clock.value == 17


def test_revoked_ids_are_bounded_in_number_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room, a repeated id is as new as its last mention, the aged are forgotten."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    revoked = RevokedTasks(limit=3, keep_s=60)
    revoked.update(["a", "b", "c", "a", 5, None, ""])
    assert list(revoked) == ["b", "c", "a"]
    revoked.update(["d"])
    assert list(revoked) == ["c", "a", "d"]
    now += 61
    revoked.update(["e"])
    assert list(revoked) == ["e"]
    assert "a" not in revoked


@pytest.mark.parametrize(
    ("rate", "tokens"),
    [(None, 0), (0, 0), ("", 0), ("0", 0), (5, 5), (0.5, 0.5), ("10/s", 10), ("30/m", 0.5),
     ("7200/h", 2), ("3", 3)],
)  # fmt: skip
def test_rates_are_read_as_celery_writes_them(rate: object, tokens: float) -> None:
    """Numbers are per second; s, m and h are the units."""
    assert per_second(rate) == tokens


async def test_a_rate_may_change_while_tasks_wait() -> None:
    """What waits is offered again, and takes its turn under the new rate or at once without one."""
    offered: list[Run] = []
    counts: list[int] = []
    limits = RateLimits(TaskRegistry(), offered.extend, counts.append)
    runs: list[Any] = [object() for _ in range(4)]
    limits.set("t", "1/h")
    assert [limits.admit(run, "t") for run in runs] == [True, False, False, False]
    assert (len(limits), counts[-1]) == (3, 3)
    assert limits.admit(object(), "other")  # type: ignore[arg-type]  # any object will do
    limits.set("t", None)
    assert offered == runs[1:]
    assert counts[-1] == 0
    assert not limits
    assert all(limits.admit(run, "t") for run in offered)
    limits.set("t", "1/h")
    assert [limits.admit(run, "t") for run in runs] == [True, False, False, False]
    assert limits.take_all() == runs[1:]
    assert counts[-1] == 0


def test_an_envelope_comes_apart_again() -> None:
    """What is packed is unpacked, whatever characters it holds."""
    packed = Envelope("ex", "rk", '{"a": 1}').pack('{"x": "\\u00fc\\ud800"}')
    assert unpack(packed.encode()) == ({"x": "\xfc\ud800"}, {"a": 1})
    info = json.loads(packed)["properties"]["delivery_info"]
    assert info == {"exchange": "ex", "routing_key": "rk"}


@pytest.mark.parametrize("body", [None, [], "x", {}, {"method": 5}])
def test_what_is_no_request_is_refused(body: object) -> None:
    """A request without a method raises, where stock 5.3 goes deaf."""
    with pytest.raises(MessageError):
        read_request(body, "n@h")
