"""Messages that go out again keep all that is not about the delivery."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from crucible.broker.claiming.lost_replies import LostReplies, read_value
from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import encode_task
from crucible.broker.wire.retry import (
    RetryOptions,
    counted_anew,
    deliveries_of,
    next_try,
    parse,
    redelivered,
)
from crucible.errors import MessageError
from crucible.worker.wakeup import prefixes_of

RAW = encode_task("t.x", [[], {}, 1.0], task_id="a", queue="q", priority=5)


def test_redelivered_changes_the_flags_and_nothing_else() -> None:
    """Empty lists stay lists, floats stay floats: only the marks are new."""
    envelope = json.loads(redelivered(parse(RAW), 2))
    assert envelope["headers"].pop("redelivered") is True
    assert envelope["headers"].pop("crucible_deliveries") == 2
    assert envelope["properties"]["delivery_info"].pop("redelivered") is True
    assert envelope == json.loads(RAW)
    assert deliveries_of(parse(redelivered(parse(RAW), 2))) == 2


def test_next_try_is_the_same_task_later() -> None:
    """Same id and body, one more try, due at eta, its own parent, a tag of its own."""
    first, second = json.loads(RAW), json.loads(next_try(redelivered(parse(RAW), 1), 1_000_000.5))
    assert second["body"] == first["body"]
    assert second["headers"]["id"] == "a"
    assert second["headers"]["retries"] == 1
    assert datetime.fromisoformat(second["headers"]["eta"]).timestamp() == 1_000_000.5
    assert second["headers"]["parent_id"] == "a"
    assert second["properties"]["delivery_tag"] != first["properties"]["delivery_tag"]
    assert "redelivered" not in second["headers"]
    assert deliveries_of(second) == 0


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_message_is_told(raw: bytes) -> None:
    """Garbage raises MessageError and nothing else."""
    with pytest.raises(MessageError):
        parse(raw)


def test_a_claims_value_gives_back_the_exact_bytes() -> None:
    """The message is cut out of the value, whatever is inside it."""
    raw = b'{"properties": {"priority": 4}, "x": [1, "", "q"], "y": ", \\"\\", \\"z"}'
    assert read_value(b"[" + raw + b', "", "a\\"b"]') == (raw, 'a"b', 3)


def test_doubtful_takes_are_looked_for_once_each() -> None:
    """Numbers are looked for until a look was answered, and not again within a second."""
    doubt = LostReplies()
    assert not doubt
    doubt.add(3, 5)
    assert doubt.fields("p|") == ["p|3", "p|4", "p|5"]
    doubt.found("p|4")
    assert doubt.fields("p|") == ["p|3", "p|5"]
    doubt.looked(time.monotonic())
    assert doubt.fields("p|") == []
    doubt.add(9, 9)
    assert doubt.fields("p|") == ["p|3", "p|5", "p|9"]


def test_a_doubt_is_not_forgotten_unseen() -> None:
    """Its time is over only with a look that began after it; a link may be gone for longer."""
    doubt = LostReplies()
    doubt.add(1, 1)
    doubt.looked(time.monotonic())
    assert doubt
    doubt.looked(time.monotonic() + 301.0)
    assert not doubt


def test_prefixes_do_not_overlap() -> None:
    """A list whose name begins with another's is watched by that one's prefix."""
    names = ["eval", "evaluation", "batch", "eval\x06\x163", "celery"]
    assert prefixes_of(names) == ["batch", "celery", "eval"]


def test_a_try_is_published_as_stock_publishes_it() -> None:
    """At once has no eta; the origin leaks, the time to expiry is told anew, all in its order."""
    envelope = parse(RAW)
    expires = datetime.now(UTC) + timedelta(seconds=100)
    envelope["headers"] |= {"expires": expires.isoformat(), "origin": "gen1@client"}
    envelope["properties"] |= {"reply_to": "", "expiration": "500000", "x": 1}
    again = json.loads(next_try(json.dumps(envelope).encode(), None))
    assert again["headers"]["eta"] is None
    properties = again["properties"]
    assert list(properties) == [
        "correlation_id", "reply_to", "origin", "delivery_mode", "expiration", "delivery_info",
        "priority", "body_encoding", "x", "delivery_tag",
    ]  # fmt: skip
    assert properties["origin"] == "gen1@client"
    assert 90_000 < int(properties["expiration"]) <= 100_000
    assert len(properties["reply_to"]) == 36
    kept = json.loads(next_try(RAW, 1.0))
    assert kept["properties"]["reply_to"] == json.loads(RAW)["properties"]["reply_to"]
    assert "expiration" not in kept["properties"]


@pytest.mark.parametrize("headers", [None, {}, {"mine": 1, "redelivered": True}])
def test_a_try_of_protocol_1_is_one_of_protocol_2(headers: dict[str, object] | None) -> None:
    """What counts tries is in its headers from then on; nothing else is lost."""
    callback: dict[str, object] = {
        "task": "t.y",
        "args": [],
        "kwargs": {},
        "options": {},
        "subtask_type": None,
    }
    fields = {
        "task": "t.x", "id": "a", "args": [1], "kwargs": {"k": 2}, "retries": 1, "eta": None,
        "expires": "2100-01-01T00:00:00+00:00", "callbacks": [callback], "errbacks": None,
        "timelimit": [9, 3], "taskset": "g",
    }  # fmt: skip
    envelope = parse(RAW)
    envelope["body"] = base64.b64encode(json.dumps(fields).encode()).decode()
    if headers is None:
        del envelope["headers"]
    else:
        envelope["headers"] = headers
    message = decode(next_try(json.dumps(envelope).encode(), 1_000_000.5))
    assert (message.id, message.task, message.retries) == ("a", "t.x", 2)
    assert (message.args, message.kwargs, message.timelimit) == ([1], {"k": 2}, (9, 3))
    assert (message.eta, message.expires) == (1_000_000.5, 4102444800.0)
    assert (message.group, message.parent_id, message.root_id) == ("g", "a", "a")
    assert message.embed["callbacks"] == [callback]
    assert (message.queue, message.priority) == ("q", 5)
    assert message.headers.get("mine") == (headers or {}).get("mine")
    assert "redelivered" not in message.headers


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_other_arguments_are_json_whatever_the_body_was(
    serializer: str, compression: str | None
) -> None:
    """What the task embeds stays; the reprs are those of the new arguments."""
    raw = encode_task(
        "t.x", [1], {"k": 2}, task_id="a", queue="q",
        options={"serializer": serializer, "compression": compression, "chain": [{"task": "t.y"}]},
    )  # fmt: skip
    again = next_try(raw, None, RetryOptions(kwargs={"k": [3.5]}))
    message = decode(again)
    assert (message.args, message.kwargs) == ([1], {"k": [3.5]})
    assert message.embed["chain"] == [{"task": "t.y"}]
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert "compression" not in message.headers
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == ("(1,)", "{'k': [3.5]}")
    assert next_try(raw, None).split(b'"headers"')[0] == raw.split(b'"headers"')[0]


def test_options_of_a_try_that_was_of_protocol_1() -> None:
    """All of them are written as for any other."""
    fields = {"task": "t.x", "id": "a", "args": [1], "kwargs": {"k": 2}, "timelimit": [9, 3]}
    envelope = parse(RAW)
    envelope["body"] = base64.b64encode(json.dumps(fields).encode()).decode()
    del envelope["headers"]
    expires = datetime(2099, 1, 1, tzinfo=UTC)
    options = RetryOptions(
        args=[5], expires=expires, soft_time_limit=2, queue="other", shadow="s", headers={"h": 1}
    )
    message = decode(next_try(json.dumps(envelope).encode(), None, options))
    assert (message.args, message.kwargs, message.timelimit) == ([5], {"k": 2}, (9, 2))
    assert (message.expires, message.queue) == (expires.timestamp(), "other")
    assert (message.headers["shadow"], message.headers["h"]) == ("s", 1)


def test_counting_anew_leaves_no_mark() -> None:
    """And not a byte of a message that was never counted is another."""
    assert counted_anew(RAW) == RAW
    marked = redelivered(parse(RAW), 5, "lost too often")
    assert json.loads(counted_anew(marked)) == json.loads(RAW)
