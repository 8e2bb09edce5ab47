"""One guard for every service with a token."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from crucible.http.bearer import bearer_guard


async def _answer(_: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("/tasks", b"Bearer secret", 200),
        ("/tasks", b"Bearer wrong", 401),
        ("/tasks", b"Bearer \xff", 401),
        ("/tasks", b"", 401),
        ("/health", b"", 200),
    ],
)
async def test_only_the_token_opens(path: str, given: bytes, status: int) -> None:
    """Everything but ``/health`` needs the token; what is no UTF-8 is a wrong one."""
    app = web.Application(middlewares=[bearer_guard("secret")])
    app.router.add_get("/{name}", _answer)
    async with TestClient(TestServer(app)) as client:
        headers = {"Authorization": given.decode("utf-8", "surrogateescape")} if given else {}
        async with client.get(path, headers=headers) as response:
            assert response.status == status
            if status == 401:
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert (await response.json())["title"] == "Unauthorized"
