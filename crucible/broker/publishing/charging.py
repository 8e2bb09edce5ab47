"""Charging a quota for what another queue system than Celery's takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from crucible.broker.publishing.group_commit import PublishResult
from crucible.broker.publishing.quota_arguments import QuotaArguments, exceeded
from crucible.broker.redis.scripts import script
from crucible.broker.redis.translation import translate

if TYPE_CHECKING:
    from crucible.broker.publishing.group_commit import IdempotencyRecord
    from crucible.broker.publishing.quota import Quota
    from crucible.broker.redis.link import Argument
    from crucible.broker.redis.scripts import Execute


async def charge(execute: Execute, record: IdempotencyRecord, quota: Quota) -> PublishResult:
    """Keep a record and charge a quota for it in one step, as a publication does.

    Args:
        execute: sends one command, such as ``Redis.execute_command``.
        record: nothing is charged where it is there already.
        quota: has to allow it.

    Returns:
        The result of a publication of which nothing is pushed: ``pushed`` is 1 where the record
        is new.

    Raises:
        redis.exceptions.RedisError: callers translate.
    """
    named: dict[str, int] = {}
    quotas = QuotaArguments([quota])
    args: list[Argument] = quotas.arguments(lambda key: named.setdefault(key, len(named) + 1))
    run = (0, 0, record.ttl_ms, 1, quotas.number_of(quota), record.value, b"")
    results, _, levels, counts = await script("publish").run(
        execute,
        [*named, record.key],
        [len(named), 0, *quotas.counts, *args, *run],
    )
    [result], state = results, quotas.states(levels, counts)[quota]
    if result == 1:
        return PublishResult(1, quota=state)
    mark, text = result[:1], result[1:]
    if mark == b"=":
        return PublishResult(existing=text, quota=state)
    if mark == b"~":
        return PublishResult(error=exceeded(state, in_flight=text == b"in flight"), quota=state)
    return PublishResult(error=translate(ResponseError(text.decode())))
