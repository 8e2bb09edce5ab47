"""Random canvases, sent by stock Celery and by Crucible to the same server, message by message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import redis as sync_redis
from celery import Celery
from celery import chain as stock_chain
from celery import chord as stock_chord
from celery import group as stock_group
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from stock_rig.mask import mask_message

from crucible.broker.canvas.plan import ChordSize, SavedGroup, plan
from crucible.broker.canvas.signature import Signature, chain, chord, group, signature
from crucible.broker.wire.encode import TaskCall, encode_call
from crucible.broker.wire.priority import step_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stock

OPTIONS = st.sampled_from([{}, {}, {}, {"queue": "batch"}, {"priority": 6}, {"expires": 3600}])
TASKS = st.builds(
    lambda args, options, immutable: {"task": (args, options, immutable)},
    st.lists(st.integers(0, 9), max_size=2),
    OPTIONS,
    st.booleans(),
)


def _combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    many = st.lists(inner, min_size=1, max_size=3)
    return (
        many.map(lambda parts: {"chain": parts})
        | many.map(lambda parts: {"group": parts})
        | st.tuples(many, inner).map(lambda both: {"chord": both})
    )


CANVASES = st.recursive(TASKS, _combined, max_leaves=7)


def _stock(app: Celery, spec: dict[str, Any]) -> Any:
    ((kind, inner),) = spec.items()
    if kind == "task":
        args, options, immutable = inner
        return app.signature("t.x", args=args, options=dict(options), immutable=immutable)
    if kind == "chain":
        return stock_chain(*[_stock(app, part) for part in inner], app=app)
    if kind == "group":
        return stock_group([_stock(app, part) for part in inner], app=app)
    header, body = inner
    return stock_chord([_stock(app, part) for part in header], _stock(app, body), app=app)


def _ours(spec: dict[str, Any]) -> Signature:
    ((kind, inner),) = spec.items()
    if kind == "task":
        args, options, immutable = inner
        return signature("t.x", args, immutable=immutable, **options)
    if kind == "chain":
        return chain(*map(_ours, inner))
    if kind == "group":
        return group(map(_ours, inner))
    header, body = inner
    return chord(map(_ours, header), _ours(body))


@pytest.fixture
def stock_app(redis_url: str) -> Iterator[Celery]:
    app = Celery("differential", broker=redis_url, backend=redis_url, set_as_current=False)
    # Nobody waits for these results; unsubscribing, when they are collected, would come too late.
    app.backend.result_consumer.consume_from = lambda task_id: None
    yield app
    app.close()


def _drained(client: Any) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Everything in the lists, masked, and the chord keys by the ids of their members."""
    pushed: list[tuple[str, str]] = []
    keys: dict[str, str] = {}
    for key in client.scan_iter():
        name = key.decode()
        kind = client.type(key)
        if kind == b"list":
            pushed += [(name, _masked(raw)) for raw in reversed(client.lrange(key, 0, -1))]
        elif kind == b"string" and "taskset" in name:
            keys[name] = client.get(key).decode()
    client.flushdb()
    return pushed, keys


def _masked(raw: bytes) -> str:
    text = re.sub(r'"ignore_result": (null|false|true)', '"ignore_result": null', raw.decode())
    return mask_message(text)


def _send(client: Any, spec: dict[str, Any]) -> None:
    for step in plan(_ours(spec)).steps:
        if isinstance(step, TaskCall):
            key = f"{step.queue}\x06\x16{step_of(step.priority)}"
            raw = encode_call(step, step.task_id or "")
            client.lpush(key.removesuffix("\x06\x160"), raw)
        elif isinstance(step, ChordSize):
            client.set(f"celery-taskset-meta-{step.group_id}.s", step.size)
        elif isinstance(step, SavedGroup):
            client.set(f"celery-taskset-meta-{step.group_id}", "saved")


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(CANVASES)
def test_any_canvas_is_sent_as_stock_sends_it(
    redis_url: str, stock_app: Celery, spec: dict[str, Any]
) -> None:
    """Messages, their lists and order, and chord sizes are those of the stock producer."""
    with sync_redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        try:
            _stock(stock_app, spec).apply_async()
        except (AttributeError, TypeError, RuntimeError, IndexError) as error:
            # What stock cannot send has no bytes to compare with.
            event(f"stock failed: {error!r}")
            return
        event("compared")
        pushed, keys = _drained(client)
        _send(client, spec)
        ours_pushed, ours_keys = _drained(client)
        assert sorted(ours_pushed) == sorted(pushed)
        sizes = sorted(value for name, value in keys.items() if name.endswith(".s"))
        ours_sizes = sorted(value for name, value in ours_keys.items() if name.endswith(".s"))
        assert ours_sizes == sizes
        assert len(ours_keys) == len(keys)
