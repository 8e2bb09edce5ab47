"""Compiling as a step of its own: what it hands on, what it keeps, and what it stops for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio

from crucible.errors import ExecutorRefused
from crucible.executor import ExecutorConfig, open_executor
from crucible.executor.docker import DockerExecutor
from crucible.executor.service import open_service
from crucible.models import Limits, Program, SourceFile, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.executor import Executor
    from crucible.models import Outcome

    Make = Callable[..., Program]

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

HELLO = '#include <stdio.h>\nint main(void) { printf("%d\\n", 6 * 7); return 0; }\n'
LISTING = """\
#include <dirent.h>
#include <stdio.h>
static void list(const char *path) {
    DIR *folder = opendir(path);
    for (struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.') printf("%s/%s\\n", path, entry->d_name);
    closedir(folder);
}
int main(void) { list("/tmp"); list("/tmp/work"); list("/dev/shm"); return 0; }
"""
#: Takes the preprocessor for ever.
ENDLESS = (
    "#define A(x) x x\n#define B(x) A(A(A(A(x))))\n#define C(x) B(B(B(B(x))))\n"
    "int main(void) { C(C(C(;))) }"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[DockerExecutor]:
    async with DockerExecutor.open(ExecutorConfig(pool_min=1)) as opened:
        yield opened


@pytest.fixture(params=["container", "nested"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes programs in C of each isolation."""

    def make(code: str = HELLO, **fields: object) -> Program:
        program = Program(
            language="c", code=code, limits=Limits(wall_time_s=30.0), isolation=request.param
        )
        return msgspec.structs.replace(program, **fields)

    return make


def report_of(outcome: Outcome) -> tuple[Verdict, int | None, bool]:
    """The verdict, the compiler's exit code, and whether it was spared."""
    assert outcome.compile is not None
    return outcome.verdict, outcome.compile.exit_code, outcome.compile.cached


async def test_one_compile_serves_many_runs(executor: Executor, make: Make) -> None:
    """What was compiled is handed into other sandboxes, and runs there with other input."""
    code = '#include <stdio.h>\nint main(void) { int a; scanf("%d", &a); printf("%d", a + 1); }'
    program = make(code)
    compilation = await executor.compile(program)
    assert (compilation.verdict, compilation.report.exit_code) == (Verdict.OK, 0)
    assert compilation.artifact is not None
    (file,) = compilation.artifact.files
    assert (file.name, file.executable, file.content[:4]) == ("main", True, b"\x7fELF")
    for number in range(3):
        stdin = str(number).encode()
        ran = await executor.run(
            msgspec.structs.replace(program, stdin=stdin), compilation.artifact
        )
        assert (ran.verdict, ran.stdout) == (Verdict.OK, str(number + 1).encode())


async def test_the_second_time_is_cached(executor: Executor, make: Make) -> None:
    """The same source is compiled once; the program runs alike, and the answer says so."""
    program = make(tenant=f"twice-{make().isolation}")
    first, second = await executor.run(program), await executor.run(program)
    assert report_of(first) == (Verdict.OK, 0, False)
    assert report_of(second) == (Verdict.OK, 0, True)
    assert first.stdout == second.stdout == b"42\n"
    assert first.compile is not None
    assert first.compile.usage.cpu_time_ms > 0


async def test_a_program_finds_what_it_would_without_a_compiler(
    executor: Executor, make: Make
) -> None:
    """Compiled in the same sandbox or taken from the cache: the same files, and no others."""
    files = (SourceFile(name="data/a.txt", content="a"),)
    program = make(LISTING, files=files, tenant=f"lists-{make().isolation}")
    outcomes = [await executor.run(program) for _ in range(2)]
    assert [report_of(one)[2] for one in outcomes] == [False, True]
    wanted = {b"/tmp/work", b"/tmp/work/main", b"/tmp/work/main.c", b"/tmp/work/data"}
    assert [set(one.stdout.split()) for one in outcomes] == [wanted, wanted]


async def test_a_compiler_has_limits_of_its_own(executor: Executor, make: Make) -> None:
    """Stopped for time, it is a compile error that says so; the program's limits are not asked."""
    program = make(ENDLESS, compile_limits=Limits(wall_time_s=0.5, cpu_time_s=0.5))
    outcome = await executor.run(program)
    assert outcome.verdict is Verdict.COMPILE_ERROR
    assert outcome.message is not None
    assert outcome.message.startswith("the compiler reached a compile limit: ")


async def test_a_compiler_has_memory_of_its_own(executor: Executor, make: Make) -> None:
    """A program may have less memory than its compiler needs, and the other way round."""
    names = "".join(f"extern int v{number};" for number in range(100_000))
    code = names + "int main(void) { return 0; }"
    roomy = Limits(memory_mb=256, wall_time_s=30.0, cpu_time_s=30.0)
    program = make(code, limits=Limits(memory_mb=16), compile_limits=roomy)
    assert report_of(await executor.run(program))[0] is Verdict.OK
    narrow = msgspec.structs.replace(roomy, memory_mb=16)
    other = make(code + "//", limits=roomy, compile_limits=narrow)
    outcome = await executor.run(other)
    assert (outcome.verdict, outcome.message) == (
        Verdict.COMPILE_ERROR,
        "the compiler reached a compile limit: more than 16 MiB of memory",
    )


async def test_a_program_with_another_disk_runs_too(executor: Executor, make: Make) -> None:
    """It is in a sandbox of its own then."""
    outcome = await executor.run(make(HELLO + "// disk\n", limits=Limits(disk_mb=8)))
    assert (outcome.verdict, outcome.stdout) == (Verdict.OK, b"42\n")


async def test_warnings_are_not_the_programs(executor: Executor, make: Make) -> None:
    """What a compiler writes about a program that runs is told apart from what that writes."""
    code = 'int main(void) { int a = "text"; return 0; }'
    outcome = await executor.run(make(code))
    assert (outcome.verdict, outcome.stderr) == (Verdict.OK, b"")
    assert outcome.compile is not None
    assert b"main.c:1" in outcome.compile.error


async def test_the_same_at_once_is_compiled_once(executor: DockerExecutor, make: Make) -> None:
    """Ten that come together make one compile, and one that is cancelled harms no other."""
    program = make(HELLO + "// at once\n", tenant=f"together-{make().isolation}")
    before = executor.jobs.cache.totals.misses
    tasks = [asyncio.create_task(executor.run(program)) for _ in range(10)]
    # The first has asked for a sandbox, or compiles; the others wait for it.
    while executor.jobs.cache.totals.misses == before:
        await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    outcomes = await asyncio.gather(*tasks[1:])
    assert {one.stdout for one in outcomes} == {b"42\n"}
    assert sum(not report_of(one)[2] for one in outcomes) <= 1
    assert executor.jobs.cache.totals.misses - before <= 2


async def test_nobody_gets_what_anothers_was_compiled_to(executor: Executor, make: Make) -> None:
    """The same source of two tenants is compiled twice."""
    program = make(f"{HELLO}// {make().isolation}\n", tenant="first")
    await executor.run(program)
    other = await executor.run(msgspec.structs.replace(program, tenant="second"))
    assert report_of(other)[2] is False
    assert report_of(await executor.run(program))[2] is True


async def test_what_has_no_compiler_is_refused(executor: Executor) -> None:
    """There is nothing to compile in a script."""
    with pytest.raises(ExecutorRefused, match="is not compiled"):
        await executor.compile(Program(language="python", code="pass"))


async def test_an_executor_service_compiles_too() -> None:
    """The cache is where the containers are; artifacts travel both ways."""
    async with (
        open_service(ExecutorConfig(pool_min=0)) as url,
        open_executor(ExecutorConfig(urls=(url,))) as remote,
    ):
        program = Program(language="c", code=HELLO, limits=Limits(wall_time_s=30.0))
        compilation = await remote.compile(program)
        assert compilation.artifact is not None
        ran = await remote.run(program, compilation.artifact)
        assert (ran.verdict, ran.stdout) == (Verdict.OK, b"42\n")
        assert report_of(await remote.run(program)) == (Verdict.OK, 0, True)
