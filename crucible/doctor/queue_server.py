"""Looks at the task queue server: whether it can carry the queue, and should as it is set up."""

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

_NAME = "Task queue server set-up"


async def check_queue_server(settings: Settings) -> list[Check]:
    """Whether it answers, and what is not as it should be."""
    url = settings.celery_broker_url
    answers = await check_redis("task queue", "celery_broker_url", url)
    if not answers.ok or url == Settings().celery_broker_url:
        return [answers]
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            open_client(url, command_timeout_s=ANSWER_S, name="doctor") as client,
        ):
            facts = await read_facts(
                client,
                Keys(settings.global_keyprefix, settings.result_prefix),
                scripting=settings.claim == "atomic",
            )
    except (BrokerError, TimeoutError) as error:
        return [answers, failed(_NAME, f"cannot be examined: {error}", "see the server's log")]
    return [answers, *_checks(judge(facts))]


def _checks(findings: Sequence[Finding]) -> list[Check]:
    return [
        (warned if finding.weight is Weight.DOUBT else failed)(
            _NAME, finding.detail, finding.remedy
        )
        for finding in findings
    ]
