"""What the machine has of sandboxes: containers by owner, and what they leave where."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiodocker
import pytest

from crucible.executor.sandbox_options import LABEL

if TYPE_CHECKING:
    from collections.abc import Collection

#: Seconds within which a dead owner's containers are gone: two sweeps of a reaper, and a moment.
REAPED_S = 75.0
_CONTAINER = re.compile("[0-9a-f]{64}")


async def containers_of(owner: str) -> list[str]:
    """Containers that carry the owner's label, running or not."""
    async with aiodocker.Docker() as docker:
        found = await docker.containers.list(all=True, filters={"label": [f"{LABEL}={owner}"]})
    return [container.id for container in found]


async def containers_of_processes(pids: Collection[int], engine_url: str | None = None) -> set[str]:
    """Containers that processes of this machine have made, running or not."""
    async with aiodocker.Docker(url=engine_url) as docker:
        found = await docker.containers.list(all=True, filters={"label": [LABEL]})
    owners = tuple(f"{socket.gethostname()}:{pid}:" for pid in pids)
    return {one.id for one in found if one["Labels"][LABEL].startswith(owners)}


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and not yet awaited."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes_of(container_ids: Collection[str]) -> list[str]:
    """Processes of this machine in a control group of one of the containers."""
    return [pid for pid, group in _groups() if any(key in group for key in container_ids)]


def sleeping(seconds: str) -> dict[str, str]:
    """Processes that are ``sleep`` for so many seconds, each with the container it is in."""
    found = {}
    for pid, group in _groups():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        container = _CONTAINER.search(group)
        if container and command == f"sleep\0{seconds}\0".encode():
            found[pid] = container[0]
    return found


def traces_of(container_ids: Collection[str]) -> list[str]:
    """Processes, mounts and control groups of containers."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    groups = [folder for folder, _, _ in os.walk("/sys/fs/cgroup")]
    places = [*mounts, *groups]
    return [
        *processes_of(container_ids),
        *(place for place in places if any(key in place for key in container_ids)),
    ]


async def until_gone(container_ids: Collection[str], engine_url: str | None = None) -> None:
    """Return once nothing is left of containers; the test fails when that takes too long."""
    left: list[Any] = []
    try:
        async with aiodocker.Docker(url=engine_url) as docker, asyncio.timeout(REAPED_S):
            while True:
                there = await docker.containers.list(all=True)
                known = [(one.id, one["Status"]) for one in there if one.id in container_ids]
                left = [*known, *traces_of(container_ids)]
                if not left:
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"left of sandboxes after {REAPED_S:g} s: {left}")


def _groups() -> list[tuple[str, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry.name, (entry / "cgroup").read_text()))
            except OSError:
                continue
    return found
