from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from stock_rig.child import Child
from support.worker_rig import START_S, crucible, plain_environment

from crucible.embedded.server import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

#: Becomes ``crucible`` with its arguments, both default ports of the embedded servers being held.
TAKEN_PORTS = """
import os, socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
held = [socket.create_server(("127.0.0.1", port)) for port in (6380, 6379)]
for server in held:
    server.set_inheritable(True)
os.execv(sys.executable, [sys.executable, "-m", "crucible", *sys.argv[1:]])
"""


def up(data_dir: Path, port: int, *more: str, **environment: str) -> Child:
    """``crucible up`` on a port and a data directory of the test's own."""
    arguments = ["up", "--data-dir", str(data_dir), "--port", str(port), *more]
    return crucible(arguments, **environment)


async def call(method: str, url: str, **arguments: Any) -> dict[str, Any]:
    """One request's JSON."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as client,
        client.request(method, url, **arguments) as response,
    ):
        answer: dict[str, Any] = await response.json(content_type=None)
        return answer


async def server_pids(child: Child) -> list[int]:
    """Ids of the processes below ``child``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rsplit(")", 1)[1].split()[1]) == child.pid:
                found.append(int(entry.name))
    return found


async def server_pid(child: Child, directory: Path) -> int:
    """Id of the embedded server whose data is in ``directory``, where it also works."""
    pids = await server_pids(child)
    (found,) = [pid for pid in pids if (Path(f"/proc/{pid}/cwd")).readlink() == directory]
    return found


async def test_one_command_serves_drains_and_finds_its_data_again(tmp_path: Path) -> None:
    """From nothing to a sample result; Ctrl-C lets a running program end; a second run knows it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/eval"
    async with up(tmp_path, port, "--sample") as first:
        await first.wait_for_log("stop +Ctrl-C", START_S)
        assert '"output": "42\\n"' in first.log.replace("\\\\", "\\")
        slow = {"code": "import time; time.sleep(2); print('slept')", "eval_id": "slow"}
        await call("POST", url, json=slow)
        async with asyncio.timeout(30):
            while (await call("GET", f"{url}/slow"))["status"] != "running":
                await asyncio.sleep(0.05)
        children = await server_pids(first)
        assert len(children) == 5
        first.send_signal(signal.SIGINT)
        assert await first.wait(60) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    async with up(tmp_path, port) as second:
        await second.wait_for_log("stop +Ctrl-C", START_S)
        found = await call("GET", f"{url}/slow")
        assert (found["output"], found["verdict"]) == ("slept\n", "ok")
        assert await second.stop(60) == 0


async def test_a_killed_worker_and_a_killed_api_are_started_again(tmp_path: Path) -> None:
    """The set heals: after a SIGKILL of either service an evaluation still ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/eval"
    async with up(tmp_path, port) as stack:
        await stack.wait_for_log("stop +Ctrl-C", START_S)
        for pid in await server_pids(stack):
            if b"crucible" in Path(f"/proc/{pid}/cmdline").read_bytes():
                _kill(pid)
        await stack.wait_for_log("api exited with code -9, restarting it", START_S)
        await stack.wait_for_log("worker exited with code -9, restarting it", START_S)
        await _answering(port)
        ended = await call("POST", f"{url}?wait=60", json={"code": "print(6*7)"})
        assert ended["output"] == "42\n"
        assert await stack.stop(60) == 0


@pytest.mark.parametrize("name", ["queue", "event-bus"])
async def test_a_killed_server_is_restarted_with_its_data(tmp_path: Path, name: str) -> None:
    """After a SIGKILL of an embedded server every evaluation that was accepted completes."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/eval"
    async with up(tmp_path, port, "--concurrency", "1") as stack:
        await stack.wait_for_log("stop +Ctrl-C", START_S)
        before = await server_pid(stack, tmp_path / name)
        for number in range(20):
            await call("POST", url, json={"code": f"print({number})", "eval_id": f"e{number}"})
        _kill(before)
        await stack.wait_for_log(f"the {name} server exited with code -9, restarting it", START_S)
        await stack.wait_for_log(f"the {name} server answers again on port", START_S)
        assert await server_pid(stack, tmp_path / name) != before
        await _answering(port)
        for number in range(20):
            ended = await call("GET", f"{url}/e{number}?wait=60")
            assert (ended["status"], ended["output"]) == ("completed", f"{number}\n")
        assert await stack.stop(60) == 0


async def test_taken_server_ports_are_no_obstacle(tmp_path: Path) -> None:
    """Where 6380 or 6379 is taken, another port is used and said.

    In a network namespace of its own, so that nothing else on the machine decides whether the
    ports are free.
    """
    arguments = ["up", "--data-dir", str(tmp_path), "--port", "8000"]
    alone = ["unshare", "--net", sys.executable, "-c", TAKEN_PORTS, *arguments]
    async with Child(alone, plain_environment()) as stack:
        await stack.wait_for_log("stop +Ctrl-C", START_S)
        assert re.search("port 6380 is taken, the queue server listens on", stack.log)
        assert re.search("port 6379 is taken, the event-bus server listens on", stack.log)
        assert await stack.stop(60) == 0


async def test_port_0_and_ipv6_loopback_are_served(tmp_path: Path) -> None:
    """Any free port is chosen once and said, and the address is one that can be asked."""
    async with up(tmp_path, 0, "--host", "::1") as stack:
        said = await stack.wait_for_log(r"^api +http://\[::1\]:[1-9]", START_S)
        report = await call("GET", f"{said.split()[1]}/ready")
        assert report["ready"]
        assert await stack.stop(60) == 0


async def test_what_it_starts_has_all_its_settings(tmp_path: Path) -> None:
    """A flag reaches the api and the worker, over the environment and the file."""
    config = tmp_path / "crucible.toml"
    config.write_text(
        'max_pids = 9\nmax_memory_mb = 65\nqueue_service_url = "http://127.0.0.1:1"\n'
    )
    port, flags = free_port(), ("--max-pids", "8", "--queue-service-url", "")
    async with up(
        tmp_path, port, *flags, CRUCIBLE_MAX_PIDS="10", CRUCIBLE_CONFIG=str(config)
    ) as stack:
        await stack.wait_for_log("stop +Ctrl-C", START_S)
        for limit, ceiling in (("pids", 8), ("memory_mb", 65)):
            body = {"code": "print(1)", "limits": {limit: ceiling + 1}}
            refused = await call("POST", f"http://127.0.0.1:{port}/api/eval", json=body)
            assert refused["field"] == f"limits.{limit}"
            assert refused["detail"].endswith(str(ceiling))
        ready = await call("GET", f"http://127.0.0.1:{port}/ready")
        assert ready["legacy"] == "not configured"
        assert await stack.stop(60) == 0


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CRUCIBLE_DOCKER_URL": "unix:///nonexistent.sock"}, "no Docker engine answers"),
        ({"CRUCIBLE_SANDBOX_IMAGE": "nosuch:tag"}, "the engine has no image nosuch:tag"),
        ({"CELERY_PERCENTAGE": "1.5"}, "CELERY_PERCENTAGE"),
        ({"CRUCIBLE_COMPAT": "nobody"}, "CRUCIBLE_COMPAT"),
        ({"CRUCIBLE_RESOURCES": "gpu"}, "CRUCIBLE_RESOURCES"),
    ],
)
async def test_what_is_missing_is_one_clear_line(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    """No engine, no image, bad settings: exit code 1, one line, no traceback."""
    async with up(tmp_path, free_port(), **environment) as stack:
        assert await stack.wait(START_S) == 1
    assert len(stack.lines) == 1
    assert stack.lines[0].startswith("crucible: ")
    assert said in stack.lines[0]


async def test_another_address_is_refused_without_keys(tmp_path: Path) -> None:
    """Where there is no data yet there is no key either, so nothing is started to look."""
    async with up(tmp_path, free_port(), CRUCIBLE_HOST="0.0.0.0") as stack:
        assert await stack.wait(START_S) == 1
    (refused,) = stack.lines
    assert refused.startswith("crucible: CRUCIBLE_HOST: ")
    assert "crucible keys create" in refused


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    """The api's own port is not exchanged in silence: clients would not find it."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with up(tmp_path, port) as stack:
            assert await stack.wait(START_S) == 1
    assert stack.lines == [
        f"crucible: port {port} on 127.0.0.1 is taken (choose another with --port)"
    ]


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def _answering(port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                report = await call("GET", f"http://127.0.0.1:{port}/ready")
            except aiohttp.ClientError:
                report = {}
            if report.get("ready"):
                return
            await asyncio.sleep(0.1)
