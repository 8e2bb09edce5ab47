"""Many tests of one program, in each isolation, on this machine and through an executor service."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio

from crucible.errors import ExecutorRefused
from crucible.executor import ExecutorConfig, open_executor
from crucible.executor.docker import DockerExecutor
from crucible.executor.service import open_service
from crucible.grading.models import Comparison, Grader, Grading, GradingTest, Judgement
from crucible.models import ISOLATIONS, Limits, Program, SourceFile, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from crucible.executor import Executor
    from crucible.models import Isolation

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
LIMITS = Limits(memory_mb=64, output_kb=4)


def config(**options: Any) -> ExecutorConfig:
    """Of an executor beside others in this process: each looks after what has its name."""
    return ExecutorConfig(
        owner=f"grading-{os.getpid()}-{next(NUMBERS)}", pool_min=1, pool_max=2, **options
    )


NUMBERS = itertools.count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local() -> AsyncIterator[DockerExecutor]:
    async with DockerExecutor.open(config()) as executor:
        yield executor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def remote() -> AsyncIterator[Executor]:
    async with (
        open_service(config()) as url,
        open_executor(ExecutorConfig(urls=(url,))) as executor,
    ):
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
    tests: Sequence[GradingTest],
    language: str = "python",
    **options: Any,
) -> list[Judgement]:
    """The judgements of a program's tests."""
    executor, isolation = place
    program = Program(language=language, code=code, isolation=isolation)
    judgements: list[Judgement] = []
    grading = Grading(program=program, tests=tuple(tests), **options)
    await executor.grade(grading, judgements.append)
    assert [one.id for one in judgements] == [test.id for test in tests]
    return judgements


def verdicts(judgements: Sequence[Judgement]) -> list[Verdict]:
    """The verdicts alone."""
    return [one.verdict for one in judgements]


#: Does what it reads.
OBEDIENT = """
import os, sys, time
order = input()
if order == "loop":
    while True: pass
elif order == "sleep": time.sleep(60)
elif order == "hog": b"x" * (200 << 20)
elif order == "flood": print("x" * 100_000)
elif order == "exit": sys.exit(3)
elif order == "abort": os.abort()
elif order == "spaces": print(" 42 ")
elif order == "wrong": print(41)
else: print(42)
"""


#: Limits of those that reach them; the others have time, on a machine with much else to do.
SHORT = {"loop": {"cpu_time_s": 0.3}, "sleep": {"wall_time_s": 0.3}}


async def test_each_test_has_its_own_end(place: tuple[Executor, Isolation]) -> None:
    """Every way to end is that of its own test; those after it run as if it had not been."""
    orders = {
        "right": V.ACCEPTED,
        "loop": V.CPU_LIMIT,
        "spaces": V.PRESENTATION_ERROR,
        "hog": V.MEMORY_LIMIT,
        "wrong": V.WRONG_ANSWER,
        "flood": V.OUTPUT_LIMIT,
        "exit": V.NONZERO_EXIT,
        "sleep": V.TIMEOUT,
        "abort": V.SIGNALLED,
        "right ": V.ACCEPTED,
    }
    tests = [
        GradingTest(
            id=order,
            stdin=order.strip().encode(),
            expected=b"42\n",
            limits=msgspec.structs.replace(LIMITS, **SHORT.get(order, {})),
        )
        for order in orders
    ]
    judgements = await graded(place, OBEDIENT, tests, comparison=Comparison(mode="exact"))
    assert dict(zip(orders, verdicts(judgements), strict=True)) == orders
    first = judgements[0]
    assert (first.stdout, first.exit_code, first.points) == (b"42\n", 0, 1.0)
    assert 0 < first.usage.cpu_time_ms < 500
    assert judgements[6].exit_code == 3


LEAVES = """
import os, subprocess, sys
seen = [name for name in ("/tmp/left", "/dev/shm/left", "left") if os.path.exists(name)]
for name in ("/tmp/left", "/dev/shm/left", "left"):
    open(name, "w").write(sys.stdin.read())
print(seen, sorted(set(os.listdir(".")) - {"left"}), sys.argv[1:])
"""


async def test_nothing_of_a_test_is_there_for_the_next(place: tuple[Executor, Isolation]) -> None:
    """Each has fresh file systems, with its own files and arguments."""
    file = SourceFile(name="data.txt", content="x")
    tests = [
        GradingTest(id="1", expected=b"[] ['main.py'] ['a']", args=("a",)),
        GradingTest(id="2", expected=b"[] ['data.txt', 'main.py'] []", files=(file,)),
        GradingTest(id="3", expected=b"[] ['main.py'] []"),
    ]
    judgements = await graded(place, LEAVES, tests)
    assert verdicts(judgements) == [V.ACCEPTED] * 3, judgements


CHECKER = """
import sys
given, output, answer = (open(name).read() for name in sys.argv[1:])
print("seen:", given.strip(), file=sys.stderr)
if output == answer: sys.exit(0)
match output.strip():
    case "half": print("points 0.5 nearly", file=sys.stderr); sys.exit(7)
    case "form": sys.exit(2)
    case "loop":
        while True: pass
    case "crash": 1 / 0
    case "kill": import os; os.abort()
    case "flood":
        while True: sys.stdout.write("x" * 65536)
    case "fail": sys.exit(3)
sys.exit(1)
"""


async def test_a_checker_judges(place: tuple[Executor, Isolation]) -> None:
    """By exit code; where it fails itself the program is not to blame, and the message says who."""
    expected = {
        "same": V.ACCEPTED,
        "other": V.WRONG_ANSWER,
        "half": V.PARTIAL,
        "form": V.PRESENTATION_ERROR,
        "loop": V.INTERNAL_ERROR,
        "crash": V.INTERNAL_ERROR,
        "kill": V.INTERNAL_ERROR,
        "flood": V.INTERNAL_ERROR,
        "fail": V.INTERNAL_ERROR,
    }
    tests = [
        GradingTest(id=word, stdin=word.encode(), expected=b"same\n", points=2) for word in expected
    ]
    checker = Grader(language="python", code=CHECKER, limits=Limits(cpu_time_s=0.3))
    judgements = await graded(place, "print(input())", tests, checker=checker)
    assert dict(zip(expected, verdicts(judgements), strict=True)) == expected, judgements
    assert [one.points for one in judgements][:3] == [2.0, 0.0, 0.5]
    assert str(judgements[1].message) == "seen: other"
    for one in judgements[4:]:
        assert str(one.message).startswith("the checker failed"), one
        assert (one.exit_code, one.stdout) == (0, one.id.encode() + b"\n")


async def test_stop_rules_save_sandboxes(local: DockerExecutor) -> None:
    """What is skipped does not run."""
    tests = [
        GradingTest(id=str(n), stdin=word.encode(), expected=b"42\n", group=group)
        for n, (word, group) in enumerate([("wrong", "a"), ("right", "a"), ("right", "b")])
    ]
    place: tuple[Executor, Isolation] = (local, "nested")
    by_group = await graded(place, OBEDIENT, tests, stop="group")
    assert verdicts(by_group) == [V.WRONG_ANSWER, V.SKIPPED, V.ACCEPTED]
    by_first = await graded(place, OBEDIENT, tests, stop="first_failure")
    assert verdicts(by_first) == [V.WRONG_ANSWER, V.SKIPPED, V.SKIPPED]
    assert by_first[2].message == "skipped: test 0 failed"


async def test_the_time_of_a_request_is_bounded(local: DockerExecutor) -> None:
    """Once it is used up the rest is skipped, with the reason."""
    tests = [GradingTest(id=str(n)) for n in range(2)]
    judgements = await graded((local, "nested"), "", tests, time_s=-1.0)
    assert verdicts(judgements) == [V.SKIPPED] * 2
    assert "used up" in str(judgements[0].message)


async def test_more_tests_than_a_lane_has_programs() -> None:
    """A lane that has served its programs is followed by the next."""
    async with DockerExecutor.open(config(lane_programs=3)) as few:
        tests = [GradingTest(id=str(n), stdin=b"right", expected=b"42") for n in range(8)]
        for isolation in ISOLATIONS:
            judgements = await graded((few, isolation), OBEDIENT, tests)
            assert verdicts(judgements) == [V.ACCEPTED] * 8


async def test_lanes_of_container_serve_nothing_else(local: DockerExecutor) -> None:
    """A request in isolation container has a container that ran nothing before or after it."""
    uses: list[tuple[str, int]] = []
    tests = [GradingTest(id=str(n)) for n in range(3)]
    for _ in range(3):
        await graded((local, "nested"), "", tests)
        idle = {lane.container_id for lane in local.lanes._shelf.idle}
        grading = Grading(program=Program(language="python", code=""), tests=tuple(tests))

        def note(_: Judgement, idle: set[str] = idle) -> None:
            (lane,) = local.lanes._shelf.busy
            assert lane.kept_apart
            assert lane.container_id not in idle
            uses.append((lane.container_id, lane.served))

        await local.grade(grading, note)
        assert not [lane for lane in local.lanes._shelf.idle if lane.kept_apart]
    assert [served for _, served in uses] == [1, 2, 3] * 3


async def test_two_at_a_time_with_checkers_do_not_wait_for_each_other() -> None:
    """More gradings with checkers than lanes all come to their end."""
    async with DockerExecutor.open(config(lanes_max=2, acquire_s=20.0)) as small:
        checker = Grader(language="python", code="")
        tests = [GradingTest(id=str(n)) for n in range(2)]
        found = await asyncio.gather(
            *(graded((small, "container"), "", tests, checker=checker) for _ in range(4))
        )
    assert [verdicts(one) for one in found] == [[V.ACCEPTED] * 2] * 4


async def test_what_can_never_run_is_refused(place: tuple[Executor, Isolation]) -> None:
    """As for a program alone; no test is judged."""
    with pytest.raises(ExecutorRefused, match="language"):
        await graded(place, "", [GradingTest(id="1")], language="cobol")


@pytest.mark.parametrize("kind", ["local", "remote"])
async def test_cancelling_stops_the_program(kind: str, request: pytest.FixtureRequest) -> None:
    """Whoever is cancelled knows what was judged."""
    executor: Executor = request.getfixturevalue(kind)
    judgements: asyncio.Queue[Judgement] = asyncio.Queue()
    tests = (GradingTest(id="1", stdin=b"right"), GradingTest(id="2", stdin=b"sleep"))
    grading = Grading(program=Program(language="python", code=OBEDIENT), tests=tests)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(executor.grade(grading, judgements.put_nowait))
        assert (await judgements.get()).verdict is V.ACCEPTED
        running.cancel()
    assert running.cancelled()
    assert judgements.empty()


C_ADD = '#include <stdio.h>\nint main(){int a,b;scanf("%d%d",&a,&b);printf("%d\\n",a+b);}'
C_CHECKER = """
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    int output, answer;
    if (fscanf(fopen(argv[2], "r"), "%d", &output) != 1) return 2;
    if (fscanf(fopen(argv[3], "r"), "%d", &answer) != 1) abort();
    return output != answer;
}
"""


async def test_compiled_once_and_checked_by_a_compiled_checker(
    place: tuple[Executor, Isolation],
) -> None:
    """A program and a checker in C, each compiled once for all tests."""
    answers = {"1": b"3", "2": b"4", "3": b""}
    tests = [GradingTest(id=id_, stdin=b"1 2", expected=text) for id_, text in answers.items()]
    checker = Grader(language="c", code=C_CHECKER)
    judgements = await graded(place, C_ADD, tests, "c", checker=checker)
    assert verdicts(judgements) == [V.ACCEPTED, V.WRONG_ANSWER, V.INTERNAL_ERROR], judgements
    assert "the checker failed" in str(judgements[2].message)


async def test_what_does_not_compile(place: tuple[Executor, Isolation]) -> None:
    """A program that does not has no test run; a checker that does not is no fault of it."""
    executor, isolation = place
    judgements: list[Judgement] = []
    tests = (GradingTest(id="1", stdin=b"1 2", expected=b"3"),)
    program = Program(language="c", code="int main(", isolation=isolation)
    compilation = await executor.grade(Grading(program=program, tests=tests), judgements.append)
    assert compilation is not None
    assert (compilation.verdict, verdicts(judgements)) == (V.COMPILE_ERROR, [V.SKIPPED])
    assert b"main" in compilation.report.error
    checker = Grader(language="c", code="int main(")
    judgements = await graded(place, C_ADD, tests, "c", checker=checker)
    assert verdicts(judgements) == [V.INTERNAL_ERROR]
    assert "the checker failed: it was not compiled" in str(judgements[0].message)
