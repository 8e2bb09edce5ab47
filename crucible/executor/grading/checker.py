"""Checkers and interactors: compiled once, run in a lane that the judged program never sees."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from crucible.grading.testlib import ANSWER, INPUT, OUTPUT, PYTHON_MAIN, failure, ruling_of
from crucible.models import Program, SourceFile

if TYPE_CHECKING:
    from crucible.executor.artifact import Artifact
    from crucible.executor.docker import DockerExecutor
    from crucible.executor.grading.series import Series
    from crucible.grading.models import Grader, GradingTest, Ruling

#: KiB kept of what a checker writes; past that it has failed.
OUTPUT_KB = 64
#: Where the source is put if it is Python.
PYTHON_FILE = "grader.py"
#: Bytes repeated of what a compiler says of a checker.
_SHOWN = 500


class PreparedGrader:
    """A checker or an interactor that is compiled.

    Args:
        series: where it runs.
        program: the checker.
        artifact: what was compiled of it.
        broken: why it can judge nothing, where it does not compile.
    """

    def __init__(
        self, series: Series, program: Program, artifact: Artifact | None, broken: str | None
    ) -> None:
        self.series = series
        self.artifact = artifact
        self.broken = broken
        self._program = program

    @classmethod
    async def prepare(
        cls, executor: DockerExecutor, series: Series, grader: Grader, judged: Program
    ) -> PreparedGrader:
        """Compile it, where it has to be.

        Raises:
            ExecutorError: the platform could not.
        """
        program = _grader_program(grader, judged)
        if not executor.admit(program).language.compile:
            return cls(series, program, None, None)
        compilation = await executor.compile(program)
        broken = None
        if compilation.artifact is None:
            words = compilation.report.error[:_SHOWN].decode("utf-8", "replace")
            broken = f"it was not compiled: {compilation.message}; {words}"
        return cls(series, program, compilation.artifact, broken)

    def program_for(self, test: GradingTest, output: bytes | None = None) -> Program:
        """It, for one test; an output is there for checkers, an interactor may write one."""
        files = [_file(INPUT, test.stdin), _file(ANSWER, test.expected or b"")]
        if output is not None:
            files.append(_file(OUTPUT, output))
        return msgspec.structs.replace(self._program, files=(*self._program.files, *files))


async def check(checker: PreparedGrader, test: GradingTest, output: bytes) -> Ruling:
    """What a checker says of an output."""
    if checker.broken is not None:
        return failure("checker", checker.broken)
    program = checker.program_for(test, output)
    return ruling_of(await checker.series.run(program, checker.artifact), "checker")


def _grader_program(grader: Grader, judged: Program) -> Program:
    """A checker or an interactor as a program; what it is to read is laid beside it."""
    code, files = grader.code, tuple[SourceFile, ...]()
    if grader.language == "python":
        files = (SourceFile(name=PYTHON_FILE, content=code),)
        code = PYTHON_MAIN.format(name=PYTHON_FILE)
    return Program(
        language=grader.language,
        code=code,
        args=(INPUT, OUTPUT, ANSWER),
        files=files,
        limits=msgspec.structs.replace(grader.limits, output_kb=OUTPUT_KB),
        environment=grader.environment,
        tenant=judged.tenant,
        eval_id=judged.eval_id,
    )


def _file(name: str, content: bytes) -> SourceFile:
    return SourceFile(name=name, content=base64.b64encode(content).decode(), encoding="base64")
