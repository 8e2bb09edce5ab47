"""Looks at the servers of queues and results: whether they can carry them as they are set up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.requirements import Finding, Weight, judge, read_facts
from crucible.doctor.check import Check, failed, warned
from crucible.doctor.machine import ANSWER_S, check_redis
from crucible.errors import BrokerError
from crucible.redis_keys import Keys
from crucible.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


async def check_queue_server(settings: Settings) -> list[Check]:
    """Whether it answers, and what is not as it should be."""
    url = settings.celery_broker_url
    answers = await check_redis("task queue", "celery_broker_url", url)
    if not answers.ok or (url == Settings().celery_broker_url and not settings.replicas):
        return [answers]
    name = "Task queue server set-up"
    return [answers, *await _examine(name, url, settings, replicas=settings.replicas)]


async def check_result_server(settings: Settings) -> list[Check]:
    """The same of a result server of its own, but for rights: it needs fewer; empty without one."""
    url = settings.celery_result_backend
    if not url or url == settings.celery_broker_url:
        return []
    answers = await check_redis("result", "celery_result_backend", url)
    if not answers.ok:
        return [answers]
    return [answers, *await _examine("Result server set-up", url, settings, rights=False)]


async def _examine(
    name: str, url: str, settings: Settings, *, rights: bool = True, replicas: int = 0
) -> list[Check]:
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            open_client(url, command_timeout_s=ANSWER_S, name="doctor") as client,
        ):
            facts = await read_facts(
                client,
                Keys(settings.global_keyprefix, settings.result_prefix),
                scripting=settings.claim == "atomic",
                replicas=replicas,
            )
    except (BrokerError, TimeoutError) as error:
        return [failed(name, f"cannot be examined: {error}", "see the server's log")]
    return _checks(name, [one for one in judge(facts) if rights or one.weight is not Weight.RIGHTS])


def _checks(name: str, findings: Sequence[Finding]) -> list[Check]:
    return [
        (warned if finding.weight is Weight.DOUBT else failed)(name, finding.detail, finding.remedy)
        for finding in findings
    ]
