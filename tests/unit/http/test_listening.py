"""A service that cannot bind its address says which."""

from __future__ import annotations

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
