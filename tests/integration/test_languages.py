"""Every language of the environment ``judge``: right answers, failures, limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
import pytest_asyncio

from crucible.environments import DATA, DEFAULT, JUDGE
from crucible.executor import ExecutorConfig, open_executor
from crucible.executor.languages import languages_of
from crucible.models import Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor import Executor
    from crucible.models import Isolation, Outcome

pytestmark = pytest.mark.docker
in_one_loop = pytest.mark.asyncio(loop_scope="module")

PROGRAMS = Path(__file__).parents[1] / "data" / "languages"
LANGUAGES = languages_of(JUDGE)
ISOLATIONS: tuple[Isolation, ...] = ("container", "nested")


class Case(NamedTuple):
    """How one of the six programs has to end."""

    name: str
    verdict: Verdict
    stdin: bytes = b""
    stdout: bytes = b""
    exit_code: int | None = None


CASES = (
    Case("hello", Verdict.OK, stdout=b"hello\n", exit_code=0),
    Case("sum", Verdict.OK, stdin=b"1 2\n3\n-4 40\n", stdout=b"42\n", exit_code=0),
    Case("exit", Verdict.NONZERO_EXIT, exit_code=7),
    Case("loop", Verdict.CPU_LIMIT, stdout=b"started\n"),
    Case("hog", Verdict.MEMORY_LIMIT, stdout=b"started\n"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[Executor]:
    config = ExecutorConfig(pool_min=1, environments=(DEFAULT, JUDGE, DATA))
    async with open_executor(config) as opened:
        yield opened


async def run(
    executor: Executor,
    language: str,
    name: str,
    isolation: Isolation,
    *,
    stdin: bytes = b"",
) -> Outcome:
    """Run one of the six programs with the limits of its language."""
    known = LANGUAGES[language]
    # Processor time, so a busy machine does not matter; an endless loop has to use it up, and a
    # virtual machine that was started has to come to its memory limit before.
    seconds = 5.0 if known.compile else 1.5
    limits = msgspec.structs.replace(known.defaults, wall_time_s=120.0, cpu_time_s=seconds)
    compile_limits = msgspec.structs.replace(known.compile_defaults, wall_time_s=300.0)
    (source,) = (PROGRAMS / language).glob(f"{name}.*")
    return await executor.run(
        Program(
            language=language,
            code=source.read_text("utf-8"),
            stdin=stdin,
            limits=limits,
            compile_limits=compile_limits if known.compile else None,
            environment="judge",
            isolation=isolation,
        )
    )


@in_one_loop
@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_program_ends_as_it_has_to(
    executor: Executor, language: str, case: Case, isolation: Isolation
) -> None:
    """Output, exit code and verdict are the program's, whatever compiles or interprets it."""
    outcome = await run(executor, language, case.name, isolation, stdin=case.stdin)
    assert (outcome.verdict, outcome.stdout) == (case.verdict, case.stdout), outcome
    if case.exit_code is not None:
        assert outcome.exit_code == case.exit_code


@in_one_loop
@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_failure_says_why(executor: Executor, language: str, isolation: Isolation) -> None:
    """An uncaught exception is the program's own end, with its words on standard error."""
    outcome = await run(executor, language, "exception", isolation)
    assert outcome.verdict in (Verdict.NONZERO_EXIT, Verdict.SIGNALLED), outcome
    assert b"boom" in outcome.stderr


def test_every_language_has_its_programs() -> None:
    """A language that is added to the environment is tested."""
    assert {path.name for path in PROGRAMS.iterdir() if path.is_dir()} == set(LANGUAGES)


BROKEN = {
    "c": "int main( {",
    "cpp": "int main( {",
    "cpp20": "int main( {",
    "go": "package main\nfunc main() { x := 1 }\n",
    "rust": 'fn main() { let x: i32 = "text"; }\n',
    "java": "public class Main { int f() { return text; } }\n",
    "typescript": "const x: number = ;\n",
}


@in_one_loop
@pytest.mark.parametrize("language", [name for name, one in LANGUAGES.items() if one.compile])
async def test_a_compiler_complains(executor: Executor, language: str) -> None:
    """What does not compile does not run; the compiler's words name the source file."""
    known = LANGUAGES[language]
    outcome = await executor.run(
        Program(
            language=language,
            code=BROKEN[language],
            compile_limits=msgspec.structs.replace(known.compile_defaults, wall_time_s=300.0),
            environment="judge",
        )
    )
    assert outcome.verdict is Verdict.COMPILE_ERROR, outcome
    assert outcome.compile is not None
    assert known.file_name.encode() in outcome.stderr == outcome.compile.error


@in_one_loop
async def test_versions_are_known(executor: Executor) -> None:
    """The image says which version of each language it has."""
    (state,) = (one for one in await executor.environments() if one.name == "judge")
    # The plain shell is the one that does not tell.
    assert set(state.versions) == set(LANGUAGES) - {"sh"}
    assert all(version[:1].isdigit() for version in state.versions.values()), state.versions
    assert state.versions["python"].startswith("3.11")
