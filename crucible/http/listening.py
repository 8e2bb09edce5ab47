"""Binding the address of a service, with errors that name the address."""

from __future__ import annotations

import errno
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.errors import RequirementError

if TYPE_CHECKING:
    from collections.abc import Iterator


async def listen(
    runner: web.AppRunner, host: str, port: int, *, backlog: int = 128, reuse_port: bool = False
) -> int:
    """Listen on a TCP port.

    Args:
        runner: set up already.
        host: address to bind.
        port: port to bind; 0 takes any free one.
        backlog: connections the kernel completes before they are accepted.
        reuse_port: other processes listen on it too, and the kernel chooses one for each client.

    Returns:
        The port.

    Raises:
        RequirementError: the address cannot be bound.
    """
    with _address_named(host, port):
        site = web.TCPSite(runner, host, port, backlog=backlog, reuse_port=reuse_port or None)
        await site.start()
    return int(runner.addresses[0][1])


async def listen_unix(runner: web.AppRunner, path: str) -> None:
    """Listen on a Unix socket; raises RequirementError where it cannot be bound."""
    with _address_named(path):
        await web.UnixSite(runner, path).start()


def allow_files(count: int) -> None:
    """Let this process open so many files, as far as its hard limit goes.

    The soft limit is 1024 on most systems, for programs that use ``select``: a server would run
    out of it long before its own bound on connections, which answers those that are too many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _address_named(where: str, port: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE and port is not None:
            taken = f"port {port} on {where} is taken"
            raise RequirementError(taken, "choose another with --port") from None
        raise RequirementError(f"cannot listen on {where}: {error}") from None
