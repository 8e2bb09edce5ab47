"""A lock of many who ask the same: a failure is shared, anything else is not."""

from __future__ import annotations

import asyncio

import pytest

from crucible.errors import BrokerUnavailable
from crucible.fail_fast_lock import FailFastLock


class Question:
    """Asks under the lock; answers when it is let, with the errors it was given in turn."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.lock = FailFastLock()
        self.asked = 0
        self.answer = asyncio.Event()
        self._errors = list(errors)

    async def ask(self) -> int:
        """The number of the question."""
        async with self.lock.hold():
            self.asked += 1
            number = self.asked
            await self.answer.wait()
            error = self._errors.pop(0) if self._errors else None
            if error is not None:
                raise error
            return number

    async def begun(self, count: int) -> list[asyncio.Task[int]]:
        """So many who ask at once; the first of them holds the lock."""
        tasks = [asyncio.create_task(self.ask()) for _ in range(count)]
        await asyncio.sleep(0)
        return tasks


async def test_who_waited_while_one_failed_shares_its_failure() -> None:
    """One deadline for all of them, not one after the other."""
    question = Question(BrokerUnavailable("silent"))
    tasks = await question.begun(5)
    question.answer.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(end) for end in ends] == ["silent"] * 5
    assert question.asked == 1
    assert await question.ask() == 2


async def test_who_comes_after_the_failure_asks_for_itself() -> None:
    """Also while others who came before have not been told yet."""
    question = Question(BrokerUnavailable("silent"))
    tasks = await question.begun(3)
    question.answer.set()
    assert isinstance((await asyncio.gather(tasks[0], return_exceptions=True))[0], Exception)
    later = asyncio.create_task(question.ask())
    ends = await asyncio.gather(*tasks, later, return_exceptions=True)
    assert [type(end) for end in ends] == [BrokerUnavailable] * 3 + [int]


async def test_successes_are_not_shared() -> None:
    """Whether the answer of before still holds is the caller's business."""
    question = Question()
    tasks = await question.begun(3)
    question.answer.set()
    assert await asyncio.gather(*tasks) == [1, 2, 3]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("a defect")], ids=repr)
async def test_what_is_no_failure_of_the_downstream_is_not_shared(error: BaseException) -> None:
    """Whoever hung up had asked for itself alone; the next asks again."""
    question = Question(error)
    tasks = await question.begun(2)
    question.answer.set()
    first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, type(error))
    assert second == 2


async def test_one_who_gives_up_while_it_waits_hinders_nobody() -> None:
    """Its place is given up, and nothing is kept for it."""
    question = Question(BrokerUnavailable("silent"))
    tasks = await question.begun(3)
    tasks[1].cancel()
    await asyncio.sleep(0)
    question.answer.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [
        BrokerUnavailable,
        asyncio.CancelledError,
        BrokerUnavailable,
    ]
    assert question.lock._failure is None
