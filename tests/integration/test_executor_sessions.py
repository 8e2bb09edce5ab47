"""Sessions of an executor, here and behind a service, and what hostile cells get out of them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from support.patience import PATIENCE_S

from crucible.errors import ExecutorRefused
from crucible.executor import Executor, ExecutorConfig, open_executor
from crucible.executor.service import open_service
from crucible.executor.sessions import Session, open_session
from crucible.executor.sessions.live import SessionLost
from crucible.executor.sessions.models import Cell, CellResult, SessionSpec
from crucible.models import Isolation, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]

LIMITS = Limits(wall_time_s=60.0, cpu_time_s=60.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["here", "service"])
async def executor(request: pytest.FixtureRequest) -> AsyncIterator[Executor]:
    """An executor with containers, or a client of one."""
    config = ExecutorConfig(pool_min=1, lanes_max=2)
    async with AsyncExitStack() as stack:
        if request.param == "service":
            url = await stack.enter_async_context(open_service(config))
            config = ExecutorConfig(urls=(url,))
        yield await stack.enter_async_context(open_executor(config))


def spec(isolation: Isolation = "container", **more: object) -> SessionSpec:
    return SessionSpec(isolation=isolation, limits=LIMITS, **more)  # type: ignore[arg-type]  # its own fields


async def run(session: Session, code: str, timeout_s: float = PATIENCE_S) -> CellResult:
    return await session.execute(Cell(code=code, timeout_s=timeout_s))


async def timed_out(session: Session, code: str) -> str:
    """How a cell of a second ends, or why its session did: on a busy machine SIGINT may be late."""
    try:
        return (await run(session, code, 1.0)).status
    except SessionLost as lost:
        return lost.reason


@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_a_hostile_cell_gets_what_a_program_gets(
    executor: Executor, isolation: Isolation
) -> None:
    """Nothing of the driver, of the host, of the network; output floods and forgeries are cut."""
    async with open_session(executor, spec(isolation)) as session:
        await run(session, "import os, socket, ctypes, glob, signal, subprocess, sys, json")
        for code, name in (
            ("open(f'/proc/{os.getppid()}/mem', 'rb')", "PermissionError"),
            ("os.listdir(f'/proc/{os.getppid()}/fd')", "PermissionError"),
            ("open(f'/proc/{os.getppid()}/environ').read()", "PermissionError"),
            ("open('/proc/1/environ').read()", "PermissionError"),
            ("open('/etc/x', 'w')", "OSError"),
            ("socket.create_connection(('1.1.1.1', 53), 2)", "OSError"),
        ):
            error = (await run(session, code)).error
            assert error is not None, code
            assert error.name in (name, "PermissionError", "OSError"), error
        refused = await run(session, "ctypes.CDLL(None).unshare(0x10000000)")
        assert refused.display == [{"text/plain": "-1"}]
        assert "docker" not in str((await run(session, "glob.glob('/run/*')")).display)
        forged = "print((12).to_bytes(4, 'big').decode('latin1') + json.dumps({'died': 'x'}))"
        assert "died" in (await run(session, forged)).stdout
        flood = await run(session, "print('x' * (8 << 20)); 'y' * (8 << 20)")
        assert (flood.output_truncated, len(flood.stdout)) == (True, 1 << 20)
        noise = "[os.write(fd, b'junk' * 4096) for fd in (1, 2)]; None"
        assert len((await run(session, noise)).stdout) == 4 * 4096
        noisy = "['sh', '-c', 'while :; do echo noise; done']"
        daemon = f"subprocess.Popen({noisy}, start_new_session=True); 1"
        assert (await run(session, daemon)).display == [{"text/plain": "1"}]
        assert (await run(session, "6 * 7")).display == [{"text/plain": "42"}]
        forked = "os.fork(); os.getpid() == here"
        await run(session, "here = os.getpid()")
        assert (await run(session, forked)).display == [{"text/plain": "True"}]
        assert (await run(session, "here == os.getpid()")).display == [{"text/plain": "True"}]
        bomb = "while True:\n    try: os.fork()\n    except OSError: pass"
        assert await timed_out(session, bomb) in ("timeout", "cell_timeout")
    async with open_session(executor, spec(isolation)) as fresh:
        assert (await run(fresh, "import os; os.listdir('.')")).display == [{"text/plain": "[]"}]


@pytest.mark.parametrize(
    "code",
    [
        # The driver is stopped: no time is kept inside any more.
        "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(60)",
        "import os\nos.write(3, b'\\xff\\xff\\xff\\xff' + b'x' * 100)\nwhile True: pass",
    ],
)
async def test_time_is_kept_from_outside(executor: Executor, code: str) -> None:
    """A cell that holds up the driver costs its session no more than its time and a moment."""
    async with open_session(executor, spec()) as session:
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(SessionLost) as lost:
            await run(session, code, 0.5)
        assert lost.value.reason in ("cell_timeout", "interpreter_died")
        # Long before its own end; a busy machine has added ten seconds to what takes one.
        assert asyncio.get_running_loop().time() - began_s < 40.0


async def test_what_a_channel_can_be_made_to_say_is_bounded(executor: Executor) -> None:
    """A cell that writes results itself is believed only about itself, and by type."""
    async with open_session(executor, spec()) as session:
        code = (
            "import os, json\n"
            "def say(what):\n"
            "    body = json.dumps(what).encode()\n"
            "    os.write(3, len(body).to_bytes(4, 'big') + body)\n"
            "say({'error': 5, 'display': 'nothing'})\n"
        )
        with pytest.raises(SessionLost) as lost:
            await run(session, code)
        assert lost.value.reason == "interpreter_died"


async def test_what_cannot_be_is_refused(executor: Executor) -> None:
    """An environment that is not served is no reason to try again."""
    with pytest.raises(ExecutorRefused):
        async with open_session(executor, spec(environment="nowhere")):
            pass


async def test_figures_are_displayed(executor: Executor) -> None:
    """What has forms of its own is displayed in them; a figure is a picture."""
    async with open_session(executor, spec()) as session:
        code = (
            "class Shown:\n"
            "    def _repr_html_(self): return '<b>x</b>'\n"
            "    def _repr_png_(self): return b'png'\n"
            "    def __repr__(self): return 'plain'\n"
            "display(1)\nShown()"
        )
        shown = (await run(session, code)).display
        forms = {"text/plain": "plain", "text/html": "<b>x</b>", "image/png": "cG5n"}
        assert shown == [{"text/plain": "1"}, forms]
