"""Messages that go out again keep all that is not about the delivery."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest

from crucible.broker.claiming.doubt import DoubtfulTakes, read_value
from crucible.broker.wire.envelope import encode_task
from crucible.broker.wire.redelivery import deliveries_of, next_try, parse, redelivered
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
    doubt = DoubtfulTakes()
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
    doubt = DoubtfulTakes()
    doubt.add(1, 1)
    doubt.looked(time.monotonic())
    assert doubt
    doubt.looked(time.monotonic() + 301.0)
    assert not doubt


def test_prefixes_do_not_overlap() -> None:
    """A list whose name begins with another's is watched by that one's prefix."""
    names = ["eval", "evaluation", "batch", "eval\x06\x163", "celery"]
    assert prefixes_of(names) == ["batch", "celery", "eval"]
