"""Programs that talk to an interactor, in each isolation and through an executor service."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from crucible.executor import ExecutorConfig, open_executor
from crucible.executor.docker import DockerExecutor
from crucible.executor.service import open_service
from crucible.grading.models import Grader, Grading, GradingTest, Judgement
from crucible.models import Limits, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor import Executor
    from crucible.models import Isolation

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
#: Answers guesses at a number; whoever needs more than ten, or says something else, is wrong.
INTERACTOR = """
import sys
wanted = int(open(sys.argv[1]).read())
for _ in range(10):
    line = sys.stdin.readline()
    if not line.strip().isdigit():
        print("no number:", repr(line), file=sys.stderr)
        sys.exit(2)
    guess = int(line)
    print("low" if guess < wanted else "high" if guess > wanted else "yes", flush=True)
    if guess == wanted: sys.exit(0)
print("too many guesses", file=sys.stderr)
sys.exit(1)
"""
BISECTION = """
low, high = 0, 1000
while True:
    guess = (low + high) // 2
    print(guess, flush=True)
    match input():
        case "low": low = guess + 1
        case "high": high = guess - 1
        case "yes": break
"""
ONE_BY_ONE = BISECTION.replace("(low + high) // 2", "low")
#: Waits for an answer to what it has not flushed.
UNFLUSHED = BISECTION.replace("flush=True", "end='', flush=True")
LOOPS = "print(500, flush=True)\ninput()\nwhile True: pass"
SLEEPS = "import time\nprint(500, flush=True)\ninput()\ntime.sleep(100)"
CRASHES = "print(500, flush=True)\ninput()\n1 / 0"
WORDS = "print('five hundred', flush=True)\ninput()"
HOGS = "print(500, flush=True)\ninput()\nb'x' * (300 << 20)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local() -> AsyncIterator[DockerExecutor]:
    config = ExecutorConfig(owner=f"interactors-{os.getpid()}-local", pool_min=1, pool_max=2)
    async with DockerExecutor.open(config) as executor:
        yield executor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def remote() -> AsyncIterator[Executor]:
    config = ExecutorConfig(owner=f"interactors-{os.getpid()}-remote", pool_min=1, pool_max=2)
    async with open_service(config) as url, open_executor(ExecutorConfig(urls=(url,))) as executor:
        yield executor


@pytest.fixture(params=["container", "nested", "remote"])
def place(request: pytest.FixtureRequest) -> tuple[Executor, Isolation]:
    """Where a program is graded."""
    kind: str = request.param
    executor: Executor = request.getfixturevalue("remote" if kind == "remote" else "local")
    return executor, "nested" if kind == "nested" else "container"


async def graded(
    place: tuple[Executor, Isolation],
    code: str,
    interactor: str = INTERACTOR,
    *,
    wall_time_s: float = 10.0,
    cpu_time_s: float = 10.0,
    numbers: tuple[int, ...] = (7,),
) -> list[Judgement]:
    """The judgements of one program, a test for each number."""
    executor, isolation = place
    judgements: list[Judgement] = []
    limits = Limits(wall_time_s=wall_time_s, cpu_time_s=cpu_time_s)
    tests = tuple(
        GradingTest(id=str(number), stdin=str(number).encode(), limits=limits) for number in numbers
    )
    grading = Grading(
        program=Program(language="python", code=code, isolation=isolation),
        tests=tests,
        interactor=Grader(language="python", code=interactor),
    )
    await executor.grade(grading, judgements.append)
    return judgements


async def test_a_program_that_talks(place: tuple[Executor, Isolation]) -> None:
    """Test after test in the same two sandboxes; what it needed is its own."""
    judgements = await graded(place, BISECTION, numbers=(7, 500, 0, 999, 333))
    assert [one.verdict for one in judgements] == [V.ACCEPTED] * 5, judgements
    assert judgements[1].stdout == b"500\n"
    assert judgements[0].usage.memory_peak_kb > 1000


@pytest.mark.parametrize(
    ("code", "verdict", "words"),
    [
        (ONE_BY_ONE, V.WRONG_ANSWER, "too many guesses"),
        (WORDS, V.PRESENTATION_ERROR, "no number"),
        (CRASHES, V.NONZERO_EXIT, "exited with 1"),
        (HOGS, V.MEMORY_LIMIT, "more than 256 MiB"),
        ("", V.PRESENTATION_ERROR, "no number: ''"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", V.SIGNALLED, "SIGKILL"),
    ],
    ids=["guesses", "words", "crash", "hog", "silent", "killed"],
)
async def test_ends(
    place: tuple[Executor, Isolation], code: str, verdict: Verdict, words: str
) -> None:
    """Who is to blame for how a conversation ends."""
    numbers = (1000,) if code is ONE_BY_ONE else (7,)
    (judgement,) = await graded(place, code, numbers=numbers)
    assert (judgement.verdict, words in str(judgement.message)) == (verdict, True), judgement


async def test_a_deadlock_is_told_from_a_slow_answer(place: tuple[Executor, Isolation]) -> None:
    """Where both wait the message says so; where the program computes, that it was slow."""
    (waits,) = await graded(place, SLEEPS, wall_time_s=0.5)
    assert (waits.verdict, str(waits.message)[:8]) == (V.TIMEOUT, "idleness"), waits
    (slow,) = await graded(place, LOOPS, wall_time_s=2.0)
    assert (slow.verdict, str(slow.message)[:13]) == (V.TIMEOUT, "still running"), slow
    (cpu,) = await graded(place, LOOPS, cpu_time_s=0.3)
    assert cpu.verdict is V.CPU_LIMIT


async def test_who_forgets_to_end_a_line(local: DockerExecutor) -> None:
    """The interactor has some of an answer and waits for the rest: the program is idle, not it."""
    (judgement,) = await graded((local, "nested"), UNFLUSHED, wall_time_s=0.5)
    assert judgement.verdict is V.TIMEOUT, judgement
    assert "idleness" in str(judgement.message)


async def test_an_interactor_takes_its_time_for_nothing(local: DockerExecutor) -> None:
    """Time that the interactor computes is not the program's."""
    slow = INTERACTOR.replace("guess = int(line)", "guess = int(line)\n    spin()").replace(
        "import sys",
        "import sys, time\ndef spin():\n    end = time.process_time() + 0.2\n"
        "    while time.process_time() < end: pass\n",
    )
    (judgement,) = await graded((local, "nested"), BISECTION, slow, wall_time_s=1.5, numbers=(1,))
    assert judgement.verdict is V.ACCEPTED, judgement
    assert judgement.usage.wall_time_ms < 1500


@pytest.mark.parametrize(
    "interactor",
    ["1 / 0", "import os; os.abort()", "import sys; sys.exit(3)", "def"],
    ids=["raises", "aborts", "fails", "syntax"],
)
async def test_an_interactor_that_fails(place: tuple[Executor, Isolation], interactor: str) -> None:
    """It is no fault of the program, and the message says whose it is."""
    (judgement,) = await graded(place, BISECTION, interactor)
    assert judgement.verdict is V.INTERNAL_ERROR, judgement
    assert "the interactor failed" in str(judgement.message)


async def test_who_has_ended_waits_for_nobody(local: DockerExecutor) -> None:
    """A program that is wrong is stopped at once; an interactor that goes on has failed."""
    place: tuple[Executor, Isolation] = (local, "nested")
    (wrong,) = await graded(place, "print(-1, flush=True)\nwhile True: print(1)")
    assert (wrong.verdict, wrong.usage.wall_time_ms < 9000) == (V.PRESENTATION_ERROR, True), wrong
    (ended,) = await graded(place, "print(7)", "while True: pass")
    assert ended.verdict is V.INTERNAL_ERROR, ended
    assert "the interactor failed" in str(ended.message)
    (right,) = await graded(place, "print(7)\nimport time\ntime.sleep(60)", wall_time_s=0.5)
    assert right.verdict is V.TIMEOUT, right


async def test_much_is_said_both_ways(local: DockerExecutor) -> None:
    """A megabyte each way arrives whole, whatever the sizes of pipes."""
    echo = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    asks = (
        "import sys\n"
        "for n in range(8):\n"
        "    line = chr(97 + n) * 120_000\n"
        "    print(line, flush=True)\n"
        "    if sys.stdin.readline() != line + '\\n': sys.exit(1)\n"
    )
    (judgement,) = await graded((local, "container"), echo, asks)
    assert judgement.verdict is V.ACCEPTED, judgement
