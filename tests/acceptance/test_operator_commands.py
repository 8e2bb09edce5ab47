from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.worker_rig import START_S, crucible

from crucible.broker import Publisher
from crucible.errors import TaskFailed, TaskRevoked
from crucible.worker import TaskRegistry
from crucible.worker.worker import Worker


async def run(*arguments: str, code: int = 0, **environment: str) -> str:
    """What a ``crucible`` command printed; it must end with ``code`` and without a traceback."""
    async with crucible(arguments, COLUMNS="200", **environment) as command:
        assert await command.wait(START_S) == code, command.log
        assert "Traceback" not in command.log
        return command.log


async def run_json(*arguments: str, code: int = 0, **environment: str) -> Any:
    """The same, as data."""
    return json.loads(await run(*arguments, code=code, **environment))


async def test_queues_shows_what_waits(redis_url: str) -> None:
    """Waiting messages by queue and step, for people and as JSON."""
    async with Publisher.connect(redis_url) as publisher:
        for priority in (0, 4, 9):
            await publisher.send_task("t", queue="batch", priority=priority)
    found = await run_json("queues", "--json", "--queue-url", redis_url)
    batch = next(queue for queue in found["queues"] if queue["name"] == "batch")
    assert (batch["waiting"], batch["by_step"]) == (3, {"0": 1, "3": 1, "6": 0, "9": 1})
    assert re.search(r"batch +3 ", await run("queues", "--queue-url", redis_url))


async def test_purging_a_queue_tells_whoever_waits(redis_url: str, redis: Redis) -> None:
    """Dropped tasks are stored as revoked; other queues keep theirs."""
    async with Publisher.connect(redis_url) as publisher:
        sent = [await publisher.send_task("t", queue="batch", priority=n) for n in (0, 9)]
        await publisher.send_task("t", queue="evaluation")
        await redis.lpush("batch", b"garbage")
        answer = await run_json("purge", "batch", "--yes", "--json", "--queue-url", redis_url)
        assert answer == {"queue": "batch", "dropped": 3}
        for handle in sent:
            with pytest.raises(TaskRevoked):
                await handle.get(timeout=60)
    assert await redis.llen("evaluation") == 1
    assert await run("purge", "batch", "--queue-url", redis_url, code=1)


async def test_a_dead_letter_is_listed_shown_replayed_and_purged(
    redis_url: str, redis: Redis
) -> None:
    """A task nobody knew is kept; once somebody knows it, replaying it gives its result."""
    registry = TaskRegistry()

    @registry.task("known")
    async def known(ctx: Any) -> str:
        return "done"

    async with Publisher.connect(redis_url) as publisher:
        async with Worker(TaskRegistry(), broker_url=redis_url, queues=["celery"]):
            handle = await publisher.send_task("known")
            with pytest.raises(Exception, match="NotRegistered"):
                await handle.get(timeout=60)
            await redis.lpush("celery", b"\xffgarbage")
            garbage = await publisher.send_task("unknown")
            with pytest.raises(Exception, match="NotRegistered"):
                await garbage.get(timeout=60)
        letters = await run_json("dlq", "list", "--json", "--queue-url", redis_url)
        assert [letter["reason"] for letter in letters] == [
            "unregistered",
            "unreadable",
            "unregistered",
        ]
        first = letters[-1]
        assert (first["task"], first["task_id"]) == ("known", handle.id)
        shown = await run_json("dlq", "show", first["id"], "--json", "--queue-url", redis_url)
        assert shown == await run_json("dlq", "show", first["id"], "--queue-url", redis_url)
        assert shown["message"]["headers"]["id"] == handle.id
        assert "known" in await run("dlq", "list", "--queue-url", redis_url)

        async with Worker(registry, broker_url=redis_url, queues=["celery"]):
            replayed = await run_json(
                *("dlq", "replay", "x", first["id"], "--json", "--queue-url", redis_url), code=1
            )
            refused = {"x": "there is no such dead letter"}
            assert replayed == {"replayed": [first["id"]], "refused": refused}
            assert await handle.get(timeout=60) == "done"
    gone = await run("dlq", "replay", first["id"], "--queue-url", redis_url, code=1)
    assert "there is no such dead letter" in gone
    purge = ("dlq", "purge", "--yes", "--json", "--queue-url", redis_url)
    none = await run_json(*purge, "x", "1-1", code=1)
    assert none == {"deleted": 0, "refused": dict.fromkeys(("x", "1-1"), refused["x"])}
    some = await run_json(*purge, "x", letters[0]["id"], code=1)
    assert some == {"deleted": 1, "refused": refused}
    assert await run_json(*purge) == {"deleted": 1, "refused": {}}
    assert "no dead letters" in await run("dlq", "list", "--queue-url", redis_url)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["dlq", "show", "1-1"], 1, "no dead letter"),
        (["dlq", "show", "x"], 1, "no dead letter has the id 'x'"),
        (["dlq", "replay"], 2, "--all"),
        (["purge", "", "--yes"], 2, "must not be empty"),
        (["migration", "set", "--reason", "none"], 2, "give a switch"),
        (["worker", "--name", "a@b@c d"], 2, "NAME@HOST"),
        (["worker", "--name", "a@%x"], 2, "stands for nothing"),
        (["worker", "--tasks", ""], 1, "--tasks"),
        (["queues", "--queue-url", "amqp://x"], 1, "CELERY_BROKER_URL"),
        (
            ["queues", "--queue-url", "redis://127.0.0.1:1/0"],
            1,
            "the queue server is not available",
        ),
        (["submit", "/nonexistent.py"], 1, "cannot read"),
        (["submit", "README.md"], 2, "--language"),
        (["status", "x", "--url", "http://127.0.0.1:1"], 1, "does not answer"),
        (["worker", "--tasks", "nosuch:registry"], 1, "--tasks"),
        (["worker", "--tasks", "json:dumps"], 1, "--tasks"),
        (["nosuch"], 2, "No such command"),
    ],
)
async def test_a_user_s_mistake_is_one_clear_line(
    redis_url: str, arguments: list[str], code: int, said: str
) -> None:
    """Exit code 1 for what cannot be done, 2 for a wrong command line, never a traceback."""
    environment = {} if "--queue-url" in arguments else {"CELERY_BROKER_URL": redis_url}
    assert said in await run(*arguments, code=code, **environment)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("registry = (", "SyntaxError"),
        ("\nraise RuntimeError('no licence')", "RuntimeError: no licence .*synt.py, line 2"),
        ("import nosuch", "No module named 'nosuch' .*synt.py, line 1"),
        ("other = 1", "has no attribute 'registry'$"),
    ],
)
async def test_a_task_module_that_cannot_be_imported_is_one_clear_line(
    tmp_path: Path, source: str, said: str
) -> None:
    """What it raised and where, without a traceback."""
    (tmp_path / "synt.py").write_text(source)
    printed = await run("worker", "--tasks", "synt:registry", code=1, PYTHONPATH=str(tmp_path))
    assert printed.startswith("crucible: --tasks: 'synt:registry': ")
    assert re.search(said, printed)


async def test_settings_print_what_is_in_force_and_no_secret() -> None:
    """The effective values, the password masked."""
    url = "redis://user:hunter2@127.0.0.1:1/0"
    found = await run_json("settings", "--json", CELERY_BROKER_URL=url, CRUCIBLE_PORT="8123")
    assert found["CRUCIBLE_PORT"] == 8123
    assert found["CELERY_BROKER_URL"] == "redis://user:***@127.0.0.1:1/0"
    assert "hunter2" not in await run("settings", CELERY_BROKER_URL=url)


async def test_an_evaluation_the_platform_cannot_run_is_kept_with_reason_and_attempts(
    redis_url: str,
) -> None:
    """A failure for good is told to the client, and its message is a dead letter."""
    registry = TaskRegistry()
    tries: list[int] = []

    @registry.task("frail", max_retries=2, keep_failed=True)
    async def frail(ctx: Any) -> None:
        tries.append(ctx.retries)
        raise ctx.retry(countdown=0.01, exc=OSError("engine gone"))

    async with (
        Worker(registry, broker_url=redis_url, queues=["celery"]),
        Publisher.connect(redis_url) as publisher,
    ):
        handle = await publisher.send_task("frail")
        with pytest.raises(TaskFailed, match="engine gone"):
            await handle.get(timeout=60)
    assert tries == [0, 1, 2]
    [letter] = await run_json("dlq", "list", "--json", "--queue-url", redis_url)
    assert (letter["reason"], letter["attempts"]) == ("failed", 3)
    assert "engine gone" in letter["detail"]
    assert letter["message"]["headers"]["id"] == handle.id
