"""How far a pipeline is, under the id of ``tasks.evaluate_ai_model``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from crucible.pipelines.progress import WAITING, PipelineProgress
from crucible.pipelines.record import Order, PipelineStore
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.worker import TaskContext


class Step:
    """The context of a step that keeps what it stores."""

    id = "whole-run_safety_tests"

    def __init__(self) -> None:
        self.whole: list[float] = []
        self.own: list[float] = []

    async def update_state(
        self, state: str, meta: dict[str, Any], *, task_id: str | None = None
    ) -> None:
        assert state == "PROGRESS"
        assert task_id in (None, "whole")
        (self.own if task_id is None else self.whole).append(meta["progress"])


async def test_what_begins_anew_does_not_go_back(redis: Redis) -> None:
    """A step that died and runs again has less behind it; the pipeline has not."""
    store = PipelineStore(redis, Keys())
    order = Order(
        pipeline_id="p", task_id="whole", model_id="m", sha256=None, resources={}, max_mb=1,
        pass_score=1.0, cases=[], tenant="local",
    )  # fmt: skip
    await store.begin(order)
    for _ in range(2):
        step = Step()
        progress = PipelineProgress(cast("TaskContext", step), store, order)
        for name, share in (WAITING, 0.0), ("downloading", 50.0), ("safety tests", 100.0):
            await progress.note(name, "it goes on", share)
        assert step.own == [0.0, 50.0, 100.0]
        assert step.whole in ([0.0, 10.5, 99.0], [99.0, 99.0, 99.0])
    assert step.whole == [99.0] * 3
    await store.end("p")
    await progress.note("downloading", "a late one", 1.0)
    assert step.whole == [99.0] * 3
    assert await redis.exists(Keys().pipeline("p")) == 0
