"""The reward loop of an RL trainer, through SandboxFusion's facade and through the API itself.

``python -m benchmarks.reward_loop`` starts an installation of its own, or takes ``--url``. Each
request is one test of one program, with 256 in flight; one in twenty never ends and one in fifty
asks for more memory than it may have. As verl does, a 504 is sent again, and every other answer is
a reward. It ends with 1 when a reward is wrong, one was lost, or the facade's throughput is less
than four fifths of the API's. Both take turns, so that what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from crucible.embedded.lifeline import end_with_parent
from crucible.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

IN_FLIGHT, REQUESTS, ROUNDS = 256, 512, 3
#: Shares of the programs that never end, and that take more memory than they may have.
ENDLESS, HOGS = 0.05, 0.02
RUN_S, COMPILE_S, MEMORY_MB = 2.0, 10.0, 64
#: Least throughput of the facade, of the API's.
LEAST = 0.8
#: Times that a request is sent again, and seconds between.
RETRIES, PAUSE_S = 20, 0.5
START_S = 120.0

GOOD = "print(sum(map(int, input().split())))"
LOOP = "while True: pass"
HOG = "x = 'x' * (1 << 29)\nprint(len(x))"


@dataclass(frozen=True)
class Case:
    """One request: a program, and the reward that it deserves."""

    code: str
    stdin: str
    expected: str
    reward: float


@dataclass
class Tally:
    """What came of one side's requests.

    Attributes:
        seconds: they took.
        answered: how many had a reward.
        wrong: rewards that were not deserved, each in words.
        lost: requests without a reward.
        sent_again: answers that had to be asked for again.
    """

    seconds: float = 0.0
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    sent_again: int = 0

    @property
    def rate(self) -> float:
        """Rewards a second."""
        return self.answered / self.seconds if self.seconds else 0.0


def cases(count: int, seed: int) -> list[Case]:
    """Programs in the mixture of a reward loop."""
    chance = random.Random(seed)
    kinds = ["endless"] * round(count * ENDLESS) + ["hog"] * round(count * HOGS)
    kinds += ["good"] * (count - len(kinds))
    chance.shuffle(kinds)
    return [_case(kind, chance) for kind in kinds]


def _case(kind: str, chance: random.Random) -> Case:
    if kind == "endless":
        return Case(LOOP, "", "", 0.0)
    if kind == "hog":
        return Case(HOG, "", f"{1 << 29}\n", 0.0)
    one, other = chance.randrange(1000), chance.randrange(1000)
    # One in ten gives the wrong answer, as programs of a model do.
    off = 1 if chance.random() < 0.1 else 0
    reward = 0.0 if off else 1.0
    return Case(GOOD, f"{one} {other}\n", f"{one + other + off}\n", reward)


async def by_facade(client: aiohttp.ClientSession, case: Case) -> float | None:
    """A reward through SandboxFusion's ``/run_code``; None where it is to be asked again."""
    body = {
        "code": case.code,
        "stdin": case.stdin,
        "language": "python",
        "run_timeout": RUN_S,
        "compile_timeout": COMPILE_S,
        "memory_limit_MB": MEMORY_MB,
        "files": {},
        "fetch_files": [],
    }
    async with client.post("/run_code", json=body) as response:
        if response.status == 504:
            return None
        answer = await response.json()
        if response.status != 200 or answer["status"] == "SandboxError":
            raise LostReward(f"{response.status} {answer}")
    ran = answer["run_result"]
    good = answer["status"] == "Success" and ran["stdout"] == case.expected
    return 1.0 if good else 0.0


async def by_api(client: aiohttp.ClientSession, case: Case) -> float | None:
    """The same through ``POST /api/eval``."""
    limits = {"wall_time_s": RUN_S, "cpu_time_s": RUN_S, "memory_mb": MEMORY_MB}
    body = {"code": case.code, "stdin": case.stdin, "limits": limits}
    async with client.post("/api/eval?wait=20", json=body) as response:
        if response.status in (429, 503):
            return None
        answer = await response.json()
        if response.status not in (200, 202):
            raise LostReward(f"{response.status} {answer}")
    while answer["status"] not in ("completed", "failed", "cancelled"):
        async with client.get(f"/api/eval/{answer['eval_id']}?wait=20") as response:
            answer = await response.json()
    if answer["verdict"] in ("internal_error", "cancelled", "expired"):
        raise LostReward(str(answer))
    good = answer["verdict"] == "ok" and answer["output"] == case.expected
    return 1.0 if good else 0.0


class LostReward(Exception):  # noqa: N818 - what happened
    """A request came to no reward."""


async def measure(
    client: aiohttp.ClientSession,
    ask: Callable[[aiohttp.ClientSession, Case], Awaitable[float | None]],
    asked: list[Case],
    in_flight: int,
    tally: Tally,
) -> None:
    """Send every case, so many at once, and count what comes."""
    waiting = iter(asked)

    async def one_after_the_other() -> None:
        for case in waiting:
            await _reward(client, ask, case, tally)

    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(asked))):
            group.create_task(one_after_the_other())
    tally.seconds += time.monotonic() - began_s


async def _reward(
    client: aiohttp.ClientSession,
    ask: Callable[[aiohttp.ClientSession, Case], Awaitable[float | None]],
    case: Case,
    tally: Tally,
) -> None:
    for _ in range(RETRIES):
        try:
            reward = await ask(client, case)
        except (LostReward, aiohttp.ClientError, TimeoutError) as error:
            tally.lost += 1
            tally.wrong.append(f"lost: {error}")
            return
        if reward is not None:
            tally.answered += 1
            if reward != case.reward:
                tally.wrong.append(f"{reward} for {case}")
            return
        tally.sent_again += 1
        await asyncio.sleep(PAUSE_S)
    tally.lost += 1


async def compare(
    url: str, *, requests: int = REQUESTS, rounds: int = ROUNDS, in_flight: int = IN_FLIGHT
) -> tuple[Tally, Tally]:
    """Both sides, in turns; the facade's tally and the API's."""
    facade, api = Tally(), Tally()
    timeout = aiohttp.ClientTimeout(total=RUN_S + COMPILE_S + 30)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as client:
        for number in range(rounds):
            asked = cases(requests, number)
            turns = [(by_facade, facade), (by_api, api)]
            for ask, tally in turns if number % 2 else reversed(turns):
                await measure(client, ask, asked, in_flight, tally)
    return facade, api


def verdict(facade: Tally, api: Tally) -> list[str]:
    """What is not as it is to be, in words."""
    faults = []
    for name, tally in (("facade", facade), ("api", api)):
        if tally.wrong:
            faults.append(f"{name}: {len(tally.wrong)} rewards wrong, such as {tally.wrong[0]}")
        if tally.lost:
            faults.append(f"{name}: {tally.lost} lost")
    if facade.rate < LEAST * api.rate:
        faults.append(f"facade: {facade.rate:.1f}/s, the API {api.rate:.1f}/s")
    return faults


@contextmanager
def installation(isolation: str) -> Iterator[str]:
    """``crucible up`` on data of its own; its address."""
    port = free_port()
    kept = {name: text for name, text in os.environ.items() if not name.startswith("CRUCIBLE_")}
    with tempfile.TemporaryDirectory(prefix="crucible-rewards-") as data:
        up = ["up", "--port", str(port), "--data-dir", str(Path(data) / "up")]
        command = [sys.executable, "-m", "crucible", *up, "--isolation", isolation]
        kept["CRUCIBLE_LOG_LEVEL"] = "warning"
        with subprocess.Popen(
            command,
            env=kept,
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - no other threads
        ) as process:
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


@asynccontextmanager
async def ready(url: str) -> AsyncIterator[None]:
    """Wait until a worker is there."""
    async with asyncio.timeout(START_S), aiohttp.ClientSession(url) as client:
        while True:
            try:
                async with client.get("/ready") as response:
                    if (await response.json()).get("workers_connected"):
                        break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.3)
    yield


async def run(arguments: argparse.Namespace, url: str) -> int:
    """Measure and report; the exit code."""
    async with ready(url):
        facade, api = await compare(
            url,
            requests=arguments.requests,
            rounds=arguments.rounds,
            in_flight=arguments.in_flight,
        )
    kinds = Counter(case.code for case in cases(arguments.requests, 0))
    print(f"{arguments.in_flight} in flight, {kinds[LOOP]} endless and {kinds[HOG]} hogs a round")
    for name, tally in (("facade", facade), ("api", api)):
        print(
            f"{name:7} {tally.rate:7.1f}/s  {tally.answered} rewards, {len(tally.wrong)} wrong, "
            f"{tally.lost} lost, {tally.sent_again} sent again"
        )
    print(f"facade : api {facade.rate / api.rate if api.rate else 0:.2f}")
    faults = verdict(facade, api)
    for fault in faults:
        print(f"FAIL {fault}")
    return 1 if faults else 0


def main(words: Sequence[str] | None = None) -> int:
    """Read the arguments, the command line's by default, and run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an installation; one of its own by default")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each side and round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    parser.add_argument("--isolation", choices=("container", "nested"), default="nested")
    arguments = parser.parse_args(words)
    if arguments.url:
        return asyncio.run(run(arguments, arguments.url))
    with installation(arguments.isolation) as url:
        return asyncio.run(run(arguments, url))


if __name__ == "__main__":
    sys.exit(main())
