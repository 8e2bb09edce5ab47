"""``crucible doctor --live``, which the health checks of containers ask."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.patience import PATIENCE_S
from support.worker_rig import async_worker, crucible

from crucible.breaker import BreakerPolicy
from crucible.doctor.check import Severity
from crucible.doctor.live import Process, check_live
from crucible.embedded.server import free_port
from crucible.history.historian import open_historian
from crucible.history.own import own_url, prepare_own
from crucible.redis_keys import Keys
from crucible.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


async def checked(*arguments: str, **environment: str) -> tuple[int | None, list[dict[str, Any]]]:
    """The exit code and the checks that the command prints."""
    async with crucible(["doctor", "--json", *arguments], **environment) as command:
        await command.wait(PATIENCE_S)
        return command.returncode, json.loads(command.log)


async def test_an_api_is_alive_while_it_answers(redis_url: str) -> None:
    """And is said to be dead where nothing listens."""
    port = str(free_port())
    environment = {"CELERY_BROKER_URL": redis_url, "CRUCIBLE_EVENT_BUS_URL": "off"}
    code, checks = await checked("--live", "api", CRUCIBLE_PORT=port)
    assert (code, checks[0]["severity"]) == (1, "fail")
    assert "crucible api" in checks[0]["remedy"]
    async with crucible(["api", "--port", port], **environment) as api:
        await api.wait_for_log("listening on", PATIENCE_S)
        code, checks = await checked("--live", "api", CRUCIBLE_PORT=port)
        assert (code, checks[0]["severity"]) == (0, "ok")


async def test_a_worker_is_alive_while_its_heartbeat_is(redis_url: str) -> None:
    """None of another machine counts."""
    settings = Settings(celery_broker_url=redis_url)
    assert (await check_live(settings, Process.WORKER)).severity is Severity.FAIL
    tasks = ("--tasks", "support.worker_tasks:registry")
    async with async_worker(
        redis_url, *tasks, "--name", "other@elsewhere", PYTHONPATH="tests"
    ) as other:
        await other.wait_for_log("ready", PATIENCE_S)
        assert (await check_live(settings, Process.WORKER)).severity is Severity.FAIL
        async with async_worker(redis_url, *tasks, PYTHONPATH="tests") as worker:
            await worker.wait_for_log("ready", PATIENCE_S)
            assert (await check_live(settings, Process.WORKER)).severity is Severity.OK


async def test_a_historian_is_alive_while_it_reports(redis_url: str, tmp_path: Path) -> None:
    """Its report leaves with it."""
    settings = Settings(event_bus_url=redis_url)
    assert (await check_live(settings, Process.HISTORIAN)).severity is Severity.FAIL
    url = own_url(tmp_path)
    await prepare_own(url)
    policy = BreakerPolicy(failures=2, open_s=0.2)
    async with (
        open_historian(url, redis_url, Keys(), count=10, policy=policy),
        asyncio.timeout(PATIENCE_S),
    ):
        while (await check_live(settings, Process.HISTORIAN)).severity is not Severity.OK:
            await asyncio.sleep(0.05)
    assert (await check_live(settings, Process.HISTORIAN)).severity is Severity.FAIL


@pytest.mark.parametrize("process", [Process.WORKER, Process.HISTORIAN])
async def test_a_server_that_is_away_makes_nobody_restart(process: Process) -> None:
    """A process waits for it, and goes on when it is back."""
    away = f"redis://127.0.0.1:{free_port()}/0"
    found = await check_live(Settings(celery_broker_url=away, event_bus_url=away), process)
    assert found.severity is Severity.OK
    assert "does not answer" in found.detail


async def test_a_process_that_there_is_not_is_named() -> None:
    """With those there are."""
    async with crucible(["doctor", "--live", "door"]) as command:
        await command.wait(PATIENCE_S)
        assert command.returncode == 2
        assert "must be one of" in command.log
