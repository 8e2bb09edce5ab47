from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.broker.results.meta import Meta
from crucible.evaluation.record import Record, decode_record, encode_record
from crucible.evaluation.result import bytes_of, file_of, result_of, text_of, whole_text
from crucible.evaluation.retry_policy import LONGEST_S, retry_delay_s
from crucible.evaluation.tasks import plain
from crucible.evaluation.view import evaluation_of
from crucible.models import Outcome, Status, Usage, Verdict, status_of

RECORD = Record(b"d" * 16, 1_800_000_000_000, "evaluation", "python", "celery", {"k": 1})
CREATED = "2027-01-15T08:00:00.000Z"


def meta(status: str, result: object, date_done: str | None = None) -> Meta:
    """A stored Celery result."""
    return Meta(task_id="eval-e", status=status, result=result, date_done=date_done)


def test_a_record_survives_storage() -> None:
    """What was remembered is what is read."""
    assert decode_record(encode_record(RECORD)) == RECORD


def test_queued_until_something_is_stored() -> None:
    """A submission without any stored meta waits in its queue."""
    view = evaluation_of("e", RECORD, None)
    assert (view.status, view.task_id, view.queue) == (Status.QUEUED, "eval-e", "evaluation")
    assert (view.created_at, view.metadata, view.verdict) == (CREATED, {"k": 1}, None)


def test_the_result_of_the_task_is_what_the_client_sees() -> None:
    """Output, verdict, usage and all three times arrive."""
    outcome = Outcome(
        verdict=Verdict.NONZERO_EXIT,
        exit_code=3,
        stdout=b"42\n",
        stderr=b"\xff",
        isolation="nested",
        usage=Usage(wall_time_ms=19),
        sandbox_s=0.0021,
        run_s=0.019,
    )
    ended = result_of(
        "e",
        outcome,
        worker="w@h",
        retry_count=1,
        started_at="2027-01-15T08:00:00.005Z",
        finished_at="2027-01-15T08:00:00.030Z",
    )
    view = evaluation_of("e", RECORD, meta("SUCCESS", plain(ended)))
    assert (view.status, view.verdict, view.exit_code) == (Status.COMPLETED, "nonzero_exit", 3)
    assert (view.output, view.output_encoding) == ("42\n", "utf-8")
    assert bytes_of(view.error, view.error_encoding) == b"\xff"
    assert (view.worker, view.retry_count, view.isolation) == ("w@h", 1, "nested")
    assert view.timing_ms is not None
    timing = view.timing_ms
    assert (timing.queued, timing.sandbox, timing.run, timing.total) == (5, 2, 19, 30)


@pytest.mark.parametrize(
    ("state", "result", "status", "verdict"),
    [
        ("STARTED", {"pid": 1, "hostname": "w@h"}, "running", None),
        ("PROGRESS", {"done": 1}, "running", None),
        ("PENDING", None, "queued", None),
        ("RETRY", {"exc_type": "ExecutorUnavailable", "exc_message": ["x"]}, "retrying", None),
        ("FAILURE", {"exc_type": "E", "exc_message": ["x"]}, "failed", "internal_error"),
        ("REVOKED", {"exc_type": "T", "exc_message": ["revoked"]}, "cancelled", "cancelled"),
        ("REVOKED", {"exc_type": "T", "exc_message": ["terminated"]}, "cancelled", "cancelled"),
        ("REVOKED", {"exc_type": "T", "exc_message": ["expired"]}, "failed", "expired"),
        ("SUCCESS", "of another task", "failed", "internal_error"),
    ],
)
def test_every_celery_state_is_a_status(
    state: str, result: object, status: str, verdict: str | None
) -> None:
    """Whatever a worker stores, the client gets one of the contract's words for it."""
    view = evaluation_of("e", None, meta(state, result, None))
    assert (view.status, view.verdict) == (status, verdict)


@pytest.mark.parametrize("done", ["2027-01-15T08:00:01.5", "2027-01-15T09:00:01.5+01:00"])
def test_date_done_of_every_celery_version_is_understood(done: str) -> None:
    """5.3 writes naive UTC, later versions an offset."""
    view = evaluation_of("e", RECORD, meta("FAILURE", {"exc_type": "E"}, done))
    assert view.finished_at == "2027-01-15T08:00:01.500Z"
    assert view.timing_ms is not None
    assert view.timing_ms.total == 1500


@given(st.binary())
def test_no_byte_of_output_is_lost(data: bytes) -> None:
    """Text where it is text, base64 where not; back again it is the same."""
    assert bytes_of(*text_of(data)) == data


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_a_status(verdict: Verdict) -> None:
    """Own end is completed, a limit or a fault is failed."""
    own = verdict in (Verdict.OK, Verdict.NONZERO_EXIT, Verdict.SIGNALLED)
    expected = Status.COMPLETED if own else Status.FAILED
    assert status_of(verdict) == (Status.CANCELLED if verdict is Verdict.CANCELLED else expected)


@given(st.integers(0, 100), st.floats(0, 1))
def test_retry_delays_are_bounded_and_never_zero(retries: int, spread: float) -> None:
    """Backoff grows to its longest and stays there."""
    assert 0 < retry_delay_s(retries, spread) <= LONGEST_S


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        (b"", b""),
        (b"abc", b"abc"),
        ("a\N{EURO SIGN}".encode(), "a\N{EURO SIGN}".encode()),
        ("a\N{EURO SIGN}".encode()[:-1], b"a"),
        ("a\N{EURO SIGN}".encode()[:-2], b"a"),
        ("a\N{GRINNING FACE}".encode()[:-1], b"a"),
        (b"\xff\xfe\xe2\x82", b"\xff\xfe\xe2\x82"),
        (b"abc\xe2\x82\xac\x80", b"abc\xe2\x82\xac\x80"),
        (b"abc\xff", b"abc\xff"),
    ],
)
def test_text_that_was_cut_stays_text(cut: bytes, whole: bytes) -> None:
    """A character that was cut goes; what was no text before the cut is as it was."""
    assert whole_text(cut) == whole


def test_only_what_was_cut_is_touched() -> None:
    """A program that itself ends inside a character has printed just that, whoever reads it."""
    half = "\N{EURO SIGN}".encode()[:2]

    def shown(verdict: Verdict, *, truncated: bool = False) -> tuple[str, str]:
        outcome = Outcome(verdict=verdict, stdout=b"a" + half, output_truncated=truncated)
        result = result_of("x", outcome, worker="", retry_count=0, started_at="", finished_at="")
        return result.output, result.output_encoding

    assert shown(Verdict.OK) == (base64.b64encode(b"a" + half).decode(), "base64")
    assert shown(Verdict.SIGNALLED)[1] == "base64"
    assert shown(Verdict.OUTPUT_LIMIT, truncated=True) == ("a", "utf-8")
    assert shown(Verdict.NONZERO_EXIT, truncated=True) == ("a", "utf-8")
    assert shown(Verdict.TIMEOUT) == ("a", "utf-8")
    assert shown(Verdict.CANCELLED) == ("a", "utf-8")


def test_files_that_did_not_come_back_are_in_the_view() -> None:
    """What was asked for and is not there is named with the reason, and only then."""
    outcome = Outcome(verdict=Verdict.OK, files={"a": b"x"}, files_omitted={"b": "missing"})
    result = result_of("x", outcome, worker="", retry_count=0, started_at="", finished_at="")
    assert msgspec.to_builtins(result)["files_omitted"] == {"b": "missing"}
    stored = meta("SUCCESS", msgspec.to_builtins(result))
    assert evaluation_of("x", None, stored).files_omitted == {"b": "missing"}
    plain = result_of(
        "x", Outcome(verdict=Verdict.OK), worker="", retry_count=0, started_at="", finished_at=""
    )
    assert "files_omitted" not in msgspec.to_builtins(plain)


@given(st.binary(max_size=300) | st.lists(st.integers(0, 40), max_size=300).map(bytes))
def test_files_arrive_intact_and_are_hardly_longer_than_in_base64(content: bytes) -> None:
    """Zeros as JSON text are six times as long; quotes and line ends may double."""
    shown = file_of(content)
    assert bytes_of(shown["content"], shown["encoding"]) == content
    assert len(msgspec.json.encode(shown["content"])) <= 6 + 2.4 * len(content)


def test_a_file_of_zeros_is_base64_and_text_stays_text() -> None:
    """Ordinary text has tabs and line ends, and now and then an escape sequence."""
    assert file_of(bytes(300))["encoding"] == "base64"
    text = "a\tb\r\n\f" * 20 + "\x1b[31mred\x1b[0m plain again"
    assert file_of(text.encode()) == {"content": text, "encoding": "utf-8"}
