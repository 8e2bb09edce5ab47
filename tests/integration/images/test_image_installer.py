"""The installer behind an image: failing, hanging, cancelled. A stand-in plays debootstrap."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from crucible.errors import RequirementError
from crucible.images import rootfs
from crucible.images.definition import ImageDefinition

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can build images")


def stand_in(directory: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a program called debootstrap before the real one."""
    program = directory / "bin" / "debootstrap"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nfor root; do :; done\nmkdir -p "$root/usr"\n{body}\n')
    program.chmod(0o755)
    monkeypatch.setattr(rootfs, "_PATH", f"{program.parent}:{os.environ['PATH']}")


async def install(workspace: Path, said: list[str]) -> None:
    tree = rootfs.installed_tree(ImageDefinition(), workspace, mirror="", progress=said.append)
    async with tree:
        pass


async def test_a_failed_installer_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last words and a remedy reach the user, and its tree is gone."""
    stand_in(tmp_path, monkeypatch, 'echo "E: no such suite"; exit 3')
    workspace = tmp_path / "work"
    workspace.mkdir()
    with pytest.raises(RequirementError, match="debootstrap exited with code 3: E: no") as caught:
        await install(workspace, [])
    assert caught.value.remedy
    assert list(workspace.iterdir()) == []


async def test_a_cancelled_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling kills the installer with its children and removes the tree before it returns."""
    stand_in(
        tmp_path,
        monkeypatch,
        f'sleep 300 & echo $! >"{tmp_path}/child"; echo "I: Retrieving bash"; wait',
    )
    workspace = tmp_path / "work"
    workspace.mkdir()
    started = asyncio.Event()
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        if line == "downloading packages":
            started.set()

    async def build() -> None:
        tree = rootfs.installed_tree(ImageDefinition(), workspace, mirror="", progress=hear)
        async with tree:
            pass

    task = asyncio.create_task(build())
    await asyncio.wait_for(started.wait(), 30)
    child = int((tmp_path / "child").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(workspace.iterdir()) == []
    async with asyncio.timeout(60):
        while _alive(child):
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    """Whether ``pid`` runs; one that only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - procfs
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_silent_installer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installer that says nothing for too long is killed and named."""
    stand_in(tmp_path, monkeypatch, 'echo "I: Retrieving bash"; sleep 300')
    monkeypatch.setattr(rootfs, "SILENCE_S", 1.0)
    workspace = tmp_path / "work"
    workspace.mkdir()
    with pytest.raises(RequirementError, match="debootstrap timed out"):
        await install(workspace, [])
    assert list(workspace.iterdir()) == []


async def test_without_debootstrap_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the installer is told what to install."""
    monkeypatch.setattr(rootfs, "_PATH", "/nowhere")
    with pytest.raises(RequirementError, match="apt-get install debootstrap"):
        rootfs.require_builder()
