"""Compilers of hostile programs, and programs that want to change what was compiled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio
from siege import ISOLATIONS, LATE_S, honest
from support.interrupting import cut_short
from support.sandboxes import containers_of, processes_of

from crucible.environments import DEFAULT, JUDGE
from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.executor.frames import ARTIFACT_BYTES, STARTED
from crucible.executor.output import Output
from crucible.models import Limits, Program, SourceFile, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.models import Outcome

    Make = Callable[..., Program]

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]

V = Verdict
ROOMY = Limits(wall_time_s=60.0, cpu_time_s=60.0)
C_MAIN = "int main(void) { return 0; }\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor() -> AsyncIterator[DockerExecutor]:
    config = ExecutorConfig(pool_min=1, environments=(DEFAULT, JUDGE))
    async with DockerExecutor.open(config) as opened:
        yield opened


@pytest.fixture(params=ISOLATIONS)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes programs in C of each isolation, whose tenant is the test."""

    def make(code: str, **fields: object) -> Program:
        program = Program(
            language="c",
            code=code,
            limits=ROOMY,
            compile_limits=msgspec.structs.replace(ROOMY, output_kb=64),
            isolation=request.param,
            tenant=request.node.name,
        )
        return msgspec.structs.replace(program, **fields)

    return make


SPOIL = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
    puts("honest");
    fflush(stdout);
    const char *folders[] = {"/tmp/work", "/tmp", "/dev/shm", "/var/tmp", "/run"};
    for (int at = 0; at < 5; at++) {
        char path[64];
        snprintf(path, sizeof path, "%s/main", folders[at]);
        unlink(path);
        FILE *file = fopen(path, "w");
        if (!file) continue;
        fputs("#!/bin/sh\\necho poisoned\\n", file);
        fclose(file);
        chmod(path, 0755);
    }
    if (fork() == 0) {
        setsid();
        for (;;) { FILE *file = fopen("/tmp/work/main", "w"); if (file) fclose(file); }
    }
    return 0;
}
"""


async def test_a_program_cannot_change_what_the_next_one_runs(
    executor: DockerExecutor, make: Make
) -> None:
    """Whatever it does to its own file and leaves behind, the next run is as the first."""
    outcomes: list[Outcome] = [await executor.run(make(SPOIL)) for _ in range(4)]
    assert {(one.verdict, one.stdout) for one in outcomes} == {(V.OK, b"honest\n")}
    assert [one.compile.cached for one in outcomes if one.compile] == [False, True, True, True]
    await honest(executor)


@pytest.mark.parametrize(
    "line",
    [
        '#include "/dev/zero"',
        '#include "/dev/random"',
        '#include "/dev/stdin"',
        '#include "/proc/1/environ"',
        '#include "/proc/1/mem"',
        '#include "/etc/shadow"',
        '#include "main.c"',
        '#define A(x) x x x x\n#define B(x) A(A(A(A(x))))\nchar *a = B(B(B("")));',
    ],
)
async def test_compilers_are_shut_in_as_programs_are(
    executor: DockerExecutor, make: Make, line: str
) -> None:
    """What they are made to read or to grow is bounded, in time too; nothing is given away."""
    limits = Limits(wall_time_s=3.0, cpu_time_s=2.0, output_kb=64)
    began = time.monotonic()
    program = make(f"{line}\n{C_MAIN}", compile_limits=limits)
    outcome = await executor.run(program)
    assert outcome.verdict in (V.COMPILE_ERROR, V.OK), outcome
    assert outcome.compile is not None
    assert len(outcome.compile.error) <= 64 << 10
    assert b"root:" not in outcome.compile.error
    assert outcome.run_s < limits.wall_time_s + LATE_S
    assert time.monotonic() - began < 60
    await honest(executor)


async def test_compiled_files_are_bounded(executor: DockerExecutor, make: Make) -> None:
    """Too large to be kept is a compile error that says so."""
    large = ARTIFACT_BYTES // 4 + 1000
    code = f"static int a[{large}] = {{1}};\nint main(void) {{ return a[1]; }}\n"
    outcome = await executor.run(make(code))
    assert (outcome.verdict, outcome.message) == (
        V.COMPILE_ERROR,
        "the compiled files take more than 32 MiB",
    )


#: What javac calls while it compiles, if it finds it: code of the client's in the compile jail.
PROCESSOR = """\
import java.io.*; import java.nio.file.*; import java.util.*;
import javax.annotation.processing.*; import javax.lang.model.element.*;
@SupportedAnnotationTypes("*")
public class P extends AbstractProcessor {
    static void tries(String... words) {
        try { new ProcessBuilder(words).inheritIO().start(); } catch (IOException e) { }
    }
    public boolean process(Set<? extends TypeElement> a, RoundEnvironment r) {
        System.err.println("the processor runs");
        tries("/bin/bash", "-c", "mkdir -p deep; ln -s /etc/passwd link.class; mkfifo pipe.class;"
            + " echo left > /tmp/left; echo left > /dev/shm/left; chmod 0 deep;"
            + " trap '' TERM; while :; do date > /tmp/work/late.class; done");
        return false;
    }
}
"""
MAIN = """\
import java.io.*; import java.nio.file.*;
public class Main {
    public static void main(String[] a) throws IOException {
        for (String f : new String[] {"/tmp", "/dev/shm", "/tmp/work"})
            for (String n : new File(f).list())
                if (!n.startsWith("hsperf") && !n.startsWith(".java")) System.out.println(n);
    }
}
"""


async def test_what_a_compiler_is_made_to_run_leaves_nothing(
    executor: DockerExecutor, make: Make
) -> None:
    """An annotation processor of the client's: daemons, links, files elsewhere are gone."""
    java = msgspec.structs.replace(ROOMY, memory_mb=512, pids=128)
    common = {"language": "java", "environment": "judge", "limits": java, "compile_limits": java}
    user = "public class Main { P p; }\n"
    first = await executor.compile(
        make(user, files=(SourceFile(name="P.java", content=PROCESSOR),), **common)
    )
    assert first.artifact is not None, first
    processor = next(file for file in first.artifact.files if file.name == "P.class")
    files = (
        SourceFile(
            name="P.class", content=b64encode(processor.content).decode(), encoding="base64"
        ),
        SourceFile(name="META-INF/services/javax.annotation.processing.Processor", content="P"),
    )
    program = make(MAIN, files=files, **common)
    outcomes = [await executor.run(program) for _ in range(2)]
    assert [one.compile.cached for one in outcomes if one.compile] == [False, True]
    wanted = {b"work", b"Main.java", b"Main.class", b"P.class", b"META-INF"}
    for outcome in outcomes:
        assert outcome.verdict is V.OK, outcome
        assert outcome.compile is not None
        assert b"the processor runs" in outcome.compile.error
        # Its daemon was writing this one when it was killed, so it may be part of what was made.
        assert set(outcome.stdout.split()) - {b"late.class"} == wanted
    await honest(executor)


async def compiling(executor: DockerExecutor) -> bool:
    """Whether a C compiler runs in a container of this executor."""
    known = await containers_of(executor.config.owner)
    names = [Path(f"/proc/{pid}/comm") for pid in processes_of(known)]
    with contextlib.suppress(OSError):
        return any(name.read_text().strip() == "tcc" for name in names)
    return False


async def test_cancelled_while_it_is_compiled(
    executor: DockerExecutor, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler is killed; none of its words are the program's, and files are named as lost."""
    # The compiler is there before the executor has been told that it starts.
    known = asyncio.Event()
    take = Output.take

    def noted(output: Output, kind: bytes, payload: bytes) -> None:
        take(output, kind, payload)
        if kind == STARTED:
            known.set()

    monkeypatch.setattr(Output, "take", noted)
    # A terminal that nobody writes to.
    program = make(f'#include "/dev/ptmx"\n{C_MAIN}', output_files=("a", "*.b"))
    running = asyncio.create_task(cut_short(executor, program))
    async with asyncio.timeout(40):
        await known.wait()
        while not await compiling(executor):
            assert not running.done(), running.result()
            await asyncio.sleep(0.02)
    running.cancel()
    outcome = await running
    assert (outcome.verdict, outcome.message) == (V.CANCELLED, "stopped while it was compiled")
    assert outcome.files_omitted == {"a": "lost", "*.b": "lost"}
    assert (await executor.run(make(C_MAIN))).verdict is V.OK
