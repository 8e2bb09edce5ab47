"""The group commit on its own: what goes into a flush, and what its callbacks receive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from crucible.broker.publishing.group_commit import (
    MAX_FLUSH_BYTES,
    MAX_FLUSH_MESSAGES,
    GroupCommit,
    PublishResult,
    Write,
)
from crucible.errors import BrokerError, BrokerUnavailable, NothingStored

if TYPE_CHECKING:
    from collections.abc import Sequence


class Gate:
    """A sender that answers when it is let, and keeps what it was given."""

    def __init__(self) -> None:
        self.flushes: list[list[bytes]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None
        self.begun = asyncio.Event()
        self.reached = True

    async def send(self, writes: Sequence[Write]) -> Sequence[PublishResult]:
        """Keep the flush and wait for the gate."""
        self.flushes.append([raw for write in writes for raw in write.messages])
        self.begun.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [PublishResult(len(write.messages)) for write in writes]


class Seen:
    """A hook that keeps what it was told."""

    def __init__(self) -> None:
        self.flushes: list[tuple[int, int, bool]] = []

    def flushed(self, messages: int, size_bytes: int, took_s: float, *, failed: bool) -> None:
        """Keep it."""
        assert took_s >= 0
        self.flushes.append((messages, size_bytes, failed))


async def test_what_piles_up_goes_together() -> None:
    """The first write leaves at once, all that come meanwhile go in the next flush."""
    gate, seen = Gate(), Seen()
    gate.open.clear()
    async with GroupCommit(gate, 5, seen) as commit:
        first = commit.add("q", "q", (b"first",))
        await gate.begun.wait()
        rest = [commit.add("q", "q", (b"%d" % n,)) for n in range(10)]
        gate.open.set()
        results = await asyncio.gather(first, *rest)
    assert results == [PublishResult(1)] * 11
    assert gate.flushes == [[b"first"], [b"%d" % n for n in range(10)]]
    assert seen.flushes == [(1, 5, False), (10, 10, False)]


async def test_flushes_are_bounded() -> None:
    """Neither the count nor the bytes of a flush exceed their bounds, one large write aside."""
    gate = Gate()
    async with GroupCommit(gate, 5) as commit:
        many = [commit.add("q", "q", (b"x",)) for _ in range(2 * MAX_FLUSH_MESSAGES + 1)]
        await asyncio.gather(*many)
        assert [len(flush) for flush in gate.flushes] == [MAX_FLUSH_MESSAGES] * 2 + [1]
        gate.flushes.clear()
        sizes = [MAX_FLUSH_BYTES - 1, 1, 1, MAX_FLUSH_BYTES + 1, 1]
        await asyncio.gather(*(commit.add("q", "q", (b"x" * size,)) for size in sizes))
        assert [list(map(len, flush)) for flush in gate.flushes] == [
            sizes[:2], sizes[2:3], sizes[3:4], sizes[4:],
        ]  # fmt: skip


async def test_silence_fails_all_who_wait() -> None:
    """When a flush gets no answer, it and all behind it fail at its deadline."""
    gate, seen = Gate(), Seen()
    gate.open.clear()
    async with GroupCommit(gate, 0.2, seen) as commit:
        first = commit.add("q", "q", (b"1",))
        await gate.begun.wait()
        behind = commit.add("q", "q", (b"2",))
        results = await asyncio.gather(first, behind, return_exceptions=True)
        # What waited behind was not sent, and that is worth knowing.
        assert [type(result) for result in results] == [BrokerUnavailable, NothingStored]
        assert results[0] is not results[1]
        assert gate.flushes == [[b"1"]]
        gate.open.set()
        assert await commit.add("q", "q", (b"3",)) == PublishResult(1)
    assert [failed for _, _, failed in seen.flushes] == [True, False]


@pytest.mark.parametrize("error", [BrokerError("refused"), KeyError("a defect")], ids=repr)
async def test_a_failed_flush_is_told_and_outlived(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a flush fails of, its callers are told and the next one runs."""
    gate = Gate()
    async with GroupCommit(gate, 5) as commit:
        gate.error = error
        with pytest.raises(BrokerError):
            await commit.add("q", "q", (b"1",))
        gate.error = None
        assert await commit.add("q", "q", (b"2",)) == PublishResult(1)
    assert bool(caplog.records) == isinstance(error, KeyError)


async def test_an_outage_leaves_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """However many flushes fail: whoever submits is told, and so is whoever runs the service."""
    gate = Gate()
    gate.error = NothingStored("it cannot write to its disk")
    async with GroupCommit(gate, 5) as commit:
        for _ in range(3):
            with pytest.raises(NothingStored):
                await commit.add("q", "q", (b"1",))
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "it cannot write to its disk" in caplog.text


async def test_cancelled_before_its_flush() -> None:
    """A write whose caller went away while it waited is not sent."""
    gate = Gate()
    gate.open.clear()
    async with GroupCommit(gate, 5) as commit:
        first = commit.add("q", "q", (b"1",))
        await gate.begun.wait()
        gone, stays = commit.add("q", "q", (b"2",)), commit.add("q", "q", (b"3",))
        gone.cancel()
        gate.open.set()
        await asyncio.gather(first, stays)
    assert gate.flushes == [[b"1"], [b"3"]]


async def test_leaving_with_a_silent_server() -> None:
    """Closing does not hang on a server that never answers, and leaves nobody waiting."""
    gate = Gate()
    gate.open.clear()
    async with GroupCommit(gate, 0.2) as commit:
        waiting = commit.add("q", "q", (b"1",))
        await gate.begun.wait()
    with pytest.raises(BrokerUnavailable) as caught:
        await waiting
    assert not isinstance(caught.value, NothingStored)
    with pytest.raises(NothingStored):
        commit.add("q", "q", (b"2",))


@pytest.mark.parametrize("reached", [True, False])
async def test_a_flush_that_is_cancelled_says_what_is_known(
    reached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Not sent, nothing was stored; and that somebody stopped it is no outage."""
    gate = Gate()
    gate.open.clear()
    gate.reached = reached
    async with GroupCommit(gate, 5) as commit:
        waiting = commit.add("q", "q", (b"1",))
        await gate.begun.wait()
        flusher = commit._flusher
        assert flusher is not None
        flusher.cancel()
        with pytest.raises(BrokerUnavailable) as caught:
            await waiting
    assert isinstance(caught.value, NothingStored) is not reached
    assert caplog.records == []


@pytest.mark.parametrize("error", [BrokerUnavailable("reset"), None], ids=repr)
async def test_a_server_that_was_never_reached_stored_nothing(error: Exception | None) -> None:
    """A flush that fails or runs out of time before a connection is open was not sent."""
    gate = Gate()
    gate.reached = False
    gate.error = error
    if error is None:
        gate.open.clear()
    async with GroupCommit(gate, 0.2) as commit:
        with pytest.raises(NothingStored):
            await commit.add("q", "q", (b"1",))


class _Refuses:
    """Waits for a write and breaks when told."""

    def done(self) -> bool:
        """It still waits."""
        return False

    def set_result(self, result: PublishResult, /) -> None:
        """Break."""
        raise KeyError("a defect")

    def set_exception(self, error: BrokerError, /) -> None:
        """Break."""
        raise KeyError("a defect")


@pytest.mark.parametrize("error", [None, BrokerError("refused")], ids=repr)
async def test_one_who_breaks_when_told_breaks_alone(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The others of its flush are told all the same, and the next flush runs."""
    gate = Gate()
    gate.error = error
    async with GroupCommit(gate, 5) as commit:
        commit.put("q", "q", (b"1",), None, _Refuses())
        told = await asyncio.gather(commit.add("q", "q", (b"2",)), return_exceptions=True)
        assert isinstance(told[0], BrokerError if error else PublishResult)
        gate.error = None
        assert await commit.add("q", "q", (b"3",)) == PublishResult(1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
