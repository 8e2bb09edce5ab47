"""Time limits of tasks that have none of their own."""

from __future__ import annotations

from typing import Any

from crucible.platform_tasks import build_registry
from crucible.settings import load_settings
from crucible.worker import TaskContext, TaskRegistry


def test_only_tasks_without_limits_get_them() -> None:
    """And none of those that are named."""
    registry = TaskRegistry()

    async def function(ctx: TaskContext) -> None:
        """Nothing."""

    registry.task("own", soft_time_limit=5)(function)
    registry.task("named")(function)
    registry.task("other")(function)
    registry.limit(600, 900, but={"named"})
    limits = {one.name: (one.soft_time_limit, one.time_limit) for one in registry}
    assert limits == {"own": (5, None), "named": (None, None), "other": (600, 900)}


def test_those_of_the_platform_are_the_settings() -> None:
    """Programs are bounded by their own limits, a step of a pipeline by an hour."""
    tasks = build_registry(load_settings({}))
    found: dict[str, Any] = {one.name: (one.soft_time_limit, one.time_limit) for one in tasks}
    assert found["tasks.process_assessment"] == (600, 900)
    assert found["tasks.cleanup"] == (600, 900)
    assert found["tasks.evaluate_code"] == (None, None)
    assert found["tasks.run_safety_tests"] == (3600, 3660)
    off = build_registry(
        load_settings({}, flags={"task_soft_time_limit_s": 0, "task_time_limit_s": 0})
    )
    assert {one.time_limit for one in off if one.name == "tasks.cleanup"} == {None}
