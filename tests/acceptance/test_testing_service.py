"""What ``crucible.testing`` offers, with real sandboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.client import Crucible
from crucible.testing import eager_evaluations
from crucible.testing.fixtures import crucible_service

if TYPE_CHECKING:
    from crucible.testing import RunningService

__all__ = ["crucible_service"]


async def test_evaluations_without_a_queue() -> None:
    """The same executor and the same results, graded programs included."""
    async with eager_evaluations() as evaluations:
        ended = await evaluations.evaluate("print(input())", stdin="hi", isolation="nested")
        assert (ended.verdict, ended.output) == ("ok", "hi\n")
        tests = [{"stdin": "1", "expected": "1"}, {"stdin": "2", "expected": "3"}]
        graded = await evaluations.evaluate("print(input())", tests=tests)
        assert (graded.verdict, graded.passed) == ("wrong_answer", 1)


def test_the_fixture_is_a_whole_service(crucible_service: RunningService) -> None:
    """Without an event loop of the test's own."""
    with Crucible(crucible_service.url) as client:
        assert client.run("print(6 * 7)", isolation="nested").output == "42\n"
