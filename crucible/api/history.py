"""The handlers of the history: ``GET /api/eval`` and ``/api/v1/stats``."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.api.app_keys import HISTORY
from crucible.api.callers import caller_of
from crucible.errors import Forbidden, ParameterError
from crucible.evaluation.past import past_evaluation
from crucible.evaluation.view import text_time
from crucible.history.filters import Filters
from crucible.http.answers import json_answer
from crucible.http.problems import problem
from crucible.http.query import limit_of
from crucible.models import Evaluation, Status, Verdict

if TYPE_CHECKING:
    from aiohttp import web

    from crucible.history.reader import HistoryReader

#: Evaluations of a page unless the client says otherwise, and at most.
PAGE, LARGEST_PAGE = 50, 500
#: Parameters of the list; those of metadata follow ``metadata.``.
FILTERS = frozenset({"status", "verdict", "language", "queue", "tenant", "since", "until", "q"})
METADATA = "metadata."
LISTED = FILTERS | {"limit", "cursor"}
#: Those of the counts.
COUNTED = frozenset({"tenant", "since", "until", "bucket"})
#: Buckets of one answer at most, and seconds that one is for unless the client says otherwise.
_MAX_BUCKETS, _BUCKET_S = 1000, 3600
_MAX_TEXT = 200
#: Seconds since the epoch; eight digits are a date.
_SECONDS = re.compile(r"(?![0-9]{8}\Z)[0-9]{1,11}(?:\.[0-9]{1,9})?")
_NO_HISTORY = "there is no history here: CRUCIBLE_HISTORY_URL is not set"


class EvaluationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of evaluations.

    Attributes:
        items: newest first; without output, which only results have.
        next_cursor: `cursor` of the next page; null where this is the last.
    """

    items: list[Evaluation]
    next_cursor: str | None


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluations that were accepted in a span of time.

    Attributes:
        at: when it begins.
        total: all of them.
        status: by status.
        verdict: by verdict, as far as they have ended.
    """

    at: str
    total: int
    status: dict[str, int]
    verdict: dict[str, int]


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts for charts.

    Attributes:
        tenant: whose evaluations.
        since: accepted then or later.
        until: accepted before.
        bucket_s: seconds of one bucket.
        total: all of them.
        status: by status.
        verdict: by verdict, as far as they have ended.
        buckets: the oldest first; empty ones are left out.
    """

    tenant: str
    since: str
    until: str
    bucket_s: int
    total: int
    status: dict[str, int]
    verdict: dict[str, int]
    buckets: list[Bucket]


async def list_(request: web.Request) -> web.Response:
    """``GET /api/eval``: evaluations that fit, newest first."""
    history = request.app.get(HISTORY)
    if history is None:
        return no_history()
    filters = filters_of(request)
    limit = limit_of(request, PAGE, LARGEST_PAGE)
    rows, cursor = await history.page(filters, limit, request.query.get("cursor"))
    return json_answer(EvaluationPage(items=list(map(past_evaluation, rows)), next_cursor=cursor))


async def stats(request: web.Request) -> web.Response:
    """``GET /api/v1/stats``: how many were accepted, by status, verdict and bucket of time."""
    history = request.app.get(HISTORY)
    if history is None:
        return no_history()
    bucket_s = _bucket_of(request)
    until_ms = _time_of(request, "until")
    if until_ms is None:
        until_ms = (int(time.time()) // bucket_s + 1) * bucket_s * 1000
    since_ms = _time_of(request, "since")
    if since_ms is None:
        since_ms = until_ms - max(86_400, bucket_s) * 1000
    if not 0 <= until_ms - since_ms <= _MAX_BUCKETS * bucket_s * 1000:
        raise ParameterError("since", f"must be before until, by {_MAX_BUCKETS} buckets at most")
    return json_answer(await _stats(history, _tenant_of(request), since_ms, until_ms, bucket_s))


async def _stats(
    history: HistoryReader, tenant: str, since_ms: int, until_ms: int, bucket_s: int
) -> Stats:
    counts: dict[int, tuple[Counter[str], Counter[str]]] = {}
    for row in await history.counts(tenant, since_ms, until_ms, bucket_s * 1000):
        statuses, verdicts = counts.setdefault(row["at"], (Counter(), Counter()))
        statuses[row["status"]] += row["count"]
        if row["verdict"] is not None:
            verdicts[row["verdict"]] += row["count"]
    buckets = [
        Bucket(at=text_time(at), total=statuses.total(), status=statuses, verdict=verdicts)
        for at, (statuses, verdicts) in sorted(counts.items())
    ]
    status: Counter[str] = sum((Counter(one.status) for one in buckets), Counter())
    verdict: Counter[str] = sum((Counter(one.verdict) for one in buckets), Counter())
    return Stats(
        tenant=tenant,
        since=text_time(since_ms),
        until=text_time(until_ms),
        bucket_s=bucket_s,
        total=status.total(),
        status=status,
        verdict=verdict,
        buckets=buckets,
    )


def no_history() -> web.Response:
    """The answer where there is no history; no client can do anything about it, so not "busy"."""
    return problem(503, "No history", _NO_HISTORY, setting="CRUCIBLE_HISTORY_URL")


async def past(request: web.Request, eval_id: str) -> Evaluation | None:
    """An evaluation of the caller whose result is gone; None where the history has none.

    Raises:
        HistoryError: it cannot be asked.
    """
    history = request.app.get(HISTORY)
    if history is None:
        return None
    row = await history.one(caller_of(request).tenant, eval_id)
    return None if row is None else past_evaluation(row)


def filters_of(request: web.Request) -> Filters:
    """Which evaluations a list, or a cancellation of many, is about.

    Raises:
        ParameterError: a filter cannot be used.
        Forbidden: they are another tenant's, and the caller is no admin.
    """
    query = request.query
    return Filters(
        tenant=_tenant_of(request),
        status=_any_of(request, "status", [one.value for one in Status]),
        verdict=_any_of(request, "verdict", [one.value for one in Verdict]),
        language=_text_of(request, "language"),
        queue=_text_of(request, "queue"),
        since_ms=_time_of(request, "since"),
        until_ms=_time_of(request, "until"),
        metadata=tuple(
            sorted(
                (name.removeprefix(METADATA), _text_of(request, name) or "")
                for name in query
                if name.startswith(METADATA)
            )
        ),
        q=_text_of(request, "q"),
    )


def _tenant_of(request: web.Request) -> str:
    """Whose evaluations are asked for: the caller's, and for admins anybody's."""
    caller, asked = caller_of(request), _text_of(request, "tenant")
    if asked is None or asked == caller.tenant:
        return caller.tenant
    if "admin" not in caller.scopes:
        raise Forbidden("admin")
    return asked


def _any_of(request: web.Request, name: str, known: list[str]) -> tuple[str, ...]:
    text = request.query.get(name)
    if text is None:
        return ()
    asked = dict.fromkeys(text.split(","))
    if not asked.keys() <= set(known):
        raise ParameterError(name, f"must be of {', '.join(known)}")
    return tuple(asked)


def _text_of(request: web.Request, name: str) -> str | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not 0 < len(text) <= _MAX_TEXT or "\0" in text:
        raise ParameterError(name[:_MAX_TEXT], f"must have 1 to {_MAX_TEXT} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ParameterError(name[:_MAX_TEXT], "is not UTF-8") from None
    return text


def _time_of(request: web.Request, name: str) -> int | None:
    """A time, milliseconds since the epoch: ISO 8601 (UTC without an offset), or seconds."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        if _SECONDS.fullmatch(text):
            return round(float(text) * 1000)
        # A + in a query is a space, which stands before the offset then.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ParameterError(name, "must be a time such as 2026-01-31T12:00:00Z") from None


def _bucket_of(request: web.Request) -> int:
    text: Any = request.query.get("bucket", str(_BUCKET_S))
    if not (
        text.isascii() and text.isdecimal() and len(text) < 9 and 60 <= int(text) <= 31_536_000
    ):
        raise ParameterError("bucket", "must be whole seconds, from a minute to a year")
    return int(text)
