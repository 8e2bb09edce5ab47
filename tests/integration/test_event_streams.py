"""Server-sent events against a real bus, real workers and real connections."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from unittest import mock

import aiohttp
import pytest
from support.api_rig import port_of, running_api
from support.event_rig import Sse, following
from support.keyed import key_store, make_key
from support.migration_rig import LocalExecutor, celery_worker, completed, submit, until
from support.patience import PATIENCE_S
from support.raw_http import connected

from crucible.broker.redis.connection import open_client
from crucible.errors import ExecutorRefused
from crucible.events.event import Event, Transition, encode_event
from crucible.events.position import START, Position
from crucible.events.reader import EventReader
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.embedded.server import EmbeddedServer
    from crucible.events.reader import Entry
    from crucible.executor.artifact import Artifact
    from crucible.models import Outcome, Program

FIELDS = {"eval_id", "status", "verdict", "progress", "at", "seq"}


class Refusing(LocalExecutor):
    """Refuses programs that say so, for good."""

    async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
        """One process, or a refusal."""
        if program.code == "refuse":
            raise ExecutorRefused("no")
        return await super().run(program, artifact)


def statuses(events: list[Sse]) -> list[str]:
    """What became of the evaluation of these events."""
    return [event.data["status"] for event in events]


async def entries_of(redis_url: str) -> list[Entry]:
    """Everything on the bus."""
    async with open_client(redis_url) as client:
        return [*(await EventReader(client, Keys()).page(START, 100_000)).entries]


async def put(redis: Redis, eval_id: str, tenant: str = "local", seq: int = 1) -> None:
    """Write an event as a worker does."""
    event = Event(eval_id, seq, 1, Transition.RUNNING, "running", tenant)
    await redis.xadd("crucible:events", {"1": encode_event(event)})


async def test_one_evaluation_is_followed_to_its_end(redis_url: str) -> None:
    """Queued, running, completed; with the headers and the data of the contract."""
    async with running_api(redis_url) as client, celery_worker(redis_url):
        eval_id = (await submit(client, "import time; time.sleep(0.3)"))["eval_id"]
        async with following(client, f"/api/eval/{eval_id}/events") as stream:
            headers = stream.response.headers
            assert headers["Content-Type"].startswith("text/event-stream")
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Accel-Buffering"] == "no"
            events = await stream.all()
        assert statuses(events) == ["queued", "running", "completed"]
        assert {event.name for event in events} == {"evaluation"}
        assert all(set(event.data) == FIELDS for event in events)
        assert [event.data["verdict"] for event in events] == [None, None, "ok"]
        seqs = [event.data["seq"] for event in events]
        assert seqs == sorted(set(seqs))


async def test_what_has_ended_is_sent_at_once_and_once(redis_url: str) -> None:
    """A browser that comes again by itself is answered 204, which makes it stop."""
    async with running_api(redis_url) as client, celery_worker(redis_url):
        eval_id = (await submit(client, "import sys; sys.exit(3)"))["eval_id"]
        await completed(client, eval_id)
        path = f"/api/eval/{eval_id}/events"
        async with following(client, path) as stream:
            events = await stream.all()
        assert [event.data["verdict"] for event in events] == ["nonzero_exit"]
        async with client.get(path, headers={"Last-Event-ID": stream.last_id}) as response:
            assert response.status == 204

        async def written() -> list[Entry]:
            return [entry for entry in await entries_of(redis_url) if entry.event.terminal]

        (end,) = await until(written)
        async with client.get(path, headers={"Last-Event-ID": str(end.position)}) as response:
            assert response.status == 204


async def test_who_resumes_before_the_end_gets_the_end(redis_url: str) -> None:
    """Also where the bus has lost the event of the end: then the result says it."""
    async with running_api(redis_url) as client, celery_worker(redis_url):
        eval_id = (await submit(client, "print(1)"))["eval_id"]
        await completed(client, eval_id)
        path = f"/api/eval/{eval_id}/events"

        async def written() -> bool:
            return len(await entries_of(redis_url)) == 3

        await until(written)
        _, running, end = sorted(await entries_of(redis_url), key=lambda entry: entry.event.seq)
        async with following(client, path, str(running.position)) as stream:
            assert statuses(await stream.all()) == ["completed"]
        async with open_client(redis_url) as bus:
            await bus.xdel("crucible:events", str(end.position))
        async with following(client, path, str(running.position)) as stream:
            events = await stream.all()
        assert statuses(events) == ["completed"]
        assert events[0].data["seq"] == end.event.seq


async def test_unknown_ids_and_bad_parameters_are_refused(redis_url: str) -> None:
    """As everywhere: 404, and 422 naming the parameter."""
    async with running_api(redis_url) as client:
        async with client.get("/api/eval/nobody/events") as response:
            assert response.status == 404
        async with client.get("/api/events", headers={"Last-Event-ID": "x"}) as response:
            assert (response.status, (await response.json())["field"]) == (422, "Last-Event-ID")
        async with client.get("/api/events?status=done") as response:
            assert (response.status, (await response.json())["field"]) == (422, "status")
        async with client.head("/api/events") as response:
            assert response.status == 200


async def test_every_transition_is_on_the_bus(redis_url: str) -> None:
    """Failed and cancelled evaluations, with what a row of history needs."""
    async with running_api(redis_url) as client:
        cancelled = (await submit(client, "print(0)"))["eval_id"]
        async with client.delete(f"/api/eval/{cancelled}") as response:
            assert response.status == 200
        async with celery_worker(redis_url, Refusing()):
            refused = (await submit(client, "refuse", metadata={"a": 1}))["eval_id"]
            slow = (await submit(client, "import time; time.sleep(60)"))["eval_id"]
            fine = (await submit(client, "print('é')", priority=9))["eval_id"]
            for eval_id in (refused, fine):
                await completed(client, eval_id)

            async def running() -> bool:
                async with client.get(f"/api/eval/{slow}") as response:
                    return bool((await response.json())["status"] == "running")

            await until(running)
            async with client.delete(f"/api/eval/{slow}") as response:
                assert response.status in (200, 202)
            await completed(client, slow)
    events = [entry.event for entry in await entries_of(redis_url)]

    def of(eval_id: str) -> list[Event]:
        found = {event.seq: event for event in events if event.eval_id == eval_id}
        return [found[seq] for seq in sorted(found)]

    def transitions(eval_id: str) -> list[str]:
        return [event.transition.value for event in of(eval_id)]

    assert transitions(cancelled) == ["queued", "cancelled"]
    assert transitions(refused) == ["queued", "running", "failed"]
    assert transitions(slow) == ["queued", "running", "cancelled"]
    assert transitions(fine) == ["queued", "running", "completed"]
    queued, started, ended = of(fine)
    assert (queued.queue, queued.language, queued.priority) == ("high_priority", "python", 9)
    assert queued.code_bytes == len("print('é')".encode())
    assert of(refused)[0].metadata == {"a": 1}
    assert of(refused)[2].message == "no"
    assert started.worker == ended.worker is not None
    assert (ended.verdict, ended.exit_code, ended.output_bytes) == ("ok", 0, 3)
    assert ended.started_ms is not None
    assert ended.started_ms <= ended.at
    assert ended.run_ms is not None
    assert all(event.tenant == "local" for event in events)


async def test_batches_and_bulk_cancels_are_on_the_bus(redis_url: str) -> None:
    """As single submissions and cancellations are; an item that is rejected has no event."""
    items = [{"code": "1", "eval_id": "a"}, {"code": ""}, {"code": "1", "eval_id": "b"}]
    async with running_api(redis_url) as client:
        async with client.post("/api/eval/batch", json=items) as response:
            assert response.status == 202
        async with client.delete("/api/eval?status=queued") as response:
            assert (await response.json())["cancelled"] == 2
    events = [entry.event for entry in await entries_of(redis_url)]
    for eval_id in ("a", "b"):
        found = [event.transition.value for event in events if event.eval_id == eval_id]
        assert found == ["queued", "cancelled"]
    assert len(events) == 4


async def test_all_events_are_those_of_the_tenant(redis_url: str, redis: Redis) -> None:
    """Nothing of another tenant, live or resumed; ``status`` selects."""
    async with running_api(redis_url) as client:
        async with (
            following(client) as stream,
            following(client, "/api/events?status=queued,failed") as selected,
        ):
            await put(redis, "theirs", "acme")
            await put(redis, "ours")
            event = await stream.next()
            assert event is not None
            assert event.data["eval_id"] == "ours"
            mine = (await submit(client, "print(1)"))["eval_id"]
            event = await selected.next()
            assert event is not None
            assert event.data["eval_id"] == mine
        async with following(client, last_id="0-0") as stream:
            found = [await stream.next(), await stream.next()]
        assert [event and event.data["eval_id"] for event in found] == ["ours", mine]


async def test_a_stream_that_was_trimmed_says_so(redis_url: str, redis: Redis) -> None:
    """Whoever missed events is asked to look the state up, and gets what follows."""
    async with running_api(redis_url) as client:
        for number in range(3):
            await put(redis, f"e{number}")
        first, *_ = await entries_of(redis_url)
        await redis.xtrim("crucible:events", maxlen=1, approximate=False)
        async with following(client, last_id=str(first.position)) as stream:
            event = await stream.next()
            assert event is not None
            assert (event.name, event.data) == ("resync", {"reason": "trimmed"})
            event = await stream.next()
            assert event is not None
            assert event.data["eval_id"] == "e2"
        # A bus that lost everything: the id is ahead of all there is.
        await redis.delete("crucible:events")
        async with following(client, last_id=str(first.position)) as stream:
            event = await stream.next()
            assert event is not None
            assert event.name == "resync"


async def test_a_slow_client_is_cut_and_goes_on_where_it_was(redis_url: str, redis: Redis) -> None:
    """Its queue is bounded; the next connection has every event that it did not read."""
    with mock.patch("crucible.events.hub.QUEUE_LIMIT", 100):
        async with running_api(redis_url) as client:
            async with connected(port_of(client)) as slow:
                slow.transport.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await slow.got(b"id: ")
                slow.transport.pause_reading()
                padding = "x" * 120
                for start in range(0, 60_000, 3000):
                    pipe = redis.pipeline(transaction=False)
                    for number in range(start, start + 3000):
                        running = Event(f"{padding}{number}", 1, 1, Transition.RUNNING, "running")
                        pipe.xadd("crucible:events", {"1": encode_event(running)})
                    await pipe.execute()
                slow.transport.resume_reading()
                await slow.got(b'event: resync\ndata: {"reason":"slow"}')
                await slow.got(b"\r\n0\r\n\r\n")
                got = slow.received
            head, _, _ = got.rpartition(b"event: resync")
            last_id = head.rpartition(b"\nid: ")[2].split(b"\n")[0].decode()
            before = head.count(b"event: evaluation")
            async with following(client, last_id=last_id) as stream:
                for _ in range(20):
                    event = await stream.next()
            assert event is not None
            assert event.name == "evaluation"
            ids = [str(entry.position) for entry in await entries_of(redis_url)]
            assert ids.index(event.id) == before + 20 - 1


async def test_a_client_that_resumes_a_hundred_times_misses_nothing(redis_url: str) -> None:
    """Killed at random while evaluations run: every event of the bus, each exactly once."""
    seen: list[str] = []
    chance = random.Random(7)
    async with running_api(redis_url) as client, celery_worker(redis_url, concurrency=4):
        port, last_id = port_of(client), ""
        base = f"http://127.0.0.1:{port}"
        async with following(client) as stream:
            last_id = stream.last_id
            while not last_id:
                await stream.response.content.readline()
                last_id = "0-0"

        async def load() -> None:
            for number in range(120):
                await submit(client, f"print({number})")

        loading = asyncio.create_task(load())
        kills = 0
        while kills < 100:
            async with aiohttp.ClientSession(base) as session:
                async with following(session, last_id=last_id) as stream:
                    for _ in range(chance.randrange(4)):
                        event = await stream.next()
                        assert event is not None
                        assert event.name == "evaluation"
                        seen.append(event.id)
                    last_id = stream.last_id
                    transport = stream.response.connection and stream.response.connection.transport
                    assert transport
                    transport.abort()
            kills += 1
        await loading
        for entry_id in [entry.event.eval_id for entry in await entries_of(redis_url)]:
            await completed(client, entry_id)

        async def written() -> bool:
            return len(await entries_of(redis_url)) == 360

        await until(written)
        expected = [str(entry.position) for entry in await entries_of(redis_url)]
        async with following(client, last_id=last_id) as stream:
            while len(seen) < len(expected):
                event = await stream.next()
                assert event is not None
                seen.append(event.id)
    assert seen == expected


async def test_without_a_bus_everything_else_works(redis_url: str) -> None:
    """Off, or away: submissions are accepted, /ready says it, a stream is 503 and names it."""
    for url, ok in (("off", True), ("redis://127.0.0.1:1/0", False)):
        async with running_api(redis_url, event_bus_url=url) as client:
            eval_id = (await submit(client, "print(1)"))["eval_id"]
            async with client.get("/ready") as response:
                report = await response.json()
            assert response.status == 200
            assert report["dependencies"]["event_bus"]["ok"] is ok
            assert report["dependencies"]["event_bus"]["detail"]
            for path in ("/api/events", f"/api/eval/{eval_id}/events"):
                async with client.get(path) as response:
                    problem = await response.json()
                assert response.status == 503
                assert "CRUCIBLE_EVENT_BUS_URL" in problem["detail"]
                assert response.headers["Retry-After"]


async def test_there_are_only_so_many_streams(redis_url: str) -> None:
    """In a process, and of a tenant; a client that leaves makes room at once."""
    for setting in ("max_event_streams", "max_event_streams_per_tenant"):
        flags: dict[str, Any] = {setting: 1}
        async with running_api(redis_url, **flags) as client:
            async with following(client) as stream:
                async with client.get("/api/events") as response:
                    problem = await response.json()
                assert response.status == 503
                assert f"CRUCIBLE_{setting.upper()}" in problem["detail"]
                async with client.get("/metrics") as response:
                    assert "event_streams 1.0" in await response.text()
                stream.response.close()

            async def room() -> bool:
                async with client.get("/api/events") as response:
                    return response.status == 200

            await until(room)


async def test_an_idle_stream_has_heartbeats(redis_url: str) -> None:
    """And they move the position, so that a quiet client need not catch up with others' events."""
    with mock.patch("crucible.api.events.handlers.HEARTBEAT_S", 0.05):
        async with running_api(redis_url) as client, connected(port_of(client)) as idle:
            idle.transport.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await idle.got(b": heartbeat\n\nid: ", 3)


async def test_a_stream_ends_when_the_api_stops(redis_url: str) -> None:
    """In order: with its last chunk, and not by a connection that is cut."""
    async with AsyncExitStack() as outer, AsyncExitStack() as inner:
        client = await inner.enter_async_context(running_api(redis_url))
        stream = await outer.enter_async_context(connected(port_of(client)))
        stream.transport.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await stream.got(b"id: ")
        await inner.aclose()
        assert (await stream.end()).endswith(b"0\r\n\r\n")


async def test_a_dead_letter_is_reported_and_its_replay_goes_on(redis_url: str) -> None:
    """The replayed attempt is above the end of the first one."""

    class Away(LocalExecutor):
        async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
            if self.away:
                raise ExecutorRefused("no")
            return await super().run(program, artifact)

    executor = Away()
    executor.away = True
    async with running_api(redis_url) as client:
        async with celery_worker(redis_url, executor, keep_failed=True):
            eval_id = (await submit(client, "print(1)"))["eval_id"]
            await completed(client, eval_id)
            executor.away = False

            async def letters() -> list[dict[str, Any]]:
                async with client.get("/api/v1/dlq") as response:
                    return list((await response.json())["dead_letters"])

            (letter,) = await until(letters)
            async with client.post(f"/api/v1/dlq/{letter['id']}/replay") as response:
                assert response.status == 202
            assert (await completed(client, eval_id))["status"] == "completed"
    events = sorted((entry.event for entry in await entries_of(redis_url)), key=lambda e: e.seq)
    assert [event.transition.value for event in events] == [
        "queued", "running", "dead_letter", "queued", "running", "completed",
    ]  # fmt: skip
    assert [event.attempt for event in events] == [0, 0, 0, 1, 1, 1]


async def test_a_bus_that_restarts_loses_no_stream(
    redis_url: str, scratch_server: EmbeddedServer
) -> None:
    """Clients stay connected, and get what is written when it is back, once."""
    bus = scratch_server.url
    async with (
        running_api(redis_url, event_bus_url=bus) as client,
        celery_worker(redis_url, bus_url=bus),
        following(client) as stream,
    ):
        first = (await submit(client, "print(1)"))["eval_id"]
        found = [await stream.next() for _ in range(3)]
        await scratch_server.__aexit__(None, None, None)
        second = (await submit(client, "print(2)"))["eval_id"]
        await completed(client, second)
        await scratch_server.restart()
        found += [await stream.next() for _ in range(3)]
    shown = sorted((e.data["eval_id"], e.data["seq"]) for e in found if e is not None)
    assert len(set(shown)) == 6
    assert {eval_id for eval_id, _ in shown} == {first, second}


@pytest.mark.parametrize("text", ["1-2", "0-0", f"{2**64 - 1}-{2**64 - 1}"])
def test_positions_are_ids_of_streams(text: str) -> None:
    """Read and written alike."""
    position = Position.parse(text)
    assert position is not None
    assert str(position) == text


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "a-b", f"{2**64}-0", "1-2\n"])
def test_other_texts_are_no_positions(text: str) -> None:
    """None, and no error."""
    assert Position.parse(text) is None


@pytest.mark.parametrize("path", ["/api/events", "/api/eval/e/events"])
@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_ends_with_its_key(redis_url: str, path: str, how: str) -> None:
    """Within about a second it says so and ends; others go on."""
    key, other = [await make_key(redis_url, "acme") for _ in range(2)]
    async with running_api(redis_url) as client, key_store(redis_url) as store:
        body = {"code": "1", "eval_id": "e"}
        async with client.post("/api/eval", json=body, headers=key.headers) as response:
            assert response.status == 202
        async with (
            client.get(path, headers=key.headers) as response,
            client.get(path, headers=other.headers) as going_on,
        ):
            assert (response.status, going_on.status) == (200, 200)
            if how == "revoked":
                await store.revoke(key.id)
            else:
                await store.rotate(key.id, grace_s=1)
            async with asyncio.timeout(PATIENCE_S):
                text = (await response.read()).decode()
            assert text.endswith(": the key is not valid any more\n\n")
            assert not going_on.content.at_eof()
        async with client.get(path, headers=key.headers) as response:
            assert response.status == 401
