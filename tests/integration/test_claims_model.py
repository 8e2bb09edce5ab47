"""The claim protocol against a model: whatever happens, every message is in exactly one place.

Publishing, claiming, ending, retrying, requeueing, burying, crashing, sweeping, a clock that
advances, stock consumers and stock's own sweep (kombu's code, not a likeness of it), in any order
that hypothesis can think of, on a real server.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis
from support.sweeping import seasoned_sweeper

from crucible.broker.claiming.claims import (
    Claim,
    Claims,
    Destination,
    Disposition,
    Settlement,
    new_worker_id,
)
from crucible.broker.claiming.delayed import DueMessages
from crucible.broker.claiming.recovery.restorer import Restorer
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.store import RedisStore
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire.encode import encode_task
from crucible.broker.wire.priority import STEPS, step_of
from crucible.broker.wire.retry import next_try, parse, redelivered
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUES = ("urgent", "celery")
KEYS = Keys()
LISTS = [KEYS.step_list(queue, step) for queue in QUEUES for step in STEPS]
#: Seconds; shared by everybody, as it must be.
VISIBILITY_TIMEOUT_S = 100.0
GARBAGE = [b"garbage", b"[]", b'{"headers": [], "properties": {}}', b'{"headers": {}}', b"1"]


class Peer:
    """One Crucible worker of the model: its claims, and whether it still lives."""

    def __init__(self, steps: RedisStore) -> None:
        self.claims = Claims(
            steps, new_worker_id(), QUEUES, visibility_timeout_s=VISIBILITY_TIMEOUT_S
        )
        self.held: list[Claim] = []


class ClaimMachine(RuleBasedStateMachine):
    """See the module."""

    url: str
    make_steps: Callable[[Redis], RedisStore]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack: list[Any] = []
        self.do(self._open())
        self.number = 0
        self.advanced = 0.0
        self.done: set[str] = set()
        self.delayed: dict[str, float] = {}
        self.garbage: Counter[bytes] = Counter()
        self.zombies: list[Claim] = []
        self.stock_held: list[Any] = []
        kombu: Any = importlib.import_module("kombu")
        self.stock: Any = kombu.Connection(
            self.url, transport_options={"visibility_timeout": VISIBILITY_TIMEOUT_S}
        )
        self.channel: Any = self.stock.channel()
        self.stock_queue: Any = kombu.Queue("celery")(self.channel)

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _open(self) -> None:
        self.redis: Any = Redis.from_url(self.url)
        await self.redis.flushdb()
        self.client_context = open_client(self.url)
        self.client = await self.client_context.__aenter__()
        self.steps = type(self).make_steps(self.client)
        self.peers = [Peer(self.steps), Peer(self.steps)]
        for peer in self.peers:
            await peer.claims.renew([], "peer@test")
        self.sweeper = seasoned_sweeper(
            self.steps, KEYS, Restorer(self.steps, KEYS, max_deliveries=3)
        )
        self.due = DueMessages(self.steps, KEYS, VISIBILITY_TIMEOUT_S, self.peers[0].claims.clock)

    def teardown(self) -> None:
        self.channel.close()
        self.stock.release()

        async def close() -> None:
            await self.client_context.__aexit__(None, None, None)
            await self.redis.aclose()

        self.do(close())
        self.runner.close()

    @rule(queue=st.sampled_from(QUEUES), priority=st.integers(0, 9))
    def publish(self, queue: str, priority: int) -> None:
        self.number += 1
        raw = encode_task("t.x", [[]], task_id=f"id{self.number}", queue=queue, priority=priority)
        self.do(self.redis.lpush(KEYS.step_list(queue, step_of(priority)), raw))

    @rule(raw=st.sampled_from(GARBAGE))
    def publish_garbage(self, raw: bytes) -> None:
        self.garbage[raw] += 1
        self.do(self.redis.lpush("celery", raw))

    @rule(which=st.integers(0, 1), count=st.integers(1, 5))
    def claim(self, which: int, count: int) -> None:
        peer = self.peers[which]
        if isinstance(self.steps, TransactionStore) and not self.do(self._waiting()):
            return  # it would block for its second
        for claim in self.do(peer.claims.take(count)):
            try:
                parse(claim.raw)["headers"]["id"]
            except KeyError:
                letter = {"queue": claim.queue, "reason": "unreadable"}
                onward = Disposition(to=Destination.DEAD_LETTERS, raw=claim.raw, letter=letter)
                assert self.do(peer.claims.settle([Settlement(claim, disposition=onward)])) == 1
            else:
                peer.held.append(claim)

    async def _waiting(self) -> int:
        return sum([await self.redis.llen(key) for key in LISTS])

    def _pick(self, which: int, at: int) -> tuple[Peer, Claim] | None:
        peer = self.peers[which]
        return (peer, peer.held.pop(at % len(peer.held))) if peer.held else None

    @rule(which=st.integers(0, 1), at=st.integers(0, 9))
    def finish(self, which: int, at: int) -> None:
        if picked := self._pick(which, at):
            peer, claim = picked
            task_id = _id(claim.raw)
            key = KEYS.result(task_id)
            if self.do(peer.claims.settle([Settlement(claim, key, b'{"status": "SUCCESS"}')])):
                self.done.add(task_id)

    @rule(
        which=st.integers(0, 1),
        at=st.integers(0, 9),
        to=st.sampled_from([Destination.QUEUE_TAIL, Destination.DEAD_LETTERS]),
    )
    def requeue_or_bury(self, which: int, at: int, to: Destination) -> None:
        if picked := self._pick(which, at):
            peer, claim = picked
            onward = Disposition(
                to=to,
                raw=redelivered(parse(claim.raw)),
                letter={"reason": "rejected"},
            )
            self.do(peer.claims.settle([Settlement(claim, disposition=onward)]))

    @rule(which=st.integers(0, 1), at=st.integers(0, 9), countdown=st.sampled_from([0, 5, 50, 500]))
    def retry_later(self, which: int, at: int, countdown: float) -> None:
        if picked := self._pick(which, at):
            peer, claim = picked
            eta = time.time() + countdown
            onward = Disposition(to=Destination.DELAYED, raw=next_try(claim.raw, eta), eta=eta)
            meta = b'{"status": "RETRY"}'
            ending = Settlement(claim, KEYS.result(_id(claim.raw)), meta, onward)
            if self.do(peer.claims.settle([ending])):
                self.delayed[_id(claim.raw)] = eta + self.advanced

    @rule(which=st.integers(0, 1), at=st.integers(0, 9), wait=st.sampled_from([-1, 5, 50, 500]))
    def park(self, which: int, at: int, wait: float) -> None:
        if picked := self._pick(which, at):
            peer, claim = picked
            eta = time.time() + wait
            if self.do(peer.claims.delay([(claim, eta)])):
                peer.held.append(claim)
            elif self.do(self.redis.hexists("unacked", claim.field)) is False:
                self.delayed[_id(claim.raw)] = eta + self.advanced

    @rule(which=st.integers(0, 1))
    def give_back(self, which: int) -> None:
        peer = self.peers[which]
        self.do(peer.claims.requeue(peer.held))
        peer.held = []

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        peer = self.peers[which]
        self.do(self.redis.delete(KEYS.worker(peer.claims.worker_id)))
        self.zombies += peer.held
        self.peers[which] = Peer(self.steps)
        self.do(self.peers[which].claims.renew([], "peer@test"))

    @rule(at=st.integers(0, 9))
    def zombie_finishes(self, at: int) -> None:
        if self.zombies:
            claim = self.zombies.pop(at % len(self.zombies))
            meta = b'{"status": "SUCCESS"}'
            ending = Settlement(claim, KEYS.result(_id(claim.raw)), meta)
            if self.do(self.peers[0].claims.settle([ending])):
                self.done.add(_id(claim.raw))

    @rule()
    def sweep(self) -> None:
        self.do(self.redis.delete(KEYS.sweep))
        self.do(self.sweeper.sweep())

    @rule()
    def hand_out_due(self) -> None:
        _, old = self.do(self.due.move())
        self.do(self.sweeper.restore_old(old))

    @rule(seconds=st.sampled_from([4.0, 30.0, 120.0, 600.0]))
    def advance_clock(self, seconds: float) -> None:
        """Everything recorded is ``seconds`` older; living workers have renewed meanwhile."""
        self.advanced += seconds

        async def age() -> None:
            for field in await self.redis.zrange("unacked_index", 0, -1):
                await self.redis.zincrby("unacked_index", -seconds, field)
            for peer in self.peers:
                lost = await peer.claims.renew(peer.held, "peer@test")
                assert not lost

        self.do(age())

    @rule()
    def stock_takes(self) -> None:
        if +self.garbage - self.buried():
            return  # stock dies of it, and it is gone
        if message := self.stock_queue.get(accept=["json"]):
            self.stock_held.append(message)

    def buried(self) -> Counter[bytes]:
        """Garbage among the dead letters."""
        rows: Any = self.do(self.redis.xrange(KEYS.dlq))
        return Counter(letter[b"raw"] for _, letter in rows if not _id(letter[b"raw"]))

    @rule(how=st.sampled_from(["ack", "requeue", "crash"]))
    def stock_ends(self, how: str) -> None:
        if not self.stock_held:
            return
        message = self.stock_held.pop()
        if how == "ack":
            held = self.do(self.redis.hexists("unacked", message.delivery_tag))
            message.ack()
            if held:
                self.done.add(message.headers["id"])
        elif how == "requeue":
            message.requeue()

    @rule()
    def stock_sweeps(self) -> None:
        self.channel.qos.restore_visible(0, 1000, 1)

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        where = self.do(self._where())
        expected = {f"id{number}" for number in range(1, self.number + 1)}
        assert {task_id for task_id, count in where.items() if count != 1} == set()
        assert set(where) | self.done == expected
        assert not set(where) & self.done

    @invariant()
    def what_is_claimed_is_indexed(self) -> None:
        claimed = set(self.do(self.redis.hkeys("unacked")))
        assert claimed == set(self.do(self.redis.zrange("unacked_index", 0, -1)))

    async def _where(self) -> Counter[str]:
        where: Counter[str] = Counter()
        garbage: Counter[bytes] = Counter()
        now = time.time() + self.advanced
        for key in LISTS:
            for raw in await self.redis.lrange(key, 0, -1):
                if task_id := _id(raw):
                    where[task_id] += 1
                    assert self.delayed.pop(task_id, 0.0) <= now, "early"
                else:
                    garbage[raw] += 1
        for value in (await self.redis.hgetall("unacked")).values():
            where[str(json.loads(value)[0]["headers"]["id"])] += 1
        rows: Any = await self.redis.xrange(KEYS.dlq)
        for _, letter in rows:
            if task_id := _id(letter[b"raw"]):
                where[task_id] += 1
            else:
                garbage[letter[b"raw"]] += 1
        assert garbage == self.garbage
        return where


def _id(raw: bytes) -> str:
    """The task id of a message; empty for garbage."""
    try:
        return str(json.loads(raw)["headers"]["id"])
    except (ValueError, TypeError, KeyError):
        return ""


@pytest.mark.parametrize("make_steps", [LuaStore, TransactionStore])
def test_every_message_is_in_exactly_one_place(
    redis_url: str, make_steps: Callable[[Redis], RedisStore]
) -> None:
    """No sequence of events loses a message, doubles it, or hands it out early."""
    machine = type("Machine", (ClaimMachine,), {"url": redis_url, "make_steps": make_steps})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=80,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
