"""``crucible queues`` and ``crucible purge``: count waiting messages, and delete them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.settings import KNOWN_QUEUES, Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from crucible.broker.admin.census import Census
    from crucible.broker.admin.operator import Admin


def connected(settings: Settings) -> AbstractAsyncContextManager[Admin]:
    """An operator's connection to the task queue and result servers of ``settings``."""
    from crucible.broker.admin.operator import Admin

    return Admin.connect(
        settings.celery_broker_url,
        result_url=settings.result_url,
        global_keyprefix=settings.global_keyprefix,
        result_keyprefix=settings.result_prefix,
        result_ttl_s=settings.result_ttl_s,
        scripting=settings.claim == "atomic",
    )


@with_settings(Section.TASK_QUEUE, "queues")
def queues(settings: Settings, as_json: Json = False) -> None:
    """Print how many messages wait in each queue."""
    census = asyncio.run(_census(settings))
    if as_json:
        print_json(census)
        return
    table = Table("queue", "waiting", "by priority step", box=None, header_style="bold")
    for queue in census.queues:
        steps = "  ".join(f"{step}: {count}" for step, count in queue.by_step.items() if count)
        table.add_row(queue.name, str(queue.waiting), steps)
    table.add_row("claimed by workers", str(census.claimed), "")
    table.add_row("dead letters", str(census.dead_letters), "")
    Console().print(table)


async def _census(settings: Settings) -> Census:
    names = dict.fromkeys([*KNOWN_QUEUES, *settings.queues])
    async with connected(settings) as admin:
        return await admin.census(list(names))


@with_settings(Section.TASK_QUEUE)
def purge(
    settings: Settings,
    queue: Annotated[str, typer.Argument(help="Name of the queue.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete every message that waits in a queue; their results become REVOKED."""
    if not queue:
        raise typer.BadParameter("must not be empty", param_hint="QUEUE")
    if not yes:
        typer.confirm(f"Delete every message that waits in {queue}?", abort=True)
    dropped = asyncio.run(_purge(settings, queue))
    if as_json:
        print_json({"queue": queue, "dropped": dropped})
    else:
        typer.echo(f"{dropped} messages deleted from {queue}")


async def _purge(settings: Settings, queue: str) -> int:
    from crucible.evaluation.completion_store import counting_cancelled
    from crucible.evaluation.webhook_ends import pushes_of
    from crucible.redis_keys import Keys
    from crucible.webhooks.subscriptions import Subscriptions

    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    async with (
        connected(settings) as admin,
        Subscriptions().watching(settings.celery_broker_url, keys) as subscriptions,
        counting_cancelled(
            settings.celery_broker_url,
            keys,
            settings.result_ttl_s,
            settings.result_url,
            pushes_of(subscriptions, keys),
        ) as cancelled,
    ):
        return await admin.purge(queue, cancelled)
