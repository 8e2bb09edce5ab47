"""The reward loop of an RL trainer: SandboxFusion's facade, the API, and bare child processes.

One installation of nested sandboxes serves all turns, so that facade and API meet the same lanes.
The bare processes are given as many slots as its worker has: the same programs with the same limits
and no sandbox, queue or HTTP. ``python -m benchmarks.reward_loop`` is the longer form.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.reward_loop import (
    COMPILE_S,
    IN_FLIGHT,
    RUN_S,
    Tally,
    by_api,
    by_facade,
    cases,
    installation,
    ready,
)
from benchmarks.reward_loop import (
    measure as send_all,
)
from benchmarks.scenario import Bench, Scenario, Stage, Subject, plain_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FACADE, API, BARE = "facade", "api", "bare processes"
#: Requests of one turn.
REQUESTS = 96
#: Programs that a worker runs at once where nothing else is configured.
SLOTS = max(2, os.cpu_count() or 1)
_ASK = {FACADE: by_facade, API: by_api}


@asynccontextmanager
async def open_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """An installation whose worker is there."""
    timeout = aiohttp.ClientTimeout(total=RUN_S + COMPILE_S + 30)
    async with plain_stage(bench, scenario) as stage:
        with installation("nested") as url:
            async with (
                ready(url),
                aiohttp.ClientSession(
                    url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
                ) as client,
            ):
                stage.more["client"] = client
                yield stage


async def measure(stage: Stage, label: str) -> None:
    """Every program of the mixture once."""
    count, seed = stage.bench.count(REQUESTS, least=20), stage.bench.repeat
    if label == BARE:
        async with stage.driven(label) as bare:
            answer = await bare.run(count=count, seed=seed, slots=SLOTS)
        stage.record(label, "rewards_per_s", count / answer["elapsed_s"])
        stage.record(label, "wrong_or_lost_count", answer["wrong"])
        return
    tally = Tally()
    await send_all(stage.more["client"], _ASK[label], cases(count, seed), IN_FLIGHT, tally)
    stage.record(label, "rewards_per_s", tally.rate)
    stage.record(label, "wrong_or_lost_count", len(tally.wrong) + count - tally.answered)
    stage.record(label, "sent_again_count", tally.sent_again)


SCENARIO = Scenario(
    name="rewards",
    summary="the reward loop of a trainer, one test of one program a request",
    subjects={label: Subject("bare_rewards") for label in (FACADE, API, BARE)},
    open=open_stage,
    measure=measure,
    turn_s=8.0,
)
