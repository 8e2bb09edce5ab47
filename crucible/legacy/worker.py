"""The legacy worker: polls for one program at a time and never retries.

As the original: no lease, no heartbeat, no retry. A worker killed in the middle of a program leaves
its task ``running`` for ever, and a result that cannot be sent is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from crucible.errors import ExecutorError, LegacyError, LegacyUnavailable
from crucible.legacy.client import LegacyClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from crucible.breaker import Circuit
    from crucible.legacy.wire import TakenTask
    from crucible.models import Outcome, Program

log = logging.getLogger(__name__)

#: Seconds between two polls while there is no task.
POLL_S = 0.1
#: Seconds between two polls while the queue service does not answer.
AWAY_S = 1.0


async def work(
    queue_url: str,
    run: Callable[[Program], Awaitable[Outcome]],
    stop: asyncio.Event,
    *,
    name: str = "",
    token: str = "",
    poll_s: float = POLL_S,
    circuits: Callable[[], Mapping[str, Circuit]] = dict,
) -> None:
    """Take tasks and run them, one after the other, until ``stop`` is set.

    A program that runs when ``stop`` is set runs to its end, and its result is sent.

    Args:
        queue_url: base URL of the legacy queue service.
        run: runs one program; an ``ExecutorError`` from it fails the task.
        stop: ends the worker.
        name: what the queue calls this worker; host name and pid by default.
        token: bearer token of the queue service, where it wants one.
        poll_s: seconds between two polls while there is no task.
        circuits: the circuit breakers of what ``run`` calls; sent with each poll.

    Raises:
        SettingsError: ``queue_url`` is not an HTTP URL.
    """
    name = name or f"legacy@{socket.gethostname()}-{os.getpid()}"
    away = False
    async with LegacyClient(queue_url, token=token) as client:
        log.info("legacy worker %s polls %s", name, queue_url)
        while not stop.is_set():
            try:
                task = await client.take(name, circuits())
            except LegacyError as error:
                if not away:
                    log.warning("the legacy queue does not answer, polling on: %s", error)
                away = True
                await _pause(stop, AWAY_S)
                continue
            away = False
            if task is None:
                await _pause(stop, poll_s)
            else:
                await _serve(client, task, run)


async def _serve(
    client: LegacyClient, task: TakenTask, run: Callable[[Program], Awaitable[Outcome]]
) -> None:
    """Run one task and send its result, once."""
    try:
        try:
            outcome = await run(task.program)
        except ExecutorError as error:
            log.warning("task %s could not be run: %s", task.id, error)
            await client.fail(task.id, f"{type(error).__name__}: {error}")
        except Exception as error:  # supervision: one broken task must not end the worker
            log.exception("running task %s failed", task.id)
            await client.fail(task.id, f"internal error: {type(error).__name__}")
        else:
            await client.finish(task.id, outcome)
    except LegacyUnavailable as error:
        log.error("the result of task %s could not be sent and is lost: %s", task.id, error)
    except LegacyError as error:
        log.error("the queue refused the result of task %s: %s", task.id, error)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until ``stop`` is set."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
