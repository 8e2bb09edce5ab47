"""Programs through the executor that starts containers itself, on a real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from crucible.errors import ExecutorRefused
from crucible.executor import Executor, ExecutorConfig, open_executor
from crucible.models import Limits, Program, SourceFile, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.models import Isolation

pytestmark = pytest.mark.docker

C_HELLO = '#include <stdio.h>\nint main(void) { printf("%d\\n", 6 * 7); return 0; }\n'


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    async with open_executor(ExecutorConfig(pool_min=1)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "print(6 * 7)"),
        ("javascript", "console.log(6 * 7)"),
        ("bash", "echo $((6 * 7))"),
        ("sh", "echo $((6 * 7))"),
        ("c", C_HELLO),
    ],
)
async def test_every_language_answers(executor: Executor, language: str, code: str) -> None:
    """Each language of the table runs a program to its output and exit code."""
    outcome = await executor.run(Program(language=language, code=code))
    assert (outcome.verdict, outcome.stdout, outcome.exit_code) == (Verdict.OK, b"42\n", 0)
    assert outcome.usage.cpu_time_ms > 0
    assert outcome.usage.memory_peak_kb > 0


async def test_inputs_reach_the_program(executor: Executor) -> None:
    """Standard input byte for byte, arguments, environment and files all arrive."""
    code = (
        "import os, sys\n"
        "from pkg.mod import x\n"
        "sys.stdout.buffer.write(sys.stdin.buffer.read())\n"
        "print(sys.argv[1:], os.environ['NAME'], x, sep='|')\n"
    )
    outcome = await executor.run(
        Program(
            language="python",
            code=code,
            stdin=b"\x00\xff\r\n",
            args=("a b", "*", ""),
            env={"NAME": "value"},
            files=(
                SourceFile(name="pkg/__init__.py", content=""),
                SourceFile(name="pkg/mod.py", content="eCA9IDEK", encoding="base64"),
            ),
        )
    )
    assert outcome.stdout == b"\x00\xff\r\n['a b', '*', '']|value|1\n", outcome.stderr


async def test_what_does_not_compile_does_not_run(executor: Executor) -> None:
    """A compiler's complaint arrives as standard error, with the compiler's exit code."""
    outcome = await executor.run(Program(language="c", code="int main( {"))
    assert outcome.verdict is Verdict.COMPILE_ERROR
    assert outcome.exit_code == 1
    assert b"main.c:1" in outcome.stderr


async def test_output_files_come_back(executor: Executor) -> None:
    """A regular file that was asked for comes back; a link and a missing one do not."""
    code = "import os\nopen('a.bin', 'wb').write(bytes(range(256)))\nos.symlink('/etc/passwd', 'b')"
    outcome = await executor.run(
        Program(language="python", code=code, output_files=("a.bin", "b", "c"))
    )
    assert outcome.files == {"a.bin": bytes(range(256))}


@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_every_exit_code_is_the_programs_own(
    executor: Executor, isolation: Isolation
) -> None:
    """No exit code of a program is taken for that of a process of the platform."""
    for code in (2, 3, 4, 126, 127, 255):
        program = Program(
            language="python", code=f"import sys; sys.exit({code})", isolation=isolation
        )
        outcome = await executor.run(program)
        assert (outcome.verdict, outcome.exit_code) == (Verdict.NONZERO_EXIT, code)


@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_files_that_do_not_fit_fill_the_disk(
    executor: Executor, isolation: Isolation
) -> None:
    """A program whose files take more than its disk has a verdict of that, not of its own."""
    program = Program(
        language="python",
        code="print(1)",
        files=(SourceFile(name="large", content="x" * (1 << 21)),),
        limits=Limits(disk_mb=1),
        isolation=isolation,
    )
    outcome = await executor.run(program)
    assert (outcome.verdict, outcome.exit_code) == (Verdict.DISK_LIMIT, 1)


async def test_output_survives_a_timeout(executor: Executor) -> None:
    """What was written before the wall clock struck is kept."""
    outcome = await executor.run(
        Program(
            language="python",
            code="import time\nprint('before', flush=True)\ntime.sleep(60)",
            limits=Limits(wall_time_s=0.5),
        )
    )
    assert (outcome.verdict, outcome.stdout) == (Verdict.TIMEOUT, b"before\n")


async def test_an_unknown_language_is_refused(executor: Executor) -> None:
    """A language that is not in the table is an error of the request, not a verdict."""
    with pytest.raises(ExecutorRefused, match="cobol"):
        await executor.run(Program(language="cobol", code=""))


async def test_a_missing_image_is_refused() -> None:
    """The check of an executor whose image is not there says so."""
    async with open_executor(ExecutorConfig(image="crucible-none:missing", pool_min=0)) as executor:
        with pytest.raises(ExecutorRefused, match="crucible-none"):
            await executor.check()
