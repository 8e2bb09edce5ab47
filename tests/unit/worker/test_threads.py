"""Threads for plain functions: given up, they hold up nobody as long as there may be more."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest
from support.loop_turns import eventually

from crucible.worker.execution.threads import Threads

marker: ContextVar[str] = ContextVar("marker", default="")


async def given_up(threads: Threads, hold: threading.Event) -> None:
    """Call what does not return, and wait for it no more once it runs."""
    begun = asyncio.Event()
    call = asyncio.create_task(threads.call(hold.wait, begun.set))
    await begun.wait()
    call.cancel()
    await asyncio.wait([call])


async def test_outcomes_and_context_pass() -> None:
    """What a function returns or raises comes back; it sees the caller's context, in a copy."""
    threads = Threads(2)
    marker.set("caller")

    def changes() -> str:
        before = marker.get()
        marker.set("thread")
        return before

    assert await threads.call(changes) == "caller"
    assert marker.get() == "caller"
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        await threads.call(lambda: (_ for _ in ()).throw(SystemExit(1)))
    threads.close()


async def test_a_thread_serves_again() -> None:
    """Calls after one another share a thread."""
    threads = Threads(10)
    names = set()
    for _ in range(20):
        names.add(await threads.call(lambda: threading.current_thread().name))
        await asyncio.sleep(0.001)
    assert len(names) < 5
    threads.close()


async def test_one_that_was_given_up_holds_up_nobody() -> None:
    """A function that goes on unheard has its thread; the next call gets another."""
    threads, hold = Threads(2), threading.Event()
    await given_up(threads, hold)
    assert await threads.call(lambda: "next") == "next"
    hold.set()
    threads.close()


async def test_calls_beyond_the_most_wait_their_turn() -> None:
    """They begin when a thread is free, and those given up before that are never called."""
    threads, hold = Threads(1), threading.Event()
    await given_up(threads, hold)
    called: list[str] = []
    begun = asyncio.Event()
    dropped = asyncio.create_task(threads.call(lambda: called.append("dropped")))
    waiting = asyncio.create_task(threads.call(lambda: called.append("waited"), begun.set))
    await asyncio.sleep(0)
    dropped.cancel()
    await asyncio.wait([dropped])
    assert not begun.is_set()
    hold.set()
    await asyncio.wait_for(waiting, 60)
    assert begun.is_set()
    assert called == ["waited"]
    threads.close()


async def test_a_system_without_threads_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that finds no thread fails, and is not made later by one that becomes free."""
    threads, hold = Threads(3), threading.Event()
    await given_up(threads, hold)
    called: list[str] = []

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await threads.call(lambda: called.append("refused"))
    hold.set()
    await threads.call(lambda: called.append("next"))
    assert called == ["next"]
    threads.close()


async def test_closed_threads_end() -> None:
    """Idle ones end at once, busy ones when their function returns."""
    threads, hold = Threads(2), threading.Event()
    # Threads of earlier tests may still be ending.
    earlier = set(threading.enumerate())
    await given_up(threads, hold)
    await threads.call(lambda: None)
    threads.close()
    await eventually(lambda: len(set(threading.enumerate()) - earlier) == 1)
    hold.set()
    await eventually(lambda: not set(threading.enumerate()) - earlier)
