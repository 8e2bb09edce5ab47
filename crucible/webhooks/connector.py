"""Connections to receivers: only to addresses that the policy allows."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

from crucible.webhooks.addresses import is_literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp.abc import ResolveResult
    from aiohttp.connector import AddrInfoType
    from yarl import URL

    from crucible.webhooks.addresses import AddressPolicy

#: Seconds for name, connection and TLS; and for the whole request (Standard Webhooks: 15 to 30).
CONNECT_S, TOTAL_S = 5.0, 15.0
#: Connections of one process, and of it to one receiver.
_CONNECTIONS, _OF_HOST = 64, 8
#: Bytes of a header field, and of the status line, that a receiver may answer with.
_MAX_FIELD_BYTES = 8190


class AddressRefused(OSError):  # noqa: N818 - what the policy did
    """The address of a receiver may not be called."""


class GuardedResolver(AbstractResolver):
    """Resolves names and refuses those with any address that may not be called.

    One refused address refuses the name: which of several is connected to is for its owner to
    choose, by refusing connections to the others.

    Args:
        policy: says which addresses may be called.
        names: resolves them.
    """

    def __init__(self, policy: AddressPolicy, names: AbstractResolver) -> None:
        self._policy = policy
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily | int = 0
    ) -> list[ResolveResult]:
        """The addresses of a name, which are then connected to without another look.

        Raises:
            AddressRefused: one of them may not be called.
        """
        found = await self._names.resolve(host, port, family)  # type: ignore[arg-type]  # as called
        for one in found:
            check_address(self._policy, one["host"], host)
        return found

    async def close(self) -> None:
        """Close what resolves names."""
        await self._names.close()


def check_address(policy: AddressPolicy, address: str, host: str) -> None:
    """Raise AddressRefused where an address may not be called."""
    why = policy.refusal(address)
    if why is not None:
        named = address if host == address else f"{address} of {host}"
        raise AddressRefused(f"the address {named} {why}")


def check_literal(policy: AddressPolicy, url: URL) -> None:
    """The same of a URL whose host is an address: aiohttp asks no resolver about those.

    Raises:
        AddressRefused: it may not be called.
    """
    host = url.host or ""
    if is_literal(host):
        check_address(policy, host, host)


def _socket_factory(policy: AddressPolicy) -> Callable[[AddrInfoType], socket.socket]:
    def make(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        check_address(policy, str(address[0]), str(address[0]))
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make


@asynccontextmanager
async def open_session(
    policy: AddressPolicy, names: AbstractResolver | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for requests to receivers, without cookies, proxies and other surroundings.

    Args:
        policy: says which addresses may be called.
        names: resolves names; the system's resolver by default.
    """
    connector = aiohttp.TCPConnector(
        resolver=GuardedResolver(policy, names or ThreadedResolver()),
        # Once more for what is about to be connected to, whoever resolved it.
        socket_factory=_socket_factory(policy),
        # A kept address would be the answer of an earlier look.
        use_dns_cache=False,
        force_close=True,
        limit=_CONNECTIONS,
        limit_per_host=_OF_HOST,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=TOTAL_S, sock_connect=CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        max_line_size=_MAX_FIELD_BYTES,
        max_field_size=_MAX_FIELD_BYTES,
    ) as session:
        yield session
