"""Reading messages: round trips, every known defect, and any garbage."""

from __future__ import annotations

import base64
import bz2
import contextlib
import json
import lzma
import zlib
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import TaskCall, TaskTemplate, encode_call, encode_task
from crucible.broker.wire.jsontypes import dumps, loads
from crucible.errors import MessageError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
SPECIAL = (
    st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=2))))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary()
)
TYPED_VALUES = st.recursive(
    JSON_VALUES | SPECIAL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
ARGS = st.lists(JSON_VALUES, max_size=4)
KWARGS = st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4)


@given(TYPED_VALUES)
def test_json_dialect_is_kombus(value: Any) -> None:
    """Text equals kombu's, kombu reads it, and it is read back to the same value."""
    text = dumps(value)
    kombu: Any = kombu_json
    assert text == kombu.dumps(value)
    assert loads(text.encode()) == kombu.loads(text) == value


@given(st.text(st.characters()))
def test_text_with_lone_surrogates(value: str) -> None:
    """Text that is no UTF-8 passes as it does through the standard library."""
    assert loads(dumps([value]).encode()) == [value]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400", "-0", "1" * 400, '"\\ud800"'])
def test_loads_takes_what_the_standard_library_takes(text: str) -> None:
    """What the quick decoder refuses is read as stock would read it."""
    assert repr(loads(text.encode())) == repr(json.loads(text))


def test_escaped_type_name_is_seen() -> None:
    """A typed value hides behind no escape."""
    assert loads(b'{"\\u005f_type__": "decimal", "__value__": "1.5"}') == Decimal("1.5")


@pytest.mark.parametrize(
    "text",
    [
        '{"__type__": "nope", "__value__": 1}',
        '{"__type__": [], "__value__": 1}',
        '{"__type__": "datetime", "__value__": 1}',
        '{"__type__": "uuid", "__value__": {}}',
        '{"__type__": "decimal", "__value__": "x"}',
        '{"__type__": "base64", "__value__": "a"}',
        "[" * 100_000,
        "",
        "nul",
        "\udcff",
    ],
    ids=range(10),
)
def test_bad_json_is_a_value_error(text: str) -> None:
    """Whatever is wrong with a text, it is a ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - several kinds, all ValueError
        loads(text.encode("utf-8", "surrogateescape"))


def test_circular_arguments_are_refused() -> None:
    """A value that contains itself is the caller's mistake, told as ValueError."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="circular"):
        encode_task("a.b", [circle], task_id="x")


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "lzma"])
@given(args=ARGS, kwargs=KWARGS)
def test_round_trip(
    serializer: str, compression: str | None, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """Arguments come back through each serializer and compression."""
    if serializer == "msgpack":
        # msgpack has 64-bit integers and no lone surrogates.
        try:
            msgpack.packb([args, kwargs])
        except (OverflowError, UnicodeEncodeError):
            return
    raw = encode_task(
        "a.b",
        args,
        kwargs,
        task_id="id",
        queue="q",
        priority=5,
        options={"serializer": serializer, "compression": compression, "retries": 2},
    )
    message = decode(raw)
    assert (message.args, message.kwargs) == (args, kwargs)
    assert (message.id, message.task, message.queue) == ("id", "a.b", "q")
    assert (message.priority, message.retries) == (5, 2)
    assert message.raw is raw


@given(args=ARGS, kwargs=KWARGS, priority=st.none() | st.integers(0, 9))
def test_template_equals_the_full_encoder(
    args: list[Any], kwargs: dict[str, Any], priority: int | None
) -> None:
    """The quick way and the long way write the same bytes."""
    call = TaskCall("grün.'x'", args, kwargs, None, "q", priority, True)
    quick = json.loads(encode_call(call, 'id"'))
    call.options = {"countdown": None}
    full = json.loads(encode_call(call, 'id"'))
    quick["properties"].pop("delivery_tag")
    full["properties"].pop("delivery_tag")
    assert json.dumps(quick) == json.dumps(full)


def test_template_carries_limits() -> None:
    """Time limits given to a template stand in its messages."""
    template = TaskTemplate("a.b", time_limit=30, soft_time_limit=2.5)
    assert decode(template.render("x", (), {})).timelimit == (30, 2.5)


def test_delivery_tags_are_fresh() -> None:
    """No two publications share a delivery tag."""
    template = TaskTemplate("a.b")
    tags = {decode(template.render("x", (), {})).delivery_tag for _ in range(1000)}
    assert len(tags) == 1000


def test_times_are_read() -> None:
    """Countdown and expires become seconds since the epoch; a naive time is UTC."""
    before = datetime.now(UTC).timestamp()
    message = decode(encode_task("a", task_id="x", options={"countdown": 10, "expires": 60}))
    assert message.eta == pytest.approx(before + 10, abs=5)
    assert message.expires == pytest.approx(before + 60, abs=5)
    naive = decode(encode_task("a", task_id="x", options={"eta": datetime(2099, 1, 1)}))
    assert naive.eta == datetime(2099, 1, 1, tzinfo=UTC).timestamp()


def b64(body: bytes | str) -> str:
    return base64.b64encode(body.encode() if isinstance(body, str) else body).decode()


def minimal(**changes: Any) -> dict[str, Any]:
    """The smallest message both ends of the supported range run."""
    message: dict[str, Any] = {
        "body": b64("[[1,2],{},{}]"),
        "content-type": "application/json",
        "headers": {"task": "a.b", "id": "x"},
        "properties": {
            "delivery_tag": "t",
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "q"},
        },
    }
    for name, value in changes.items():
        if isinstance(value, dict) and name in message:
            message[name] = {**message[name], **value}
            message[name] = {k: v for k, v in message[name].items() if v is not ...}
        else:
            message[name.replace("_", "-")] = value
    return {key: value for key, value in message.items() if value is not ...}


PACKED = msgpack.packb([[1, 2], {}, None])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"body": "[[1,2],{},{}]", "properties": {"body_encoding": ...}},
        {"body": "[[1,2],{},{}]", "properties": {"body_encoding": "utf-8"}},
        {"body": b64("[[1,2],{},null]")},
        {"content_encoding": ...},
        {"content_encoding": "UTF-8"},
        {"properties": {"priority": None}},
        {"properties": {"priority": "high"}},
        {"body": b64(PACKED), "content_type": "application/x-msgpack"},
        {"body": b64(zlib.compress(PACKED)), "content_type": "application/x-msgpack",
         "headers": {"compression": "application/x-gzip"}},
        {"body": b64(bz2.compress(b"[[1,2],{},{}]")), "headers": {"compression": "bzip2"}},
        {"body": b64(lzma.compress(b"[[1,2],{},{}]")), "headers": {"compression": "xz"}},
        {"headers": {"retries": None, "timelimit": None, "eta": None, "unknown": [1]}},
        {"body": b64('{"task": "a.b", "id": "x", "args": [1, 2], "kwargs": {}, "retries": 0}'),
         "headers": {"task": ..., "id": ...}},
        {"body": b64('{"task": "a.b", "id": "x", "args": [1, 2]}'), "headers": ...},
    ],
    ids=range(15),
)  # fmt: skip
def test_tolerated(changes: dict[str, Any]) -> None:
    """What 5.7 runs though it is not quite as stock writes it, is read."""
    message = decode(json.dumps(minimal(**changes)).encode())
    assert (message.id, message.task, message.queue) == ("x", "a.b", "q")
    assert (message.args, message.kwargs) == ([1, 2], {})
    assert message.embed == dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"properties": {"delivery_info": ...}}, "delivery_info is missing"),
        ({"properties": {"delivery_info": {}}}, "routing_key is missing"),
        ({"properties": {"delivery_tag": ...}}, "delivery_tag is missing"),
        ({"properties": ...}, "properties are missing"),
        ({"properties": []}, "properties are missing"),
        ({"body": b64("[[1,2],{}]")}, r"not \[args, kwargs, embed\]"),
        ({"content_type": ...}, "content-type is missing"),
        ({"headers": {"id": ...}}, "id is missing"),
        ({"headers": {"id": 7}}, "id is missing"),
        ({"headers": {"id": "\udc80"}}, "id is not valid text"),
        ({"headers": {"task": ...}}, "no task header"),
        ({"headers": {"task": None}}, "task is missing"),
        ({"headers": ...}, "no task header"),
        ({"headers": "x"}, "headers are not an object"),
        ({"body": b64("[[1,2],{},{}")}, "body is not application/json"),
        ({"body": b64(b"\xff\xfe")}, "body is not application/json"),
        ({"body": "$", "headers": {}}, "body is not"),
        ({"body": ...}, "body is missing"),
        ({"body": 7}, "body is not a string"),
        ({"headers": {"eta": "tomorrow"}}, "eta 'tomorrow' is not"),
        ({"headers": {"expires": 7}}, "expires 7 is not"),
        ({"content_type": "application/x-python-serialize"}, "is refused"),
        ({"content_type": "application/x-yaml"}, "is refused"),
        ({"content_encoding": "utf-16"}, "'utf-16' is not supported"),
        ({"body": b64("[[1,2],[],{}]")}, "kwargs are not an object"),
        ({"body": b64("[{},{},{}]")}, "args are not a list"),
        ({"body": b64("[[],{},[]]")}, "embed is not an object"),
        ({"properties": {"body_encoding": "rot13"}}, "'rot13' is not supported"),
        ({"headers": {"compression": "application/x-brotli"}}, "is not supported"),
        ({"headers": {"compression": "gzip"}}, "body is not gzip"),
        ({"headers": {"compression": 7}}, "compression is not a string"),
        ({"headers": {"retries": "2"}}, "retries is not a count"),
        ({"headers": {"timelimit": [1]}}, "timelimit is not a pair"),
        ({"headers": {"timelimit": ["a", None]}}, "timelimit is not a pair"),
        ({"headers": {"root_id": 7}}, "root_id is not a string"),
        ({"body": b64('{"id": "x"}'), "headers": {}}, "not .args"),
        ({"body": b64('{"task": "a.b"}'), "headers": ...}, "id is missing"),
        ({"body": b64(b"\x81\x01\x02"), "content_type": "application/x-msgpack"}, "body is not"),
        ({"body": b64(b"\xc1"), "content_type": "application/x-msgpack"}, "body is not"),
        ({"body": b64(b"\x93\x90"), "content_type": "application/x-msgpack"}, "body is not"),
    ],
    ids=range(40),
)
def test_defects(changes: dict[str, Any], reason: str) -> None:
    """Every defect that kills or confuses a stock worker is a MessageError with its reason."""
    raw = json.dumps(minimal(**changes)).encode()
    with pytest.raises(MessageError, match=reason):
        decode(raw)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b'"x"', b"\xff", b"null", b"[" * 100_000])
def test_garbage(raw: bytes) -> None:
    """Bytes that are no message at all are a MessageError."""
    with pytest.raises(MessageError):
        decode(raw)


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma"])
def test_decompression_is_bounded(method: str) -> None:
    """A small body that would grow huge is refused before it grows."""
    raw = encode_task("a", ["x" * 5_000_000], task_id="x", options={"compression": method})
    assert len(raw) < 50_000
    with pytest.raises(MessageError, match="larger than 1000000 bytes"):
        decode(raw, max_body_bytes=1_000_000)


def test_truncated_compression() -> None:
    """A compressed body cut short is refused."""
    cut = zlib.compress(b"[[1,2],{},{}]" * 50)[:-6]
    raw = json.dumps(minimal(body=b64(cut), headers={"compression": "zlib"})).encode()
    with pytest.raises(MessageError, match="cut short"):
        decode(raw)


def test_body_may_be_left_alone() -> None:
    """Without a look at the body its defects come with the first access."""
    message = decode(json.dumps(minimal(body=b64("["))).encode(), body=False)
    assert message.id == "x"
    with pytest.raises(MessageError):
        _ = message.args


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    """Bytes are a message or a MessageError, never another error."""
    with contextlib.suppress(MessageError):
        decode(raw)


NOISE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["base64", "utf-8", "application/json", "application/x-msgpack", "gzip"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
PLACES = st.sampled_from(
    [
        ("body",),
        ("content-type",),
        ("content-encoding",),
        ("headers",),
        ("properties",),
        *(("headers", name) for name in ("task", "id", "retries", "eta", "expires", "timelimit",
                                         "compression", "root_id", "parent_id", "group")),
        *(("properties", name) for name in ("delivery_info", "delivery_tag", "priority",
                                            "body_encoding")),
        ("properties", "delivery_info", "routing_key"),
        ("properties", "delivery_info", "exchange"),
    ]
)  # fmt: skip


@given(st.lists(st.tuples(PLACES, NOISE), min_size=1, max_size=3), st.none() | NOISE)
def test_any_member_may_be_anything(
    changes: list[tuple[tuple[str, ...], Any]], content: Any
) -> None:
    """A message with any member replaced by anything is read or a MessageError."""
    message = minimal()
    if content is not None:
        message["body"] = b64(json.dumps(content))
    for place, value in changes:
        target = message
        for name in place[:-1]:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                return
        target[place[-1]] = value
    try:
        read = decode(json.dumps(message).encode())
    except MessageError:
        return
    read.id.encode()
    read.queue.encode()
    assert isinstance(read.task, str)
    assert isinstance(read.args, list)
    assert isinstance(read.kwargs, dict)


def test_arguments_of_the_wrong_kind() -> None:
    """Arguments that are no list, no mapping, or cannot be carried are told to the caller."""
    with pytest.raises(TypeError):
        encode_task("a", "text", task_id="x")
    with pytest.raises(TypeError):
        encode_task("a", [], [1], task_id="x")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError):
        encode_task("a", [object()], task_id="x")
    with pytest.raises(ValueError, match="name"):
        encode_task("", task_id="x")
    with pytest.raises(ValueError, match="queue"):
        encode_task("a", task_id="x", queue="")
    with pytest.raises(ValueError, match="serializer"):
        encode_task("a", task_id="x", options={"serializer": "pickle"})
    with pytest.raises(ValueError, match="compression"):
        encode_task("a", task_id="x", options={"compression": "rar"})


def test_special_types_are_kept() -> None:
    """Dates, decimals, UUIDs and bytes arrive as what they were."""
    args = [
        datetime(2026, 1, 2, tzinfo=UTC),
        date(2026, 1, 2),
        time(3, 4),
        Decimal("1.10"),
        b"\xff",
    ]
    assert decode(encode_task("a", args, task_id="x")).args == args
