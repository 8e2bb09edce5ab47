"""A checker: compiled once, run after each test in a lane that the judged program never sees."""

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
#: Bytes repeated of what a compiler says of a checker.
_SHOWN = 500


class Checker:
    """Judges outputs.

    Args:
        series: where it runs.
        program: the checker.
        artifact: what was compiled of it.
        broken: why it can judge nothing, where it does not compile.
    """

    def __init__(
        self, series: Series, program: Program, artifact: Artifact | None, broken: str | None
    ) -> None:
        self._series = series
        self._program = program
        self._artifact = artifact
        self._broken = broken

    @classmethod
    async def prepare(
        cls, executor: DockerExecutor, series: Series, grader: Grader, judged: Program
    ) -> Checker:
        """Compile it, where it has to be.

        Raises:
            ExecutorError: the platform could not.
        """
        program = grader_program(grader, judged, "checker.py")
        if not executor.admit(program).language.compile:
            return cls(series, program, None, None)
        compilation = await executor.compile(program)
        broken = None
        if compilation.artifact is None:
            words = compilation.report.error[:_SHOWN].decode("utf-8", "replace")
            broken = f"it was not compiled: {compilation.message}; {words}"
        return cls(series, program, compilation.artifact, broken)

    async def check(self, test: GradingTest, output: bytes) -> Ruling:
        """What an output is worth."""
        if self._broken is not None:
            return failure("checker", self._broken)
        files = (
            *self._program.files,
            _file(INPUT, test.stdin),
            _file(OUTPUT, output),
            _file(ANSWER, test.expected or b""),
        )
        program = msgspec.structs.replace(self._program, files=files)
        return ruling_of(await self._series.run(program, self._artifact), "checker")


def grader_program(grader: Grader, judged: Program, python_file: str) -> Program:
    """A checker or an interactor as a program; what it is to read is laid beside it.

    Args:
        grader: its source.
        judged: the program it judges.
        python_file: where its source is put if that is Python.
    """
    code, files = grader.code, tuple[SourceFile, ...]()
    if grader.language == "python":
        files = (SourceFile(name=python_file, content=code),)
        code = PYTHON_MAIN.format(name=python_file)
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
