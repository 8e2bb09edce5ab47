"""The stream of an assessment's progress, and that all ways to ask for it agree."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.api_rig import running_api
from support.assessment_rig import WAIT_S, Programs, ask, case, serving, started, until
from support.event_rig import following

from crucible.broker import Publisher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.event_rig import Sse

OVER = ("completed", "failed", "cancelled")


def in_order(events: Sequence[Sse]) -> bool:
    """Whether no event goes back."""
    found = [(one.data["seq"], one.data["progress"]) for one in events]
    return found == sorted(found) and len({seq for seq, _ in found}) == len(found)


async def test_the_stream_goes_to_the_end(redis_url: str) -> None:
    """It begins with what is, agrees with the task API and stock's result, and has the end."""
    programs = Programs()
    async with (
        running_api(redis_url) as client,
        Publisher.connect(redis_url) as publisher,
        serving(redis_url, programs),
    ):
        href = await started(client, cases=[*(case() for _ in range(9)), case(hold=True)])
        events: list[Sse] = []
        async with following(client, f"{href}/events") as stream:
            while not events or events[-1].data["progress"] < 89.1:
                event = await stream.next()
                assert event is not None
                events.append(event)
            shown = events[-1].data
            task_id = shown["task_id"]
            async with asyncio.timeout(WAIT_S):
                while True:
                    meta = await publisher.results.meta(task_id)
                    if meta is not None and meta.result["progress"] == shown["progress"]:
                        break
                    await asyncio.sleep(0.02)
            _, task = await ask(client, "GET", f"/tasks/{task_id}")
            assert task["info"] == meta.result
            assert task["info"]["progress"] == shown["progress"]
            programs.released.set()
            events += await stream.all()
            assert in_order(events)
            assert {one.name for one in events} == {"assessment"}
            assert {one.data["assessment_id"] for one in events} == {href.rpartition("/")[2]}
            end: dict[str, Any] = events[-1].data
            assert (end["status"], end["verdict"], end["progress"]) == ("completed", "passed", 100)
        headers = {"Last-Event-ID": events[-1].id}
        async with client.get(f"{href}/events", headers=headers) as response:
            assert response.status == 204
        async with following(client, f"{href}/events", events[0].id) as stream:
            (again,) = await stream.all()
            assert again.data == end
        # The same of one that ended before anybody asked.
        async with following(client, f"{href}/events") as stream:
            assert [one.data for one in await stream.all()] == [end]


async def test_a_cancelled_assessment_ends_its_stream(redis_url: str) -> None:
    """And one that nobody has is not found."""
    async with running_api(redis_url) as client:
        href = await started(client, cases=[case()])
        async with following(client, f"{href}/events") as stream:
            first = await stream.next()
            assert first is not None
            assert first.data["status"] == "queued"
            await ask(client, "DELETE", href)
            rest = await stream.all()
        assert rest[-1].data["status"] == "cancelled"
        await until(client, href, *OVER)
        status, _ = await ask(client, "GET", "/api/v1/assessments/none/events")
        assert status == 404
        async with client.get(f"{href}/events", headers={"Last-Event-ID": "x"}) as response:
            assert response.status == 422
