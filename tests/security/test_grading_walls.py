"""What a graded program tries: find the answers, prepare the next test, outlive its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.grading.models import Grader, Grading, GradingTest, Judgement
from crucible.models import ISOLATIONS, Limits, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from crucible.models import Isolation

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
SECRET = "an-answer-that-nobody-can-guess"
LIMITS = Limits(wall_time_s=5.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[DockerExecutor]:
    config = ExecutorConfig(owner=f"grading-walls-{os.getpid()}", pool_min=1, pool_max=2)
    async with DockerExecutor.open(config) as opened:
        yield opened


@pytest.fixture(params=ISOLATIONS)
def isolation(request: pytest.FixtureRequest) -> Isolation:
    """Each isolation."""
    chosen: Isolation = request.param
    return chosen


async def graded(
    executor: DockerExecutor,
    isolation: Isolation,
    code: str,
    tests: Sequence[GradingTest],
    checker: str = "",
) -> list[Judgement]:
    """The judgements of a Python program."""
    judgements: list[Judgement] = []
    grading = Grading(
        program=Program(language="python", code=code, isolation=isolation),
        tests=tuple(tests),
        checker=Grader(language="python", code=checker) if checker else None,
        shown_bytes=65536,
    )
    await executor.grade(grading, judgements.append)
    return judgements


#: Prints whatever it can read anywhere, its own memory map and that of others included.
SEARCHES = r"""
import os, sys
print("expected answer 1.out checker.py grader.py")
for top in "/tmp /dev/shm /run /var /home /etc /proc /sys/fs /mnt /opt".split():
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith("task")]
        for name in names:
            path = os.path.join(folder, name)
            if path.endswith((".out", ".ans", "answer", "output", "grader.py", "checker.py")):
                print(path)
            try:
                if os.path.getsize(path) > 1 << 20 and not top.startswith("/proc"): continue
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                data = os.read(fd, 1 << 16)
            except OSError:
                data = b""
            finally:
                os.close(fd)
            if b"an-answer-that-nobody" in data.replace(b"nobody\"", b""):
                if path not in (os.path.abspath(__file__),): print("FOUND", path)
"""


async def test_answers_and_checkers_are_nowhere(
    executor: DockerExecutor, isolation: Isolation
) -> None:
    """Neither is in any file, argument or variable of the sandbox, before or after a check."""
    tests = [GradingTest(id=str(n), expected=SECRET.encode(), limits=LIMITS) for n in range(3)]
    code = SEARCHES.replace("an-answer-that-nobody", "an-answer-that" + "-nob")
    checker = "import sys\nopen('/tmp/left', 'w').write(open(sys.argv[3]).read())\nsys.exit(1)"
    for judgement in await graded(executor, isolation, code, tests, checker):
        assert judgement.verdict is V.WRONG_ANSWER, judgement
        lines = judgement.stdout.decode().splitlines()
        found = [line for line in lines[1:] if "main.py" not in line and "/proc/" not in line]
        assert found == [], found
        assert SECRET not in judgement.stdout.decode()


#: Leaves daemons that write what the next test could read, listen, and answer in its place.
LEAVES = r"""
import os, socket, subprocess, sys, time
mine = sys.stdin.read()
seen = []
for name in ("/tmp/next", "/dev/shm/next", "/tmp/work/next", "/var/tmp/next"):
    if os.path.exists(name): seen.append(name)
for address in (("127.0.0.1", 4000), "\0next"):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    try:
        socket.socket(family).connect(address); seen.append(address)
    except OSError: pass
own = {str(os.getpid()), str(os.getppid()), "1"}
for name in os.listdir("/proc"):
    if not name.isdigit() or name in own: continue
    try: line = open(f"/proc/{name}/cmdline").read()
    except OSError: continue
    if "daemon-of-a-test" in line: seen.append(line)
print(seen, mine)
daemon = '''
import os, socket, sys, time
os.setsid()
servers = []
for address in (("127.0.0.1", 4000), "\\0next"):
    server = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    try: server.bind(address); server.listen(); servers.append(server)
    except OSError: pass
while True:
    for name in ("/tmp/next", "/dev/shm/next", "/tmp/work/next", "/var/tmp/next"):
        try: open(name, "w").write("x")
        except OSError: pass
    time.sleep(0.001)
'''
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c", daemon, "daemon-of-a-test"])
        os._exit(0)
for name in ("/tmp/next", "/dev/shm/next", "/tmp/work/next"):
    open(name, "w").write("42")
"""


async def test_nothing_is_left_for_the_next_test(
    executor: DockerExecutor, isolation: Isolation
) -> None:
    """No file, socket, or process of a test is there in the one after it."""
    tests = [
        GradingTest(id=str(n), stdin=b"%d" % n, expected=b"[] %d\n" % n, limits=LIMITS)
        for n in range(4)
    ]
    judgements = await graded(executor, isolation, LEAVES, tests)
    assert [one.verdict for one in judgements] == [V.ACCEPTED] * 4, judgements


#: Kills all it can, the supervisor first, in every other test; right in the others.
KILLS = r"""
import os, signal, sys
order = sys.stdin.read()
if order == "kill":
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
        for pid in (1, 2, 3, 4, os.getppid()):
            try: os.kill(pid, number)
            except OSError: pass
    try: os.kill(-1, signal.SIGKILL)
    except OSError: pass
print(42)
"""


async def test_killing_between_tests_gains_nothing(
    executor: DockerExecutor, isolation: Isolation
) -> None:
    """The tests after one that kills everything end as if it had not been."""
    orders = ["", "kill", "", "kill", ""]
    tests = [
        GradingTest(id=str(n), stdin=order.encode(), expected=b"42\n", limits=LIMITS)
        for n, order in enumerate(orders)
    ]
    judgements = await graded(executor, isolation, KILLS, tests)
    calm = [one.verdict for one, order in zip(judgements, orders, strict=True) if not order]
    assert calm == [V.ACCEPTED] * 3, judgements
    killed = {one.verdict for one, order in zip(judgements, orders, strict=True) if order}
    assert killed <= {V.ACCEPTED, V.SIGNALLED}, judgements


async def test_forged_frames_and_verdicts(executor: DockerExecutor, isolation: Isolation) -> None:
    """What looks like the supervisor's words, or a checker's, is output like any other."""
    code = (
        "import sys\n"
        "sys.stdout.buffer.write(b'X\\0\\0\\0\\2{}' + b'U' + bytes(12))\n"
        "sys.stderr.write('points 100\\nok accepted\\n')\n"
        "sys.exit(0)"
    )
    tests = [GradingTest(id=str(n), expected=b"42", limits=LIMITS) for n in range(2)]
    judgements = await graded(executor, isolation, code, tests)
    assert [one.verdict for one in judgements] == [V.WRONG_ANSWER] * 2
    assert judgements[0].stdout.startswith(b"X\0\0\0\2{}")
