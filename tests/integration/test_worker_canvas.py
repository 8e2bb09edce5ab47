"""Chains, groups, chords and what else tasks cause, through async workers of every arrangement."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis
from support import canvas_tasks
from support.patience import PATIENCE_S

from crucible.broker.canvas.chord_parts import NOTIFIED
from crucible.broker.canvas.signature import Signature, chain, chord, group, signature
from crucible.broker.claiming.recovery.restorer import MAX_DELIVERIES
from crucible.broker.publishing.publisher import Publisher
from crucible.broker.wire.retry import parse, redelivered
from crucible.errors import TaskFailed
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.embedded.server import EmbeddedServer


@dataclass
class Rig:
    """A worker, a publisher, and clients that look behind them."""

    worker: Worker
    publisher: Publisher
    queues: Redis
    results: Redis
    result_prefix: str

    async def get(self, work: Signature, **options: Any) -> Any:
        handle = await self.publisher.send_canvas(work, **options)
        return await handle.get(PATIENCE_S)

    async def meta(self, task_id: str) -> dict[str, Any]:
        meta = await self.publisher.results.wait(task_id, PATIENCE_S)
        stored = await self.results.get(f"{self.result_prefix}celery-task-meta-{meta.task_id}")
        assert stored is not None
        found: dict[str, Any] = json.loads(stored)
        return found

    async def idle(self) -> None:
        """Wait until nothing is queued and nothing is claimed."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                keys = [key async for key in self.queues.scan_iter()]
                if not any(key.endswith((b"celery", b"unacked")) for key in keys):
                    return
                await asyncio.sleep(0.01)


ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "one server": {},
    "two servers": {"result_url": ""},
    "prefixes": {"key_prefix": "pfx:", "result_prefix": "res:"},
    "without scripts": {"claim": "brpop"},
}


@asynccontextmanager
async def rig_of(name: str, url: str, server: EmbeddedServer) -> AsyncIterator[Rig]:
    options = dict(ARRANGEMENTS[name])
    result_url = url
    if "result_url" in options:
        result_url = options["result_url"] = f"redis://127.0.0.1:{server.port}/0"
    sending = {
        "result_url": result_url,
        "global_keyprefix": options.get("key_prefix", ""),
        "result_keyprefix": options.get("result_prefix", ""),
    }
    async with (
        Redis.from_url(url) as queues,
        Redis.from_url(result_url) as results,
        Worker(canvas_tasks.registry, broker_url=url, concurrency=4, **options) as worker,
        Publisher.connect(url, **sending) as publisher,
    ):
        try:
            yield Rig(worker, publisher, queues, results, options.get("result_prefix", ""))
        finally:
            if result_url != url:
                await results.flushdb()


@pytest.fixture(params=list(ARRANGEMENTS))
async def rig(
    request: pytest.FixtureRequest, redis_url: str, redis_server: EmbeddedServer
) -> AsyncIterator[Rig]:
    async with rig_of(request.param, redis_url, redis_server) as rig:
        yield rig


@pytest.fixture
async def plain(redis_url: str, redis_server: EmbeddedServer) -> AsyncIterator[Rig]:
    async with rig_of("one server", redis_url, redis_server) as rig:
        yield rig


def add(*args: Any, **options: Any) -> Signature:
    return signature("rig.add", args, **options)


XSUM = signature("rig.xsum")
FAIL = signature("rig.fail")

CANVASES: dict[str, tuple[Signature, Any]] = {
    "chain": (chain(add(1, 2), signature("rig.mul", (10,)), add(1)), 31),
    "group": (group([add(1, 1), add(2, 2)]), [2, 4]),
    "chord": (chord([add(1, 1), add(2, 2)], XSUM), 6),
    "chord of one": (chord([add(1, 1)], XSUM), 2),
    "chord of none": (chord([], XSUM), 0),
    "chain to group": (chain(add(1, 1), group([add(1), add(2)])), [3, 4]),
    "chords in a chain": (
        chain(
            add(1, 1), group([add(1), add(2)]), XSUM, add(1),
            group([add(1), add(2)]), XSUM, add(5),
        ),
        24,
    ),
    "chord in a header": (chord([chord([add(1, 1), add(2, 2)], XSUM), add(1, 1)], XSUM), 8),
    "group at the end of a chain in a header": (
        chord([chain(add(1, 1), group([add(1), add(2)])), add(1, 1)], signature("rig.echo")),
        {"args": [[[3, 4], 2]], "kwargs": {}},
    ),
    "body that is a group": (chord([add(1, 1), add(2, 2)], group([XSUM, XSUM])), [6, 6]),
    "replaced by a task": (chain(signature("rig.replaced", (3, 4)), add(2)), 9),
    "replaced by a group": (
        chain(signature("rig.replaced_by", (group([add(1, 1), add(2, 2)]),)), XSUM), 6,
    ),
    "replaced by a chain in a chord": (
        chord([signature("rig.replaced_by", (chain(add(1, 1), add(2)),)), add(1, 1)], XSUM), 6,
    ),
    "a part more": (chord([signature("rig.grow_chord", (5,)), add(1, 1)], XSUM), 112),
    "a part that is retried": (chord([signature("rig.retry_then_ok"), add(1, 1)], XSUM), 3),
    "a part without a result": (chord([signature("rig.ignored", (3,)), add(2, 2)], XSUM), 7),
    "immutable": (chain(add(1, 1), signature("rig.add", (5, 5), immutable=True), add(1)), 11),
    "map": (
        signature("celery.map", kwargs={"task": XSUM, "it": [[1, 2], [3, 4]]}), [3, 7],
    ),
    "starmap": (
        signature("celery.starmap", kwargs={"task": add(), "it": [[1, 2], [3, 4]]}), [3, 7],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CANVASES)
async def test_a_canvas_comes_to_its_result(plain: Rig, name: str) -> None:
    """Each shape of canvas ends in the value its parts make."""
    work, expected = CANVASES[name]
    assert await plain.get(work) == expected


async def test_canvases_wherever_results_and_keys_lie(rig: Rig) -> None:
    """Results on another server, prefixed keys, a server without scripts: the same values."""
    handles = {name: await rig.publisher.send_canvas(work) for name, (work, _) in CANVASES.items()}
    values = {name: await handle.get(PATIENCE_S) for name, handle in handles.items()}
    assert values == {name: expected for name, (_, expected) in CANVASES.items()}


async def test_a_chord_leaves_only_the_mark_that_it_was_sent(rig: Rig) -> None:
    """Once the body is sent nothing of a chord stays but a mark with a time to live."""
    assert await rig.get(chord([add(1, 1), add(2, 2)], XSUM)) == 6
    await rig.idle()
    keys = [key async for key in rig.results.scan_iter("*taskset*")]
    assert [key[-2:] for key in keys] == [b".c"]
    assert 0 < await rig.results.ttl(keys[0]) <= 300


async def test_a_failed_part_fails_the_body_and_tells_its_errbacks(rig: Rig) -> None:
    """A chord with a failed part stores ChordError for its body, whose errback gets its id."""
    errback_id = "11111111-aaaa-4aaa-8aaa-111111111111"
    body = signature("rig.xsum", link_error=[signature("rig.on_error", task_id=errback_id)])
    handle = await rig.publisher.send_canvas(chord([add(1, 1), FAIL, add(2, 2)], body))
    with pytest.raises(TaskFailed, match=r"Dependency .* raised ValueError\('bang', 42\)") as told:
        await handle.get(PATIENCE_S)
    assert (told.value.exc_type, told.value.exc_module) == ("ChordError", "celery.exceptions")
    assert (await rig.meta(errback_id))["result"] == handle.id


async def test_a_failure_is_handed_on_to_the_rest_of_a_chain(rig: Rig) -> None:
    """Steps after a failed one store its exception, the body of a chord among them too."""
    work = chain(FAIL, add(1), group([add(1), add(2)]), XSUM, add(1))
    with pytest.raises(TaskFailed, match="bang") as told:
        await rig.get(work)
    assert told.value.exc_type == "ValueError"


async def test_a_failure_in_a_chain_fails_the_chord_around_it(rig: Rig) -> None:
    """A chain that fails in a header returns its part, so the body does not wait for ever."""
    with pytest.raises(TaskFailed, match="Dependency"):
        await rig.get(chord([chain(FAIL, add(1)), add(2, 2)], XSUM))


async def test_a_failed_chord_fails_the_chord_around_it(rig: Rig) -> None:
    """The body of a chord that cannot run counts as a failed part of the chord it is part of."""
    with pytest.raises(TaskFailed, match="Dependency"):
        await rig.get(chord([chord([add(1, 1), FAIL], XSUM), add(1, 1)], XSUM))


@pytest.mark.parametrize("last", ["the failed chord", "another part"])
@pytest.mark.parametrize("depth", [1, 2])
async def test_an_errback_of_nested_chords_is_notified_once(
    rig: Rig, depth: int, last: str
) -> None:
    """As by stock with the id of the innermost body; but the outer chords end, whoever is last."""
    canvas_tasks.errback_calls.clear()
    opened = canvas_tasks.gates["inner"] = asyncio.Event()
    gate = signature("rig.gate", ("inner",))
    if last == "the failed chord":
        opened.set()
    work = chord([add(1, 1), FAIL], signature("rig.xsum", task_id="inner"))
    for _ in range(depth):
        work = chord([work, gate], XSUM)
    work.link_error(signature("rig.on_error_inline")).link_error(signature("rig.on_error"))
    handle = await rig.publisher.send_canvas(work)
    await rig.meta("inner")
    opened.set()
    with pytest.raises(TaskFailed, match="Dependency"):
        await handle.get(PATIENCE_S)
    await rig.idle()
    assert [failed_id for failed_id, _ in canvas_tasks.errback_calls] == ["inner"]
    ended = [key async for key in rig.results.scan_iter("*celery-task-meta-*")]
    results = [json.loads(await rig.results.get(key) or b"{}") for key in ended]
    assert [meta["result"] for meta in results].count("inner") == 1
    assert NOTIFIED not in json.dumps(results)


async def test_a_failed_chord_whose_body_is_a_group_fails_the_chord_around_it(plain: Rig) -> None:
    """Every member of the group is a part of the outer chord, and counts as a failed one."""
    inner = chord([add(1, 1), FAIL], group([XSUM, signature("rig.echo")]))
    with pytest.raises(TaskFailed, match=r"Dependency|Join error"):
        await plain.get(chord([inner, add(1, 1)], XSUM))


async def test_a_failed_header_fails_every_member_of_a_body_that_is_a_group(rig: Rig) -> None:
    """Where the body is a group each of its tasks fails with what the header failed with."""
    with pytest.raises(TaskFailed) as told:
        await rig.get(chord([add(1, 1), FAIL], group([XSUM, signature("rig.echo")])))
    assert told.value.exc_type == "ValueError"


async def test_an_unknown_task_fails_the_chord_it_is_part_of(plain: Rig) -> None:
    """A header's task that no worker knows fails the chord; stock leaves it waiting for ever."""
    with pytest.raises(TaskFailed, match="NotRegistered"):
        await plain.get(chord([add(1, 1), signature("rig.nowhere")], XSUM))


async def test_a_rejected_part_fails_the_chord(plain: Rig) -> None:
    """A header's task that rejects its message fails the chord as in stock 5.7."""
    with pytest.raises(TaskFailed, match="raised reject requeue=False: no"):
        await plain.get(chord([signature("rig.fail", ("reject",)), add(1, 1)], XSUM))


async def test_a_poisonous_part_fails_the_chord(plain: Rig) -> None:
    """A header's message that took too many workers along is buried, and its chord fails."""
    work = chord([signature("rig.die", queue="deadly"), add(1, 1)], XSUM)
    handle = await plain.publisher.send_canvas(work)
    raw = await plain.queues.rpop("deadly")
    assert isinstance(raw, bytes)
    value = b'[%s, "", "celery"]' % redelivered(parse(raw), MAX_DELIVERIES - 1)
    await plain.queues.hset("unacked", "crucible|wdead|1", value)
    await plain.queues.zadd("unacked_index", {"crucible|wdead|1": 1.0})
    with pytest.raises(TaskFailed, match="raised WorkerLostError"):
        await handle.get(PATIENCE_S)
    assert await plain.queues.xlen("crucible:dlq") == 1


async def test_an_expired_part_fails_the_chord(plain: Rig) -> None:
    """A header's task that expired before it ran returns a REVOKED part."""
    late = signature("rig.add", (1, 1), expires="2020-01-01T00:00:00+00:00")
    with pytest.raises(TaskFailed, match=r"TaskRevokedError\('expired'\)"):
        await plain.get(chord([late, add(1, 1)], XSUM))


async def test_a_revoked_part_fails_the_chord(plain: Rig) -> None:
    """A header's task that was revoked returns a REVOKED part, with result ignored too."""
    revoked_id = "22222222-aaaa-4aaa-8aaa-222222222222"
    plain.worker.node.revocations.ids.update([revoked_id])
    gone = signature("rig.add", (1, 1), task_id=revoked_id, ignore_result=True)
    with pytest.raises(TaskFailed, match=r"TaskRevokedError\('revoked'\)"):
        await plain.get(chord([gone, add(1, 1)], XSUM))


async def test_a_terminated_part_fails_the_chord(plain: Rig) -> None:
    """A header's task that is terminated while it runs returns a REVOKED part."""
    running_id = "33333333-aaaa-4aaa-8aaa-333333333333"
    work = chord([signature("rig.sleep", (60,), task_id=running_id), add(1, 1)], XSUM)
    handle = await plain.publisher.send_canvas(work)
    async with asyncio.timeout(PATIENCE_S):
        while not plain.worker.terminate(running_id):
            await asyncio.sleep(0.01)
    with pytest.raises(TaskFailed, match=r"TaskRevokedError\('terminated'\)"):
        await handle.get(PATIENCE_S)


async def test_callbacks_and_children(plain: Rig) -> None:
    """Two callbacks go as one group, which the result lists among its children."""
    work = add(1, 2, link=[add(10), add(20)])
    handle = await plain.publisher.send_canvas(work)
    meta = await plain.meta(str(handle.id))
    ((group_id, parent), members) = meta["children"][0]
    assert parent is None
    assert len(members) == 2
    values = [await plain.meta(member[0][0]) for member in members]
    assert [value["result"] for value in values] == [13, 23]
    assert {value["group_id"] for value in values} == {group_id}
    assert {value["parent_id"] for value in values} == {handle.id}


async def test_a_task_sent_by_a_task_is_its_child(plain: Rig) -> None:
    """``ctx.send`` gives the sent task root and parent, and the sender a child."""
    handle = await plain.publisher.send_canvas(signature("rig.spawn", (4,)))
    child_id = str(await handle.get(PATIENCE_S))
    assert (await plain.meta(handle.id))["children"] == [[[child_id, None], None]]
    child = await plain.meta(child_id)
    assert (child["result"], child["parent_id"]) == (5, handle.id)


async def test_an_errback_with_three_arguments_is_called_in_the_worker(plain: Rig) -> None:
    """An errback that takes request, exception and traceback is called, not sent."""
    canvas_tasks.errback_calls.clear()
    work = signature("rig.fail", link_error=[signature("rig.on_error_inline")])
    handle = await plain.publisher.send_canvas(work)
    with pytest.raises(TaskFailed):
        await handle.get(PATIENCE_S)
    await plain.idle()
    assert canvas_tasks.errback_calls == [(handle.id, "ValueError('bang', 42)")]


async def test_an_errback_that_raises_does_not_keep_the_others(plain: Rig) -> None:
    """What an errback raises is logged; the next one is told all the same."""
    errback_id = "44444444-aaaa-4aaa-8aaa-444444444444"
    bad = signature("rig.on_error_raises")
    good = signature("rig.on_error", task_id=errback_id)
    handle = await plain.publisher.send_canvas(signature("rig.fail", link_error=[bad, good]))
    assert (await plain.meta(errback_id))["result"] == handle.id


async def test_a_message_whose_callback_is_no_signature_fails(plain: Rig) -> None:
    """A callback that cannot be read fails its task, as an unsendable result does in stock."""
    raw = json.loads(await _raw(plain, add(1, 2, link=[add(1)])))
    body = json.dumps([[1, 2], {}, {"callbacks": [7]}])
    raw["body"] = body
    del raw["properties"]["body_encoding"]
    await plain.queues.lpush("celery", json.dumps(raw))
    meta = await plain.meta(raw["headers"]["id"])
    assert meta["status"] == "FAILURE"


async def _raw(rig: Rig, work: Signature) -> bytes:
    """The message of a task, unsent."""
    from crucible.broker.canvas.plan import plan
    from crucible.broker.wire.encode import TaskCall, encode_call

    call = plan(work).steps[0]
    assert isinstance(call, TaskCall)
    assert call.task_id is not None
    return encode_call(call, call.task_id)


async def test_built_in_tasks_are_served_but_not_listed(plain: Rig) -> None:
    """Workers serve celery.* tasks, which ``registered`` does not show, as in stock."""
    assert not [name for name in plain.worker.registry.names if name.startswith("celery.")]
    assert await plain.get(signature("celery.backend_cleanup")) is None
    assert await plain.get(signature("celery.accumulate", (1, 2))) == [1, 2]
    with pytest.raises(TaskFailed, match="not a real task"):
        await plain.get(signature("celery.chain"))


async def test_the_old_group_and_chord_tasks(plain: Rig) -> None:
    """``celery.group`` and ``celery.chord`` start what older producers put into them."""
    members = [add(1, task_id="old-1"), add(2, task_id="old-2")]
    shape = [["old-group", None], [[["old-1", None], None], [["old-2", None], None]]]
    kwargs = {"tasks": members, "result": shape, "group_id": "old-group", "partial_args": [10]}
    assert await plain.get(signature("celery.group", kwargs=kwargs)) == shape
    assert (await plain.meta("old-2"))["result"] == 12
    body = signature("rig.xsum", task_id="old-body")
    kwargs = {"header": [add(1, 1), add(2, 2)], "body": body}
    await plain.get(signature("celery.chord", kwargs=kwargs))
    assert (await plain.meta("old-body"))["result"] == 6


@pytest.mark.parametrize(("member", "expected"), [(add(1, 1), 6), (FAIL, None)])
async def test_chord_unlock_polls_a_header(
    plain: Rig, member: Signature, expected: int | None
) -> None:
    """``celery.chord_unlock`` sends the body once all results are there, or fails it."""
    first = await plain.publisher.send_canvas(member)
    second = await plain.publisher.send_canvas(signature("rig.sleep", (0.2, 4)))
    kwargs = {
        "group_id": "polled",
        "callback": signature("rig.xsum", task_id=f"polled-{expected}"),
        "interval": 0.05,
        "result": [[[first.id, None], None], [[second.id, None], None]],
    }
    await plain.publisher.send_canvas(signature("celery.chord_unlock", kwargs=kwargs))
    meta = await plain.meta(f"polled-{expected}")
    if expected is None:
        assert meta["result"]["exc_type"] == "ChordError"
        assert meta["result"]["exc_message"] == [
            f"Dependency {first.id} raised ValueError('bang', 42)"
        ]
    else:
        assert meta["result"] == expected


async def test_a_large_chord(plain: Rig) -> None:
    """A header of 2000 parts is joined in its order."""
    header = [add(number, 0) for number in range(2000)]
    assert await plain.get(chord(header, signature("rig.echo"))) == {
        "args": [list(range(2000))],
        "kwargs": {},
    }


async def test_chords_side_by_side_are_not_mixed_up(plain: Rig) -> None:
    """A hundred chords at once, through four slots, each get their own parts in order."""
    works = [chord([add(n, 0), add(n, 1), add(n, 2)], signature("rig.echo")) for n in range(100)]
    handles = [await plain.publisher.send_canvas(work) for work in works]
    values = await asyncio.gather(*(handle.get(PATIENCE_S) for handle in handles))
    assert values == [{"args": [[n, n + 1, n + 2]], "kwargs": {}} for n in range(100)]
