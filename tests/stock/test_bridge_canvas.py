"""What tasks of a registry send, replace and add, served by a stock worker of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker
from support.patience import PATIENCE_S

from crucible.broker.canvas.signature import Signature, chain, chord, group, signature
from crucible.broker.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.stock

ADD = signature("rig.add", (1, 1))
XSUM = signature("rig.xsum")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def publisher(redis_server: Any) -> AsyncIterator[Publisher]:
    url = f"redis://127.0.0.1:{redis_server.port}/0"
    worker = StockWorker(
        PROJECT, url, app="support.canvas_stock_app", pool="prefork", concurrency=2
    )
    async with worker, Publisher.connect(url) as publisher:
        yield publisher


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (chain(signature("rig.replaced", (3, 4)), signature("rig.add", (2,))), 9),
        (chain(signature("rig.replaced_by", (group([ADD, ADD]),)), XSUM), 4),
        (chord([signature("rig.grow_chord", (5,)), ADD], XSUM), 112),
    ],
    ids=["replaced", "replaced by a group", "a part more"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_functions_do_the_same_in_a_stock_worker(
    publisher: Publisher, work: Signature, expected: Any
) -> None:
    """Tasks that replace themselves or add to their chord come to the async workers' values."""
    handle = await publisher.send_canvas(work)
    assert await handle.get(15) == expected


@pytest.mark.asyncio(loop_scope="module")
async def test_a_task_sent_by_a_task_is_its_child(publisher: Publisher) -> None:
    """``ctx.send`` in a stock worker gives root, parent and child as stock's own would."""
    handle = await publisher.send_task("rig.spawn", [4])
    child_id = await handle.get(15)
    meta = await handle.meta()
    assert meta is not None
    assert meta.children == [[[child_id, None], None]]
    child = await publisher.results.wait(child_id, PATIENCE_S)
    assert (child.result, child.parent_id) == (5, handle.id)
