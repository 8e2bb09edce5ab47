"""Errors survive the way over HTTP, and nobody else's answers pass for the queue's."""

from __future__ import annotations

import msgspec
import pytest

from crucible.errors import (
    BrokerError,
    ConflictError,
    CrucibleError,
    InputError,
    LegacyRefused,
    LegacyTaskUnknown,
    LegacyUnavailable,
    LegacyWrongState,
)
from crucible.legacy.problems import document, error_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("program.code", "is missing"), 422),
        (ConflictError("id", "was used"), 409),
        (LegacyTaskUnknown("no task x"), 404),
        (LegacyWrongState("x is running"), 409),
        (LegacyRefused("draining"), 503),
    ],
)
def test_round_trip(error: CrucibleError, status: int) -> None:
    """Each error becomes a problem document and the same error again on the other side."""
    answer = document(error)
    assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert isinstance(answer.body, bytes)
    back = error_of(answer.status, answer.body)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert ("Retry-After" in answer.headers) is (status == 503)


def test_unexpected_error_tells_nothing() -> None:
    """An error that should not have come this far is a 500 without its text."""
    answer = document(BrokerError("secret"))
    assert answer.status == 500
    assert isinstance(answer.body, bytes)
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>404</html>",
        b'{"detail":"Not Found"}',
        b'{"type":"about:blank","title":"Not found"}',
        b"[1]",
        b"\xff",
        msgspec.json.encode({"type": 5}),
    ],
)
@pytest.mark.parametrize("status", [302, 404, 409, 500, 502])
def test_foreign_answers_mean_unavailable(status: int, body: bytes) -> None:
    """A 404 from a wrong base URL is not a lost task, whatever its body."""
    assert type(error_of(status, body)) is LegacyUnavailable
