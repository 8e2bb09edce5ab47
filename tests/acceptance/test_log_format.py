"""``CRUCIBLE_LOG_FORMAT``: the log for programs and for people, with the task it is about."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from support.worker_rig import START_S, async_worker

from crucible.broker import Publisher
from crucible.errors import TaskFailed

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import asyncio, logging
from crucible.worker import TaskRegistry

registry = TaskRegistry()

@registry.task("log.fail")
async def fail(ctx):
    logging.getLogger("mine").warning("before")
    await asyncio.sleep(0)
    raise ValueError("no good")
"""


async def _log(redis_url: str, tmp_path: Path, log_format: str, task_id: str) -> list[str]:
    (tmp_path / "logging_tasks.py").write_text(MODULE)
    worker = async_worker(
        redis_url, "--tasks", "logging_tasks", "--concurrency", "1",
        PYTHONPATH=str(tmp_path), CRUCIBLE_LOG_FORMAT=log_format,
    )  # fmt: skip
    async with worker, Publisher.connect(redis_url) as publisher:
        await worker.wait_for_log("is ready", START_S)
        sent = await publisher.send_task("log.fail", queue="celery", task_id=task_id)
        with pytest.raises(TaskFailed):
            await sent.get(START_S)
        await worker.wait_for_log("no good", START_S)
        return list(worker.lines)


async def test_json_is_an_object_a_line(redis_url: str, tmp_path: Path) -> None:
    """Records within a task have its fields, the task's own included; others have none."""
    records = [json.loads(line) for line in await _log(redis_url, tmp_path, "json", "eval-t1:e1")]
    expected = {"task_id": "eval-t1:e1", "eval_id": "e1", "tenant": "t1", "retry_count": 0}
    [own] = [one for one in records if one["logger"] == "mine"]
    assert (own["message"], own["level"]) == ("before", "warning")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", own["at"])
    assert expected.items() <= own.items()
    [failed] = [one for one in records if "ValueError: no good" in one["message"]]
    assert expected.items() <= failed.items()
    [ready] = [one for one in records if one["message"].endswith("is ready")]
    assert not expected.keys() & ready.keys()


async def test_lines_for_people_name_the_task(redis_url: str, tmp_path: Path) -> None:
    """Behind the logger's name; what is no evaluation has no tenant."""
    lines = await _log(redis_url, tmp_path, "human", "plain")
    assert any(re.search(r"mine \[task_id=plain retry_count=0\]: before$", line) for line in lines)
    assert any(re.search(r"crucible\.worker\.worker: \S+ is ready$", line) for line in lines)
