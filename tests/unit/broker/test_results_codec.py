"""Stored results: written as stock writes them, read back, and told as errors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stock_rig import golden

from crucible.broker.results.meta import (
    Meta,
    decode_meta,
    encode_meta,
    exception_result,
    extended_fields,
    revoked_result,
)
from crucible.errors import MessageError, TaskFailed, TaskRevoked

NOW = datetime(2026, 11, 21, 20, 34, 3, 459363, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "result", "more", "expected"),
    [
        ("SUCCESS", 5, {},
         '{"status": "SUCCESS", "result": 5, "traceback": null, "children": [], '
         '"date_done": "2026-11-21T20:34:03.459363+00:00", "task_id": "t"}'),
        ("FAILURE", exception_result(ValueError("bang", 42)), {"traceback": "Traceback"},
         '{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["bang", 42], '
         '"exc_module": "builtins"}, "traceback": "Traceback", "children": [], '
         '"date_done": "2026-11-21T20:34:03.459363+00:00", "task_id": "t"}'),
        ("RETRY", None, {"children": [[["t", None], None]]},
         '{"status": "RETRY", "result": null, "traceback": null, '
         '"children": [[["t", null], null]], "date_done": null, "task_id": "t"}'),
        ("STARTED", {"pid": 13442, "hostname": "w1@vm"}, {},
         '{"status": "STARTED", "result": {"pid": 13442, "hostname": "w1@vm"}, "traceback": null, '
         '"children": [], "date_done": null, "task_id": "t"}'),
        ("REVOKED", revoked_result("expired"), {"group_id": "g", "parent_id": "p"},
         '{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", '
         '"exc_message": ["expired"], "exc_module": "celery.exceptions"}, "traceback": null, '
         '"children": [], "date_done": "2026-11-21T20:34:03.459363+00:00", "group_id": "g", '
         '"parent_id": "p", "task_id": "t"}'),
        ("PROGRESS", {"current": 1, "total": 2}, {},
         '{"status": "PROGRESS", "result": {"current": 1, "total": 2}, "traceback": null, '
         '"children": [], "date_done": null, "task_id": "t"}'),
        ("SUCCESS", None,
         {"extended": extended_fields(name="a.b", args=[1], kwargs={}, worker="w1@vm", retries=0,
                                      queue="q", stamped_headers=["foo"], stamps={"foo": "bar"})},
         '{"status": "SUCCESS", "result": null, "traceback": null, "children": [], '
         '"date_done": "2026-11-21T20:34:03.459363+00:00", "name": "a.b", "args": [1], '
         '"kwargs": {}, "worker": "w1@vm", "retries": 0, "queue": "q", '
         '"stamped_headers": ["foo"], "foo": "bar", "task_id": "t"}'),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 10 else "",
)  # fmt: skip
def test_written_as_stock_writes_it(
    status: str, result: Any, more: dict[str, Any], expected: str
) -> None:
    """Each state has stock's members in stock's order."""
    assert encode_meta("t", status, result, now=NOW, **more).decode() == expected


def _stock_metas() -> list[str]:
    """Every meta in the captures of traces, wherever it stands in them."""
    found: list[str] = []

    def search(value: Any) -> None:
        if isinstance(value, str):
            if value.startswith('{"status": '):
                found.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                search(item)
        elif isinstance(value, list):
            for item in value:
                search(item)

    for version in golden.GOLDEN_VERSIONS:
        search(golden.load(version, "traces"))
    return found


def test_stock_metas_are_read() -> None:
    """Every meta that stock workers stored is read, and writing it again gives its members."""
    metas = _stock_metas()
    assert len(metas) > 50
    for raw in metas:
        meta = decode_meta(raw.encode())
        written = json.loads(
            encode_meta(
                meta.task_id,
                meta.status,
                meta.result,
                traceback=meta.traceback,
                children=meta.children,
                group_id=meta.group_id,
                parent_id=meta.parent_id,
                extended=meta.extended,
            )
        )
        stock = json.loads(raw)
        assert list(written) == list(stock)
        assert (written.pop("date_done") is None) == (stock.pop("date_done") is None)
        assert written == stock


def test_exceptions() -> None:
    """Exceptions carry their qualified name, and what JSON cannot carry becomes its repr."""

    class Own(Exception):  # noqa: N818 - a name of a test
        pass

    thing = object()
    result = exception_result(Own(thing, Decimal("1.5"), (1, 2)))
    assert result["exc_type"].endswith("test_exceptions.<locals>.Own")
    assert result["exc_message"] == [repr(thing), Decimal("1.5"), (1, 2)]
    assert result["exc_module"] == __name__


def test_what_cannot_be_carried() -> None:
    """A result JSON has no form for is a TypeError, for the worker to store as EncodeError."""
    with pytest.raises(TypeError):
        encode_meta("t", "SUCCESS", object())


@pytest.mark.parametrize(
    ("meta", "error", "text"),
    [
        (Meta(task_id="t", status="FAILURE", result=None), TaskFailed, "Exception"),
        (Meta(task_id="t", status="FAILURE", result="odd"), TaskFailed, "Exception"),
        (Meta(task_id="t", status="FAILURE", result={"exc_type": "E", "exc_message": "m"}),
         TaskFailed, "E: m"),
        (Meta(task_id="t", status="REVOKED", result=None), TaskRevoked, "revoked"),
        (Meta(task_id="t", status="REVOKED", result=revoked_result("expired")), TaskRevoked,
         "expired"),
    ],
    ids=range(5),
)  # fmt: skip
def test_endings(meta: Meta, error: type[Exception], text: str) -> None:
    """Whatever stands in a failed task's result, it becomes the right error."""
    with pytest.raises(error, match=text):
        meta.value()


@given(st.binary(max_size=80) | st.text().map(lambda text: json.dumps(text).encode()))
def test_any_bytes(raw: bytes) -> None:
    """Bytes are a meta or a MessageError."""
    with pytest.raises(MessageError):
        decode_meta(raw)


@pytest.mark.parametrize("missing", ["status", "task_id"])
def test_needed_members(missing: str) -> None:
    """A meta without its state or its task is none."""
    fields = {"status": "SUCCESS", "task_id": "t"}
    del fields[missing]
    with pytest.raises(MessageError, match="no status or task_id"):
        decode_meta(json.dumps(fields).encode())
