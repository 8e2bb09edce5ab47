"""A service that cannot bind its address says which."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from crucible.errors import RequirementError
from crucible.http.listening import listen, listen_unix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    """An application that is set up and listens nowhere."""
    runner = web.AppRunner(web.Application())
    await runner.setup()
    yield runner
    await runner.cleanup()


async def test_a_taken_port_is_named(runner: web.AppRunner) -> None:
    """With what to do about it."""
    port = await listen(runner, "127.0.0.1", 0)
    with pytest.raises(RequirementError, match=f"port {port} on 127.0.0.1 is taken.*--port"):
        await listen(runner, "127.0.0.1", port)


async def test_an_address_that_cannot_be_bound_is_named(
    runner: web.AppRunner, tmp_path: Path
) -> None:
    """A host of another machine, and a socket in a folder that does not exist."""
    with pytest.raises(RequirementError, match=r"cannot listen on 192\.0\.2\.1"):
        await listen(runner, "192.0.2.1", 0)
    missing = str(tmp_path / "no" / "socket")
    with pytest.raises(RequirementError, match=f"cannot listen on {missing}"):
        await listen_unix(runner, missing)


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [((64, 200), 128, 128), ((64, 200), 500, 200), ((100, 200), 80, 100)],
    ids=["raised", "hard-limit", "enough"],
)
def test_a_server_may_open_as_many_files_as_it_needs(
    before: tuple[int, int], asked: int, after: int
) -> None:
    """Up to its hard limit, and never fewer than before; in a process of its own."""
    program = (
        "import resource as r; from crucible.http.listening import allow_files;"
        f"r.setrlimit(r.RLIMIT_NOFILE, {before}); allow_files({asked});"
        "print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == after
