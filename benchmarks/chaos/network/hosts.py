"""Hosts on one switch: a network namespace each, with a cable that can be cut."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from contextlib import AsyncExitStack
from typing import Self

#: This machine's own address on the switch ends in it, and hosts follow.
_OWN = 1
_numbers = itertools.count(1)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {output.decode().strip()}")


def possible() -> bool:
    """Whether this process may make network namespaces."""
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in ("ip", "iptables"))


class Host:
    """One machine.

    Attributes:
        name: of its namespace.
        address: on the switch.
    """

    def __init__(self, name: str, address: str, switch: str, port: str) -> None:
        self.name = name
        self.address = address
        self._switch = switch
        self._port = port
        self._deaf_to: str | None = None

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs on this host."""
        return ["ip", "netns", "exec", self.name, *arguments]

    async def cut(self) -> None:
        """Unplug it: nothing goes in or out, and nobody is told."""
        await _run("ip", "-n", self._switch, "link", "set", self._port, "down")

    async def deafen(self, address: str) -> None:
        """A one-way cut: what it sends arrives, and what ``address`` sends does not reach it."""
        self._deaf_to = address
        await _run(*self.command("iptables", "-A", "INPUT", "-s", address, "-j", "DROP"))

    async def heal(self) -> None:
        """Undo both."""
        await _run("ip", "-n", self._switch, "link", "set", self._port, "up")
        if self._deaf_to is not None:
            rule = ("INPUT", "-s", self._deaf_to, "-j", "DROP")
            await _run(*self.command("iptables", "-D", *rule))
            self._deaf_to = None


class Network:
    """A switch, hosts on it, and this machine.

    Attributes:
        own_address: of this machine on the switch.
    """

    def __init__(self) -> None:
        # Several of them may be there at once, of this process and of others.
        self._tag = f"cru{os.getpid() % 10_000}n{next(_numbers)}"
        self._net = f"10.{77 + os.getpid() % 100}.{next(_numbers) % 250}"
        self._switch = f"{self._tag}-sw"
        self._count = itertools.count(_OWN + 1)
        self._stack = AsyncExitStack()
        self.own_address = f"{self._net}.{_OWN}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._namespace(stack, self._switch)
            await _run("ip", "-n", self._switch, "link", "add", "sw", "type", "bridge")
            await _run("ip", "-n", self._switch, "link", "set", "sw", "up")
            own = f"{self._tag}o"
            await _run("ip", "link", "add", own, "type", "veth",
                       "peer", "name", "own", "netns", self._switch)  # fmt: skip
            stack.push_async_callback(_run, "ip", "link", "del", own)
            await self._plug("own")
            await _run("ip", "addr", "add", f"{self.own_address}/24", "dev", own)
            await _run("ip", "link", "set", own, "up")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def host(self, name: str) -> Host:
        """Plug one more in."""
        number = next(self._count)
        host = Host(f"{self._tag}-{name}", f"{self._net}.{number}", self._switch, f"p{number}")
        await self._namespace(self._stack, host.name)
        await _run("ip", "-n", host.name, "link", "add", "eth0", "type", "veth",
                   "peer", "name", f"p{number}", "netns", self._switch)  # fmt: skip
        await self._plug(f"p{number}")
        await _run("ip", "-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            await _run("ip", "-n", host.name, "link", "set", device, "up")
        return host

    async def _plug(self, port: str) -> None:
        await _run("ip", "-n", self._switch, "link", "set", port, "master", "sw")
        await _run("ip", "-n", self._switch, "link", "set", port, "up")

    async def _namespace(self, stack: AsyncExitStack, name: str) -> None:
        await _run("ip", "netns", "add", name)
        stack.push_async_callback(_run, "ip", "netns", "del", name)
