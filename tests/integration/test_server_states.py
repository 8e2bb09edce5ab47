"""Every state in which a server does not serve, for every script, on every kind of server."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from support.patience import PATIENCE_S
from support.script_calls import ScriptCall, script_calls
from support.server_states import Stage, State, provoked, stage
from support.servers import KINDS

from crucible.broker import IdempotencyRecord, Publisher
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.link import Link
from crucible.broker.redis.scripts import script
from crucible.broker.redis.translation import translated
from crucible.broker.wire.encode import encode_task
from crucible.errors import BrokerError, NothingStored
from crucible.worker import TaskContext, TaskRegistry
from crucible.worker.worker import Worker

#: Not called by themselves: put in front of others.
INCLUDED = {"store_result"}
#: Pipelines of redis-py, and whether they are transactions.
PIPELINES = {"pipeline": False, "transaction": True}


def test_every_script_is_tried() -> None:
    """A new script must say what it does in each state."""
    names = {
        path.name.removesuffix(".lua") for path in (files("crucible.broker") / "lua").iterdir()
    }
    assert {call.script for call in script_calls()} | {"publish"} | INCLUDED == names


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_state_of_the_server_is_told_as_one(
    kind: str, state: State, tmp_path: Path
) -> None:
    """Each script either does its work, or raises the state's name and has changed nothing."""
    async with stage(tmp_path, kind, state) as on:
        for call in script_calls():
            await call.seed(on.admin)
        before = await contents(on)
        async with open_client(on.url) as client, Publisher.connect(on.url) as publisher:
            link = Link(client)
            async with provoked(on):
                raw = encode_task("add", [1, 2], task_id="t", queue="publish:q")
                record = IdempotencyRecord("publish:record", b"record", 60)
                calls: dict[str, Any] = {call.script: run(link, call) for call in script_calls()}
                calls["publish"] = publisher.publish(raw, queue="publish:q", idempotency=record)
                for name, transaction in PIPELINES.items():
                    calls[name] = run_pipeline(client, name, transaction)
                outcomes = await asyncio.gather(*map(outcome, calls.values()))
                told = dict(zip(calls, outcomes, strict=True))
        after = await contents(on)
        wrong = {name: text for name, text in told.items() if text != right(state, name)}
        assert not wrong
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        assert {name.split(b":")[0].decode() for name in changed} == {
            name for name, text in told.items() if text == "done"
        }


def right(state: State, script: str) -> str:
    """What is to be told of a state."""
    # What settles, moves or renews takes no memory that it does not give back.
    if state is State.OOM and script not in {"publish", *PIPELINES}:
        return "done"
    # Keys of one command are in one slot.
    if state is State.CROSSSLOT and script in PIPELINES:
        return "done"
    return f"nothing stored {state.value}"


async def run(link: Link, call: ScriptCall) -> None:
    """One call, with its errors translated as everywhere."""
    with translated():
        await script(call.script).run(link.call, call.keys, call.args)


@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_waits_at_a_server_that_becomes_a_replica_is_told(
    kind: str, tmp_path: Path
) -> None:
    """Nothing was taken, and waiting again is all there is to do."""
    async with stage(tmp_path, kind, State.READONLY) as on, open_client(on.url) as client:
        waiting = asyncio.create_task(outcome(wait_for_message(client)))
        async with asyncio.timeout(PATIENCE_S):
            while not (await on.admin.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0.01)
        async with provoked(on):
            told = await waiting
    assert told.startswith("nothing stored")
    assert "UNBLOCKED" in told


async def test_a_worker_without_scripts_waits_on_at_a_server_that_becomes_a_replica(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As at one that is gone: two lines, and no traceback."""
    registry = TaskRegistry()

    @registry.task("double")
    async def double(ctx: TaskContext, number: int) -> int:
        return 2 * number

    async with (
        stage(tmp_path, "embedded", State.READONLY) as on,
        Publisher.connect(on.url) as publisher,
        Worker(registry, broker_url=on.url, queues=["celery"], claim="brpop"),
    ):
        assert await (await publisher.send_task("double", [1])).get(PATIENCE_S) == 2
        async with provoked(on), asyncio.timeout(PATIENCE_S):
            while "the queue server is gone" not in caplog.text:
                await asyncio.sleep(0.01)
        assert await (await publisher.send_task("double", [2])).get(PATIENCE_S) == 4
    assert not [one.getMessage() for one in caplog.records if one.exc_info]


async def wait_for_message(client: Any) -> None:
    """As workers without scripts and sessions do."""
    with translated():
        await client.brpop(["nothing"], timeout=3)


async def run_pipeline(client: Any, name: str, transaction: bool) -> None:
    """Two commands in one round trip, the second of them a write."""
    with translated():
        async with client.pipeline(transaction=transaction) as pipe:
            pipe.get(f"{name}:key")
            pipe.set(f"{name}:key", 1)
            await pipe.execute()


async def outcome(running: Any) -> str:
    """What came of a call: ``done``, ``nothing stored`` with the state, or anything else."""
    try:
        await running
    except NothingStored as error:
        return f"nothing stored {_word(str(error))}"
    except BrokerError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - what no translation caught is what is looked for
        return f"untranslated: {error!r}"
    return "done"


def _word(text: str) -> str:
    """The state's name in a message, or all of the message."""
    return next((state.value for state in State if state.value in text), text)


async def contents(on: Stage) -> dict[bytes, bytes]:
    """Every key, as the server would write it to disk."""
    keys = await on.admin.keys("*:*")
    return {key: await on.admin.dump(key) for key in keys}
