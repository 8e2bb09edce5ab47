"""Workers on hosts of their own, whose cables can be cut, and processes whose clocks jump."""

from __future__ import annotations

import struct
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from benchmarks.chaos.links import ROOT
from benchmarks.chaos.network.hosts import Host, Network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Parts that get a host each: what they need of others comes over the network or by a file.
ON_HOSTS = ("worker 1", "worker 2")
#: Parts whose clocks jump.
WITH_CLOCKS = ("api", *ON_HOSTS)
_CLOCK = ROOT / "benchmarks" / "chaos" / "network" / "clock"


class Hosts:
    """The hosts and the clocks of a battle; none of either where ``apart`` is False.

    An async context manager.

    Args:
        directory: for the clocks.
        apart: whether there are any, which takes root.

    Attributes:
        address: of this machine, for those on hosts; loopback where there are none.
        hosts: by the name of the part.
    """

    def __init__(self, directory: Path, *, apart: bool) -> None:
        self.address = "127.0.0.1"
        self.hosts: dict[str, Host] = {}
        self._directory = directory
        self._apart = apart
        self._urls: dict[str, str] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._apart:
            network = await self._stack.enter_async_context(Network())
            self.address = network.own_address
            self._directory.mkdir()
            for number, name in enumerate(ON_HOSTS):
                self.hosts[name] = await network.host(f"w{number}")
            for name in WITH_CLOCKS:
                self.turn(name, 0.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def clocks(self) -> Sequence[str]:
        """Parts whose clocks can be turned."""
        return WITH_CLOCKS if self._apart else ()

    def serve(self, **urls: str) -> None:
        """What those on hosts have to use instead of the others' variables."""
        self._urls = urls

    def command(self, name: str, command: Sequence[str]) -> Sequence[str]:
        """The command of a part, on its host if it has one."""
        return self.hosts[name].command(*command) if name in self.hosts else command

    def variables(self, name: str) -> dict[str, str]:
        """What a part's environment has besides that of all."""
        found = dict(self._urls) if name in self.hosts else {}
        if name in self.clocks:
            found["CHAOS_CLOCK_FILE"] = str(self._clock(name))
            found["PYTHONPATH"] = f"{ROOT}:{_CLOCK}"
        return found

    def turn(self, name: str, seconds: float) -> None:
        """Set how far the clock of a part is ahead of the others'."""
        with self._clock(name).open("r+b" if self._clock(name).exists() else "wb") as file:
            file.write(struct.pack("d", seconds))

    def _clock(self, name: str) -> Path:
        return self._directory / name.replace(" ", "-")
