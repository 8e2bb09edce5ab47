"""Workflows through the API, the queue and workers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import running_api
from support.assessment_rig import Programs, ask, case, serving, until, waiting

from crucible.broker import Publisher
from crucible.broker.canvas.signature import chain, chord, signature

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis

PATH = "/api/v1/workflows"


def step(verdict: str = "ok", **more: Any) -> dict[str, Any]:
    """A step whose program prints what it was given."""
    return case(verdict, **more)


async def ended(client: aiohttp.ClientSession, body: dict[str, Any]) -> dict[str, Any]:
    status, made = await ask(client, "POST", PATH, body)
    assert status == 202, made
    return await until(client, made["href"])


async def test_a_chain_hands_outputs_on(redis_url: str) -> None:
    """Each step gets the output of the one before, where it asks for nothing else."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs):
        steps = [step(id="a", say="one"), step(id="b", say="two"), step(id="c", say="three")]
        found = await ended(client, {"chain": steps, "metadata": {"k": 1}})
        assert (found["status"], found["progress"]) == ("completed", 100)
        assert [one["output"] for one in found["steps"].values()] == [
            "one",
            "two<one",
            "three<two<one",
        ]
        assert found["metadata"] == {"k": 1}
        _, evaluation = await ask(client, "GET", f"/api/eval/{found['steps']['b']['eval_id']}")
        assert evaluation["metadata"] == {"workflow": found["workflow_id"], "step": "b"}


async def test_a_chord_and_steps_in_any_order(redis_url: str) -> None:
    """A body gets all outputs in order; inputs go to stdin, files, arguments, variables."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs):
        header = [step(say="x"), step(say="y"), step(say="z")]
        found = await ended(
            client, {"chord": {"header": header, "body": step(say="all", id="end")}}
        )
        assert found["steps"]["end"]["output"] == "all<xyz"
        inputs = [
            {"from": ["one", "two"], "as": "file", "name": "in.txt"},
            {"from": "two", "as": "arg"},
            {"from": "one", "as": "env", "name": "GIVEN"},
            {"from": "two"},
        ]
        steps = [
            step(id="last", inputs=inputs, show=True),
            step(id="one", say="1\n"),
            step(id="two", say="2\n", inputs=[{"from": "one", "as": "arg"}]),
        ]
        found = await ended(client, {"steps": steps})
        given = json.loads(found["steps"]["last"]["output"])
        assert given == {
            "stdin": "2\n",
            "args": ["2"],
            "env": {"GIVEN": "1"},
            "files": [
                {"name": "in.txt", "content": "1\n2\n", "encoding": "utf-8", "executable": False}
            ],
        }


async def test_what_waits_for_a_failure_is_skipped(redis_url: str) -> None:
    """The rest runs on, and the workflow has failed."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs, concurrency=1):
        steps = [
            step("timeout", id="bad"),
            step(id="after", inputs=[{"from": "bad"}]),
            step(id="later", inputs=[{"from": "after"}]),
            step(id="beside"),
        ]
        found = await ended(client, {"steps": steps})
        assert found["status"] == "failed"
        statuses = {name: one["status"] for name, one in found["steps"].items()}
        assert statuses == {
            "bad": "failed", "after": "skipped", "later": "skipped", "beside": "completed"
        }  # fmt: skip
        assert found["steps"]["bad"]["verdict"] == "timeout"
        assert sorted(programs.ran) == [f"wf-{found['workflow_id']}-{n}" for n in (0, 3)]


async def test_cancelling_stops_all_of_it(redis_url: str, redis: Redis) -> None:
    """What runs is stopped, what waits never runs, nothing stays queued."""
    programs = Programs()
    async with running_api(redis_url) as client, serving(redis_url, programs):
        body = {"workflow_id": "w", "chain": [step(id="a", hold=True), step(id="b")]}
        status, made = await ask(client, "POST", PATH, body)
        assert status == 202
        assert (await ask(client, "POST", PATH, body))[0] == 200
        assert (await ask(client, "POST", PATH, body | {"name": "z"}))[0] == 409
        async with asyncio.timeout(30):
            while not programs.ran:
                await asyncio.sleep(0.02)
        status, found = await ask(client, "DELETE", made["href"])
        assert (status, found["status"]) == (200, "cancelled")
        async with asyncio.timeout(30):
            while found["steps"]["a"]["status"] != "cancelled" or await waiting(redis):
                await asyncio.sleep(0.05)
                _, found = await ask(client, "GET", made["href"])
        assert found["steps"]["b"]["status"] == "cancelled"
        assert programs.ran == ["wf-w-0"]


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (
            {"steps": [step(id="a", inputs=[{"from": "b"}]), step(id="b", inputs=[{"from": "a"}])]},
            "steps[",
            "waits for itself",
        ),
        ({"steps": [step(id="a", inputs=[{"from": "a"}])]}, "steps[0].inputs[0].from", '"a"'),
        ({"group": [step(), step(inputs=[{"from": "x"}])]}, "group[1].inputs[0].from", '"x"'),
        ({"chain": [step(id="a"), step(id="a")]}, "chain[1].id", "chain[0]"),
        ({"chain": [step(), step(language="cobol")]}, "chain[1].language", "cobol"),
        ({"chord": {"header": [], "body": step()}}, "chord.header", "empty"),
        ({"chain": []}, "chain", "empty"),
        ({"chain": [step()], "group": [step()]}, "group", "one of"),
        (
            {"steps": [step(), step(inputs=[{"from": "0", "as": "file"}])]},
            "steps[1].inputs[0].name",
            "needs a name",
        ),
    ],
)  # fmt: skip
async def test_what_could_never_run_is_refused(
    redis_url: str, redis: Redis, body: dict[str, Any], field: str, said: str
) -> None:
    """The step is named, and nothing is queued or kept."""
    async with running_api(redis_url) as client:
        status, problem = await ask(client, "POST", PATH, body | {"workflow_id": "w"})
        assert (status, problem["field"].startswith(field)) == (422, True), problem
        assert said in problem["detail"]
        assert await waiting(redis) == 0
        assert (await ask(client, "GET", f"{PATH}/w"))[0] == 404


async def test_the_same_from_a_canvas(redis_url: str) -> None:
    """Chains and chords of Celery clients hand outputs on with ``tasks.evaluate_with``."""
    programs = Programs()
    async with Publisher.connect(redis_url) as publisher, serving(redis_url, programs):
        one, two = (
            signature("tasks.evaluate_code", [name, step(say=name)["code"]], queue="evaluation")
            for name in ("a", "b")
        )
        last = signature("tasks.evaluate_with", ["c", step(say="c")["code"]], queue="evaluation")
        ran: Any = await publisher.send_canvas(chain(one, last))
        assert (await ran.get(timeout=30))["output"] == "c<a"
        ran = await publisher.send_canvas(chord([one, two], last))
        assert (await ran.get(timeout=30))["output"] == "c<ab"
