"""The commands of docs/quickstart.md, and the first of README.md, do what the page says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from support.worker_rig import START_S, crucible, plain_environment

from crucible.embedded.server import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quickstart.md"
README = ROOT / "README.md"
#: What the page starts, and the test itself instead.
SERVES = "make run"
_BLOCK = re.compile(r"```console\n(.*?)```\n(?:```(?:text|json)\n(.*?)```\n)?", re.DOTALL)


def blocks(page: Path = PAGE) -> list[tuple[list[str], list[str]]]:
    """Commands of each block, and the lines that the page shows for them."""
    found = []
    for commands, shown in _BLOCK.findall(page.read_text()):
        lines = [line.removeprefix("$ ") for line in commands.splitlines()]
        found.append((lines, shown.splitlines()))
    return found


async def output_of(command: str, port: int) -> str:
    """What a command writes; it must succeed."""
    process = await asyncio.create_subprocess_shell(
        command.replace("localhost:8000", f"127.0.0.1:{port}"),
        cwd=ROOT,
        env=plain_environment(CRUCIBLE_PORT=str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


def assert_shown(output: str, line: str) -> None:
    """The parts of a line between the dots are in the output, in their order."""
    at = 0
    for part in line.split("…"):
        at = output.find(part, at)
        assert at >= 0, f"{part!r} is not in {output!r}"


async def test_every_command_does_what_the_page_says(tmp_path: Path) -> None:
    """All blocks in their order, on a service of the test's own."""
    (first, _), *rest = blocks()
    assert first == [SERVES]
    assert len(rest) >= 4
    [asked] = [block for block in blocks(README) if block[0][0].startswith("curl")]
    port = free_port()
    arguments = ["up", "--data-dir", str(tmp_path), "--port", str(port), "--sample"]
    async with crucible(arguments) as service:
        await service.wait_for_log("stop +Ctrl-C", START_S)
        for commands, shown in [*rest, asked]:
            outputs = [await output_of(command, port) for command in commands]
            for output, line in zip(outputs, shown, strict=False):
                assert_shown(output, line)
