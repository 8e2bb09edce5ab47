"""Many who ask the same of a queue server that is silent: one waits for it, and for all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest import mock

from support.api_rig import running_api
from support.faults import Fault, FaultProxy
from support.keyed import make_key

from crucible.broker.admin.fleet import Fleet
from crucible.identity.key_store import KeyStore
from crucible.identity.secret import new_secret

if TYPE_CHECKING:
    import aiohttp

#: Who ask at once: one after the other, they would wait for a minute.
CLIENTS = 20
#: One is under way, and the second is that of clients who came only after it.
ASKED = 2


class Counted:
    """Counts calls of a method, which goes on as it is.

    Attributes:
        calls: so far.
    """

    def __init__(self, kind: type, name: str) -> None:
        self.calls = 0
        real = getattr(kind, name)

        async def called(this: Any, *args: Any) -> Any:
            self.calls += 1
            return await real(this, *args)

        self.patch = mock.patch.object(kind, name, called)


async def answers(client: aiohttp.ClientSession, path: str, **headers: str) -> list[int]:
    """Statuses of as many requests at once as there are clients."""

    async def one() -> int:
        async with client.get(path, headers=headers) as response:
            await response.read()
            return response.status

    return list(await asyncio.gather(*(one() for _ in range(CLIENTS))))


async def test_what_workers_do_is_asked_once_for_all(proxied_url: str, proxy: FaultProxy) -> None:
    """Consoles in many tabs that look every second would else wait longer and longer."""
    counted = Counted(Fleet, "ask")
    async with running_api(proxied_url, event_bus_url="off") as client:
        proxy.set(Fault.BLACKHOLE)
        with counted.patch:
            assert set(await answers(client, "/tasks/workers/status")) == {503}
        proxy.set(Fault.PASS)
        assert 1 <= counted.calls <= ASKED
        assert set(await answers(client, "/tasks/workers/status")) == {200}


async def test_a_key_that_is_not_known_here_is_no_fault_of_ours(
    redis_url: str, proxied_url: str, proxy: FaultProxy
) -> None:
    """503 and not 500 while nobody can say whether it is valid; the others' are served."""
    key = await make_key(redis_url, "t")
    counted = Counted(KeyStore, "version")
    async with running_api(proxied_url, event_bus_url="off") as client:
        proxy.set(Fault.BLACKHOLE)
        with counted.patch:
            unknown = {"Authorization": f"Bearer {new_secret()}"}
            assert set(await answers(client, "/api/v1/me", **unknown)) == {503}
            assert set(await answers(client, "/api/v1/me", **key.headers)) == {200}
        # Each look for a client waits for 0.4 s; what polls in the background has its own.
        assert counted.calls < CLIENTS
        proxy.set(Fault.PASS)
