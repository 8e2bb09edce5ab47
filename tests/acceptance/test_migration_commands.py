"""The migration's commands as an operator types them, on real processes."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from support.api_rig import running_api
from support.listening import listening
from support.migration_rig import LegacyInstallation, LocalExecutor, both_sides, completed, submit
from support.worker_rig import crucible

from crucible.embedded.server import free_port
from crucible.models import Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.models import Outcome


async def command(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """A command's exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", *arguments),
        env={"PATH": "/usr/bin:/bin", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def environment_of(redis_url: str, legacy_url: str) -> dict[str, str]:
    """What the commands are told."""
    return {"CELERY_BROKER_URL": redis_url, "QUEUE_SERVICE_URL": legacy_url}


@asynccontextmanager
async def legacy_queue() -> AsyncIterator[tuple[str, Any]]:
    """``crucible legacy queue`` as a process, and its URL."""
    port = free_port()
    async with crucible(["legacy", "queue", "--port", str(port)]) as process:
        await process.wait_for_log("legacy queue listening")
        yield f"http://127.0.0.1:{port}", process


async def test_every_step_of_a_migration_from_the_command_line(redis_url: str) -> None:
    """set, status, rollback, recover, drain and verify do what they say, and say it."""
    async with both_sides(redis_url, celery_percentage=0.0) as (client, legacy):
        environment = environment_of(redis_url, legacy.url)
        code, out = await command(
            environment, "migration", "set", "--percentage", "0.25", "--reason", "a quarter"
        )
        assert (code, out.strip()) == (0, "split (change 1)")
        code, out = await command(environment, "migration", "status", "--json")
        found = json.loads(out)
        assert (found["mode"], found["switches"]["reason"]) == ("split", "a quarter")
        code, out = await command(environment, "migration", "set", "--percentage", "1.5")
        assert (code, out.startswith("crucible: CELERY_PERCENTAGE")) == (1, True)
        code, out = await command(environment, "migration", "rollback")
        assert (code, out.strip()) == (0, "legacy_only (change 2)")
        ids = [(await submit(client, f"print({n})"))["eval_id"] for n in range(5)]
        code, out = await command(environment, "migration", "drain", "--timeout", "30")
        assert code == 0, out
        assert (await submit(client, "print(1)"))["queue_system"] == "celery"
        assert {(await completed(client, i))["queue_system"] for i in ids} == {"legacy"}
        code, out = await command(environment, "migration", "verify")
        assert code == 0, out
        assert "every accepted evaluation is finished or queued" in out


async def test_a_killed_queue_process_is_verified_and_repaired(redis_url: str) -> None:
    """SIGKILL with tasks inside: verify exits with 1 and lists them, --repair brings them back."""
    async with AsyncExitStack() as stack:
        url, process = await stack.enter_async_context(legacy_queue())
        client = await stack.enter_async_context(
            running_api(redis_url, queue_service_url=url, celery_percentage=0.0)
        )
        ids = [(await submit(client, f"print({n})"))["eval_id"] for n in range(3)]
        process.send_signal(signal.SIGKILL)
        await process.wait()
        environment = environment_of(redis_url, url)
        code, out = await command(environment, "migration", "verify")
        assert (code, out.count("unknown")) == (1, 4)
        port = url.rpartition(":")[2]
        await stack.enter_async_context(again := crucible(["legacy", "queue", "--port", port]))
        await again.wait_for_log("legacy queue listening")
        await command(environment, "migration", "set", "--celery-percentage", "0")
        code, out = await command(environment, "migration", "verify", "--json")
        assert code == 1
        assert sorted(one["eval_id"] for one in json.loads(out)["missing"]) == sorted(ids)
        code, out = await command(environment, "migration", "verify", "--repair", "--json")
        assert (code, json.loads(out)["proved"]) == (0, True), out
        assert sorted(json.loads(out)["repaired"]["to_legacy"]) == sorted(ids)


async def test_a_rollback_without_redis_goes_through_the_api(redis_url: str) -> None:
    """The task queue server is away: the one command still turns everything to legacy."""
    async with LegacyInstallation(LocalExecutor(), 1) as legacy:
        dead = f"redis://127.0.0.1:{free_port()}/0"
        async with running_api(dead, queue_service_url=legacy.url) as client:
            base = str(client._base_url).rstrip("/")
            environment = {
                **environment_of(dead, legacy.url),
                "CRUCIBLE_PORT": base.rpartition(":")[2],
            }
            code, out = await command(environment, "migration", "rollback")
            assert code == 0, out
            assert (await submit(client, "print(1)"))["queue_system"] == "legacy"


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        ({}, ""),
        ({"stdout": b"out"}, "output"),
        ({"exit_code": 7}, "exit_code"),
        ({"stdout": b"err\n", "stderr": b"out\n"}, "error"),
    ],
    ids=["right", "drops-the-last-byte", "changes-the-exit-code", "swaps-stderr"],
)
async def test_compare_catches_a_wrong_executor(
    redis_url: str, tmp_path: Path, spoil: dict[str, Any], field: str
) -> None:
    """Exit code 1, the field in JSON and on the page; 0 where both sides are right."""

    def spoiled(outcome: Outcome) -> Outcome:
        return msgspec.structs.replace(outcome, **spoil)

    program = "import sys; print('out'); print('err', file=sys.stderr)"
    (tmp_path / "one.py").write_text(program)
    requests = tmp_path / "requests.ndjson"
    clock = "import time; print(time.time_ns())"
    requests.write_text("\n".join(json.dumps({"code": code}) for code in (program, clock)))
    wrong = LocalExecutor(spoiled)
    async with both_sides(redis_url, celery_executor=wrong) as (_, legacy):
        environment = environment_of(redis_url, legacy.url)
        page = tmp_path / "page.html"
        code, out = await command(
            environment, "compare", "--corpus", str(tmp_path), "--json", "--html", str(page)
        )
        report = json.loads(out)
        assert (code, report["counts"]["mismatch"]) == ((1, 1) if field else (0, 0))
        found = [one["field"] for one in report["programs"][0]["differences"]]
        assert field in found if field else found == []
        assert ("mismatch</td>" in page.read_text()) == bool(field)
        if not field:
            code, out = await command(environment, "compare", "--file", str(requests), "--json")
            counts = json.loads(out)["counts"]
            assert (code, counts["equal"], counts["nondeterministic"]) == (0, 1, 1)
        # Runs on purpose have no records; a client's task that is named alike should have one.
        legacy.queue.submit("compare-me-0", Program(language="python", code="print(1)"))
        code, out = await command(environment, "migration", "verify", "--json")
        assert (code, json.loads(out)["unrecorded"]) == (0, 1), out


@pytest.mark.docker
async def test_the_guide_starts_both_worlds(redis_url: str) -> None:
    """The commands of its first section, as they stand but for the ports."""
    guide = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
    block = re.search(r"^## Start$.*?^```\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert block is not None
    text = block[1]
    for port in ("8002", "8003"):
        text = text.replace(port, str(free_port()))
    lines = [shlex.split(line) for line in text.splitlines()]
    commands = [
        (line[line.index("crucible") + 1 :], dict(v.split("=", 1) for v in line if "=" in v))
        for line in lines
    ]
    assert [arguments[:2] for arguments, _ in commands] == [
        ["legacy", "queue"], ["executor", "--port"], ["legacy", "worker"], ["up"],
    ]  # fmt: skip
    # Of all that ``up`` starts, the api is what concerns the legacy queue.
    flags = ["--port", "0", "--celery-broker-url", redis_url, "--event-bus-url", redis_url]
    commands[-1] = (["api", *flags], commands[-1][1])
    async with AsyncExitStack() as stack:
        for arguments, environment in commands:
            process = await stack.enter_async_context(crucible(arguments, **environment))
            if arguments[:2] != ["legacy", "worker"]:
                line = await process.wait_for_log("listening on http://")
        assert "mode legacy_only by the settings" in process.log
        client = await stack.enter_async_context(aiohttp.ClientSession(line.split()[-1]))
        eval_id = (await submit(client, "print(6 * 7)"))["eval_id"]
        ended = await completed(client, eval_id)
    assert (ended["queue_system"], ended["output"]) == ("legacy", "42\n")


async def test_compare_takes_a_sample_of_live_traffic(redis_url: str) -> None:
    """What clients submitted a moment ago is run both ways again."""
    async with both_sides(redis_url, celery_percentage=0.5) as (client, legacy):
        for n in range(4):
            await completed(client, (await submit(client, f"print({n})"))["eval_id"])
        environment = environment_of(redis_url, legacy.url)
        found: dict[str, int] = {}
        # The sample is written in the background, behind the answers; without one the command
        # has nothing to print in JSON.
        async with asyncio.timeout(60):
            while sum(found.values()) < 4:
                code, out = await command(environment, "compare", "--live", "50", "--json")
                found = json.loads(out)["counts"] if out.startswith("{") else {}
        assert (code, {name: n for name, n in found.items() if n}) == (0, {"equal": 4}), out


async def test_the_legacy_worker_command_runs_programs_of_an_executor_service(
    redis_url: str,
) -> None:
    """``crucible legacy queue`` and ``legacy worker`` together, and their usage errors."""
    from aiohttp import web

    executor = LocalExecutor()

    async def run(request: web.Request) -> web.Response:
        from crucible.models import Program

        program = msgspec.msgpack.decode(await request.read(), type=Program)
        outcome = await executor.run(program)
        return web.Response(
            body=msgspec.msgpack.encode(outcome), content_type="application/msgpack"
        )

    app = web.Application()
    app.router.add_post("/run", run)
    async with listening(app) as executor_url:
        async with legacy_queue() as (url, _):
            worker = [
                "legacy",
                "worker",
                "--queue-service-url",
                url,
                "--executor-url",
                executor_url,
            ]
            async with (
                crucible(worker) as process,
                running_api(redis_url, queue_service_url=url, celery_percentage=0.0) as client,
            ):
                ended = await completed(client, (await submit(client, "print(6*7)"))["eval_id"])
                assert (ended["output"], ended["queue_system"]) == ("42\n", "legacy")
                assert await process.stop() == 0
    code, out = await command({}, "legacy", "worker")
    assert (code, out.startswith("crucible: QUEUE_SERVICE_URL")) == (1, True)


async def test_the_service_commands_say_what_they_serve() -> None:
    """Health of the legacy queue answers as soon as the command says it listens."""
    async with legacy_queue() as (url, process):
        async with aiohttp.ClientSession() as session, session.get(f"{url}/health") as response:
            assert response.status == 200
        assert await process.stop() == 0
