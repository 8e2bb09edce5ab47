"""The two servers of a task queue, as whoever looks after them opens them."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from crucible.broker.redis.atomic import LuaSteps
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.without_lua.steps import TransactionSteps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.broker.redis.atomic import Steps


@asynccontextmanager
async def open_steps(
    url: str, result_url: str | None, *, scripting: bool, name: str
) -> AsyncIterator[tuple[Steps, Steps]]:
    """Steps on the queue server and on the result server, which may be one and the same.

    Nothing is connected before it is needed.

    Args:
        url: the queue server.
        result_url: the result server; None is the same.
        scripting: False for servers without Lua.
        name: shown in the servers' CLIENT LIST.

    Raises:
        ValueError: a URL cannot be used.
    """
    kind = LuaSteps if scripting else TransactionSteps
    async with AsyncExitStack() as stack:
        steps = kind(await stack.enter_async_context(open_client(url, name=name)))
        results = steps
        if result_url and result_url != url:
            results = kind(await stack.enter_async_context(open_client(result_url, name=name)))
        yield steps, results
