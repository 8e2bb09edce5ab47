"""The statements that read: each walks one index from where the last page ended.

A filter with an index decides which one is walked; others are compared row by row, in a form that
keeps the planner from walking theirs and sorting.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select, tuple_

from crucible.history.schema import evaluations, labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement, FromClause, Select

    from crucible.history.filters import Filters, Place

_RAW = evaluations.c
#: Filters by how few evaluations usually fit: the first one that is asked for is walked.
_BY_SELECTIVITY = ("verdict", "language", "queue", "status")


def page_queries(filters: Filters, after: Place | None, limit: int) -> Iterator[Select[Any]]:
    """Statements whose rows together, in order, have the page.

    There are several where one of several statuses or verdicts is asked for: each value has a place
    of its own in the index.

    Args:
        filters: what is asked for.
        after: where the page before ended.
        limit: rows.

    Raises:
        ParameterError: the filters cannot be used.
    """
    found = filters.labels()
    for status, verdict in product(filters.status or (None,), filters.verdict or (None,)):
        equal = {
            "verdict": verdict,
            "language": filters.language,
            "queue": filters.queue,
            "status": status,
        }
        yield _page(filters, equal, found, after, limit)


def _page(
    filters: Filters,
    equal: dict[str, str | None],
    found: list[tuple[str, str]],
    after: Place | None,
    limit: int,
) -> Select[Any]:
    asked = [name for name in _BY_SELECTIVITY if equal[name] is not None]
    if found:
        first, *others = found
        walked = labels.alias("walked")
        query = select(evaluations).join_from(
            walked,
            evaluations,
            and_(_RAW.tenant == walked.c.tenant, _RAW.eval_id == walked.c.eval_id),
        )
        query = query.where(walked.c.name == first[0], walked.c.value == first[1])
        query = query.where(*(_has(walked, name, value) for name, value in others))
        order: Any = walked.c
    else:
        query, order = select(evaluations), _RAW
        if asked:
            query = query.where(_RAW[asked[0]] == equal[asked.pop(0)])
    query = query.where(order.tenant == filters.tenant)
    query = query.where(*((_RAW[name] + "") == equal[name] for name in asked))
    if filters.since_ms is not None:
        query = query.where(order.created_ms >= filters.since_ms)
    # One upper bound: with two, a database may begin at the later one and read up to the other.
    if after is not None and (filters.until_ms is None or after.created_ms < filters.until_ms):
        query = query.where(tuple_(order.created_ms, order.eval_id) < tuple_(*after))
    elif filters.until_ms is not None:
        query = query.where(order.created_ms < filters.until_ms)
    return query.order_by(order.created_ms.desc(), order.eval_id.desc()).limit(limit)


def _has(walked: FromClause, name: str, value: str) -> ColumnElement[bool]:
    """Whether the evaluation of a label has another one too: one look-up by the whole key.

    As a value and not EXISTS, for which PostgreSQL would read all labels of this value beforehand.
    """
    other = labels.alias()
    wanted = (
        select(other.c.name)
        .where(
            other.c.tenant == walked.c.tenant,
            other.c.name == name,
            other.c.value == value,
            other.c.created_ms == walked.c.created_ms,
            other.c.eval_id == walked.c.eval_id,
        )
        .correlate(walked)
    )
    return wanted.scalar_subquery().is_not(None)


def one_query(tenant: str, eval_id: str) -> Select[Any]:
    """One evaluation."""
    return select(evaluations).where(_RAW.tenant == tenant, _RAW.eval_id == eval_id)


def counts_query(tenant: str, since_ms: int, until_ms: int, bucket_ms: int) -> Select[Any]:
    """How many evaluations were accepted, by bucket of time, status and verdict."""
    at = (_RAW.created_ms - _RAW.created_ms % bucket_ms).label("at")
    return (
        select(at, _RAW.status, _RAW.verdict, func.count().label("count"))
        .where(_RAW.tenant == tenant, _RAW.created_ms >= since_ms, _RAW.created_ms < until_ms)
        .group_by(at, _RAW.status, _RAW.verdict)
    )
