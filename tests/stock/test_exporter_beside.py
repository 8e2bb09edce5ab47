"""celery-exporter from PyPI scrapes a fleet of both kinds of workers: its figures are ours."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest
from aiohttp import web
from stock_rig.child import Child
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.api_rig import running_api
from support.listening import executor_service
from support.migration_rig import completed, submit, until
from support.worker_rig import START_S, async_worker, plain_environment

from crucible.embedded.server import free_port
from crucible.models import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.stock

PYTHON = Path(__file__).resolve().parents[2] / ".cache/clients/celery_exporter/bin/python"
TASKS = 20
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self._samples = [match.groups() for match in map(_SAMPLE.match, text.splitlines()) if match]

    def __call__(self, name: str, **labels: str) -> float | None:
        """The sum of a metric over the samples with these labels; None where there is none."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        found = [
            float(value)
            for metric, text, value in self._samples
            if metric == name and wanted <= set((text or "").split(","))
        ]
        return sum(found) if found else None


async def scraped(url: str) -> Scraped:
    """One scrape."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/metrics") as response:
        assert response.status == 200, await response.text()
        return Scraped(await response.text())


@asynccontextmanager
async def exporter(broker_url: str) -> AsyncIterator[str]:
    """The exporter's URL; it knows the queues before a worker does."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(PYTHON), "-c", "from src.cli import cli; cli()"),
        *("--broker-url", broker_url, "-Q", "evaluation,high_priority"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    async with Child(command, plain_environment()) as child:
        await child.wait_for_log("Started celery-exporter", START_S)

        async def listens() -> bool:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return True
            return False

        await until(listens)  # its thread does so later
        yield url


@asynccontextmanager
async def executor() -> AsyncIterator[str]:
    """An executor service whose programs take a moment and do nothing."""

    async def run(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)  # so that neither worker is done with all of them alone
        body = msgspec.msgpack.encode(Outcome(verdict=Verdict.OK, exit_code=0))
        return web.Response(body=body, content_type="application/msgpack")

    async with executor_service(run) as url:
        yield url


async def test_its_figures_agree_with_ours(redis_url: str) -> None:
    """Tasks by worker, workers that live, and the length of the queue."""
    async with (
        executor() as executor_url,
        running_api(redis_url) as client,
        exporter(redis_url) as theirs,
    ):
        variables = {"CRUCIBLE_EXECUTOR_URLS": executor_url, "CRUCIBLE_EVENTS": "true"}
        ours = str(client._base_url).rstrip("/")
        named = ("--name", "crucible@async", "--concurrency", "1")
        stock = StockWorker(
            PROJECT,
            redis_url,
            queues=("evaluation",),
            node="celery@stock",
            app="crucible.celery_app",
            environment={"CELERY_BROKER_URL": redis_url, **variables},
        )
        async with async_worker(redis_url, *named, **variables) as worker, stock:
            await worker.wait_for_log("serves the queues", START_S)

            async def both_seen() -> bool:
                found = await scraped(theirs)
                return found("celery_active_worker_count", queue_name="evaluation") == 2

            await until(both_seen)
            ids = [(await submit(client, f"print({n})"))["eval_id"] for n in range(TASKS)]
            for eval_id in ids:
                await completed(client, eval_id)

            async def all_counted() -> bool:
                found, own = await scraped(theirs), await scraped(ours)
                return found("celery_task_succeeded_total") == TASKS == _completions(own)

            await until(all_counted)
            found, own = await scraped(theirs), await scraped(ours)
            by_host = {
                host: found("celery_task_succeeded_total", hostname=host)
                for host in ("async", "stock")
            }
            assert all(by_host.values()), by_host
            assert found("celery_task_received_total") == TASKS
            assert found("celery_task_runtime_count") == TASKS
            assert not found("celery_task_failed_total")
            for host, kind in (("async", "async"), ("stock", "stock")):
                assert found("celery_worker_up", hostname=host) == 1
                assert own("workers", kind=kind) == 1
        # Nobody takes these. It counts the first of the four lists of a queue, ours all of them.
        for n in range(3):
            await submit(client, f"print({n})", priority=9)
        found, own = await scraped(theirs), await scraped(ours)
        assert found("celery_queue_length", queue_name="high_priority") == 3
        assert own("celery_queue_length", queue="high_priority") == 3

        async def both_gone() -> bool:
            found, own = await scraped(theirs), await scraped(ours)
            counted = found("celery_active_worker_count", queue_name="evaluation")
            return counted == 0 and not own("workers")

        await until(both_gone)


def _completions(own: Scraped) -> float | None:
    return own("tasks_completed_total", queue_system="celery", status="completed")
