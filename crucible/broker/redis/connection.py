"""Clients of Redis and Valkey servers from URLs.

URLs: ``redis://``, ``rediss://``, ``unix://``, kombu's ``redis+socket://`` and ``socket://``, and
``sentinel://host:port;sentinel://host:port/db?master_name=NAME``. User, password and database
number as usual; further query fields go to redis-py (``ssl_ca_certs``, ``ssl_cert_reqs`` …).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from crucible.broker.redis.deadlined import DeadlinedConnection
from crucible.broker.redis.sentinel import open_master
from crucible.settings.urls import SEVERAL, names_several

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio.connection import AbstractConnection

#: Seconds for one connection attempt.
CONNECT_TIMEOUT_S = 1.0
#: The same for a command that somebody types, which tries only once: a first packet that was lost,
#: as where a container has just got its network, is sent again after a second.
TYPED_CONNECT_TIMEOUT_S = 5.0
#: Seconds for one command where the caller sets no deadline of its own.
COMMAND_TIMEOUT_S = 5.0

_SENTINEL_PORT = 26379
_SOCKET_SCHEMES = frozenset({"unix", "redis+socket", "socket"})
#: kombu spells these as the ``ssl`` module's constants.
_CERT_REQS = {"CERT_REQUIRED": "required", "CERT_OPTIONAL": "optional", "CERT_NONE": "none"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads.

    Attributes:
        options: keyword arguments of a redis-py connection.
        sentinels: addresses to ask for the master; empty for a plain server.
        master_name: the name the sentinels know it by.
        sentinel_options: keyword arguments for the connections to the sentinels.
    """

    options: dict[str, Any]
    sentinels: tuple[tuple[str, int], ...] = ()
    master_name: str = ""
    sentinel_options: dict[str, Any] = field(default_factory=dict)


def read_url(url: str) -> Target:
    """Take a URL apart.

    Raises:
        ValueError: an unknown scheme, several servers, a bad database number, or a Sentinel URL
            without a master.
    """
    scheme = url.partition("://")[0]
    if scheme != "sentinel" and names_several(url):
        raise ValueError(f"a queue URL {SEVERAL}")
    if scheme == "sentinel":
        return _read_sentinel_url(url)
    if scheme in _SOCKET_SCHEMES:
        return Target(_read_socket_url(url))
    if scheme not in ("redis", "rediss"):
        raise ValueError(f"a queue URL starts with redis://, rediss://, unix:// or sentinel://, "
                         f"not {scheme}://")  # fmt: skip
    options = dict(parse_url(url))
    options["db"] = _database(options.pop("virtual_host", None) or urlsplit(url).path, options)
    return Target(_with_cert_reqs(options))


def _database(text: Any, options: dict[str, Any]) -> int:
    text = str(text).strip("/")
    if not text:
        return int(options.get("db", 0))
    if not text.isdecimal():
        raise ValueError(f"the database in a queue URL is a number, not {text!r}")
    return int(text)


def _with_cert_reqs(options: dict[str, Any]) -> dict[str, Any]:
    wanted = options.get("ssl_cert_reqs")
    return {**options, "ssl_cert_reqs": _CERT_REQS.get(wanted, wanted)} if wanted else options


def _read_socket_url(url: str) -> dict[str, Any]:
    """A socket's path; the database is ``db`` or kombu's ``virtual_host``."""
    options = dict(parse_url("unix" + url[url.index("://") :]))
    options["db"] = _database(options.pop("virtual_host", ""), options)
    return options


def _read_sentinel_url(url: str) -> Target:
    parts = [urlsplit(part if "://" in part else f"sentinel://{part}") for part in url.split(";")]
    query = {name: values[0] for name, values in parse_qs(parts[-1].query).items()}
    master_name = query.pop("master_name", "")
    if not master_name:
        raise ValueError("a sentinel:// URL needs ?master_name=")
    sentinel_options = {
        name.removeprefix("sentinel_"): query.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in query
    }
    options: dict[str, Any] = {"db": _database(query.pop("db", "") or parts[-1].path, {}), **query}
    for part in parts:
        if part.username:
            options["username"] = unquote(part.username)
        if part.password:
            options["password"] = unquote(part.password)
    hosts = tuple((part.hostname or "localhost", part.port or _SENTINEL_PORT) for part in parts)
    return Target(_with_cert_reqs(options), hosts, master_name, sentinel_options)


@cache
def _ours(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    return type(kind.__name__, (DeadlinedConnection, kind), {})


@asynccontextmanager
async def open_client(
    url: str,
    *,
    command_timeout_s: float | None = COMMAND_TIMEOUT_S,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    name: str = "crucible",
) -> AsyncIterator[Redis]:
    """A client that never retries by itself: only the caller knows what may be sent twice.

    Nothing is connected before the first command.

    Args:
        url: where to.
        command_timeout_s: seconds for one command; None leaves deadlines to the caller.
        connect_timeout_s: seconds for one connection attempt.
        name: shown in the server's CLIENT LIST.

    Raises:
        ValueError: the URL cannot be used.
    """
    target = read_url(url)
    shared = {
        "socket_timeout": command_timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "client_name": name,
        # Answers in one form whatever the server speaks; push messages arrive as arrays.
        "protocol": 2,
    }
    if not target.sentinels:
        kind = _ours(target.options.get("connection_class", Connection))
        pool = ConnectionPool(**{**shared, **target.options, "connection_class": kind})
        async with Redis.from_pool(pool) as client:
            yield client
        return
    sentinel_options = {**shared, "socket_timeout": connect_timeout_s, **target.sentinel_options}
    options = {**shared, **target.options}
    async with open_master(
        target.sentinels, target.master_name, options, sentinel_options
    ) as client:
        yield client
