"""A mistake in a task's definition is an error where it is made, which names the task."""

from __future__ import annotations

from typing import Any

import pytest

from crucible.worker.registry import TaskRegistry


async def fine(ctx: object, x: int = 0) -> None:
    """A task."""


def anything(*args: Any) -> None:
    """A task that takes what comes."""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rate_limit", "abc"),
        ("rate_limit", "10/d"),
        ("rate_limit", "-1/s"),
        ("rate_limit", "nan"),
        ("time_limit", -1.0),
        ("soft_time_limit", float("nan")),
        ("max_retries", -1),
        ("retry_delay_s", -0.1),
    ],
)
def test_options_without_a_meaning(option: str, value: object) -> None:
    """The error names the task and the option."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ValueError, match=rf"task 'p\.fine': {option} is"):
        TaskRegistry().task("p.fine", **options)(fine)


def test_a_soft_limit_comes_before_the_hard_one() -> None:
    """Limits that contradict each other are refused; equal ones are not."""
    with pytest.raises(ValueError, match="soft_time_limit of 5 s comes after"):
        TaskRegistry().task("p.fine", time_limit=1, soft_time_limit=5)(fine)
    TaskRegistry().task("p.fine", time_limit=5, soft_time_limit=5, rate_limit="10/m")(fine)


def test_a_function_takes_the_context() -> None:
    """Without a parameter for it every call would fail."""

    async def bare() -> None:
        """No context."""

    async def named(*, ctx: object) -> None:
        """A context that is never passed by name."""

    for function in (bare, named):
        with pytest.raises(TypeError, match=r"task 'p\.bare': .* context"):
            TaskRegistry().task("p.bare")(function)
    TaskRegistry().task("p.any")(anything)


def test_the_decorator_needs_a_name() -> None:
    """Without parentheses the function was swallowed."""
    bare: Any = TaskRegistry().task
    with pytest.raises(TypeError, match=r'@registry\.task\("proj\.tasks\.fine"\)'):
        bare(fine)
