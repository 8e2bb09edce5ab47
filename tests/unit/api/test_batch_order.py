"""In which order the chunks of a batch are encoded and sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from crucible.api.batch import CHUNK, Batch
from crucible.evaluation.service import Submitted
from crucible.identity.principal import LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.errors import CrucibleError
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.service import EvaluationService
    from crucible.identity.principal import Principal


class Recorded:
    """Notes when a chunk is encoded, and when the loop could have sent it."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def submit_many(
        self, caller: Principal, asked: Sequence[EvalRequest], keys: Sequence[str | None]
    ) -> list[Submitted | CrucibleError]:
        number = sum(step.startswith("encoded") for step in self.steps)
        self.steps.append(f"encoded {number}")
        await asyncio.sleep(0)
        self.steps.append(f"sent {number}")
        return [Submitted(f"{number}-{at}", "evaluation", True) for at, _ in enumerate(asked)]


async def test_a_chunk_is_sent_while_the_next_is_encoded() -> None:
    """Else the queue server waits for the api, and the api for the queue server, in turns."""
    service = Recorded()
    batch = Batch(cast("EvaluationService", service), LOCAL, None, 1 << 20)
    await batch.take([b'{"code":"1"}'] * (5 * CHUNK))
    await batch.flush()
    await batch.settle()
    assert len(batch.accepted()) == 5 * CHUNK
    for number in range(3):
        at = service.steps.index
        assert at(f"sent {number}") < at(f"encoded {number + 2}"), service.steps
