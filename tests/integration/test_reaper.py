"""The reaper on an engine that fails to remove a container."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiodocker
import pytest
from support.sandboxes import containers_of

from crucible.executor import ExecutorConfig
from crucible.executor import reaper as reaper_module
from crucible.executor.engine import ContainerNotRemoved, Engine
from crucible.executor.hooks import NoHooks
from crucible.executor.reaper import Reaper
from crucible.executor.sandbox_options import LABEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor.hooks import SandboxRetired, Trouble

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file immutable"),
]


class Immovable:
    """Two containers of one owner; the engine cannot remove one of them, until ``let_go``."""

    def __init__(self, owner: str, kept: str, data_root: str) -> None:
        self.owner = owner
        self.kept = kept
        self._anchor = Path(data_root) / "containers" / kept / "anchor"
        self._anchor.touch()
        self._chattr("+i")

    def let_go(self) -> None:
        if self._anchor.exists():
            self._chattr("-i")

    def _chattr(self, flag: str) -> None:
        chattr = shutil.which("chattr")
        assert chattr is not None
        subprocess.run([chattr, flag, str(self._anchor)], check=True)


@asynccontextmanager
async def immovable() -> AsyncIterator[Immovable]:
    owner = f"{socket.gethostname()}-reaper:{secrets.token_hex(4)}:x"
    body: dict[str, Any] = {
        "Image": "crucible-sandbox:latest",
        "Cmd": ["true"],
        "Labels": {LABEL: owner},
    }
    async with aiodocker.Docker() as docker:
        info = await docker.system.info()
        kept, _ = [await docker.containers.create(body) for _ in range(2)]
        both = Immovable(owner, kept.id, info["DockerRootDir"])
        try:
            yield both
        finally:
            both.let_go()
            for container_id in await containers_of(owner):
                await docker.containers.container(container_id).delete(force=True)


class Notes(NoHooks):
    """What a reaper tells; the container is let go after so many failures."""

    def __init__(self, containers: Immovable, *, patience: int) -> None:
        self.retired: list[SandboxRetired] = []
        self.troubles: list[Trouble] = []
        self._containers = containers
        self._patience = patience

    def sandbox_retired(self, details: SandboxRetired) -> None:
        self.retired.append(details)

    def trouble(self, details: Trouble) -> None:
        self.troubles.append(details)
        if len(self.troubles) == self._patience:
            self._containers.let_go()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper_module, "CLOSING_PAUSE_S", 0.0)


async def test_what_cannot_be_removed_at_first_is_tried_again() -> None:
    """There is no later sweep of a process that ends."""
    async with immovable() as both, Engine() as engine:
        notes = Notes(both, patience=1)
        async with Reaper(engine, ExecutorConfig(owner=both.owner), notes):
            pass
        assert await containers_of(both.owner) == []
        assert len(notes.retired) == 2
        assert [type(one.error) for one in notes.troubles] == [ContainerNotRemoved]


async def test_what_cannot_be_removed_does_not_keep_the_others() -> None:
    """It is named as trouble at each sweep, and the end does not wait for it."""
    async with immovable() as both, Engine() as engine:
        notes = Notes(both, patience=100)
        async with Reaper(engine, ExecutorConfig(owner=both.owner), notes):
            pass
        assert await containers_of(both.owner) == [both.kept]
        assert len(notes.retired) == 1
        assert len(notes.troubles) == reaper_module.CLOSING_SWEEPS
