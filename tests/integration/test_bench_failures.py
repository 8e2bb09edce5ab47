"""What becomes of a run in which something fails: real subjects in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import runner
from benchmarks.driven import Driven, SubjectError
from benchmarks.report import Report, failures_table
from benchmarks.scenario import Scenario, Stage, Subject, redis_stage
from benchmarks.targets import Target
from crucible.errors import RequirementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.scenario import Bench

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "redis://127.0.0.1:1/0"
TARGETS = (
    Target(what="good", scenario="tiny", subject="good", metric="sent_per_s", at_least=1),
    Target(what="bad", scenario="tiny", subject="bad", metric="sent_per_s", at_least=1),
    Target(what="both", scenario="tiny", subject="good", metric="sent_per_s", against="bad"),
)


async def measure(stage: Stage, label: str) -> None:
    """Send for a moment; what is recorded before a failure must not be kept."""
    stage.record(label, "begun_count", 1)
    async with stage.driven(label) as producer:
        answer = await producer.run(what="enqueue", seconds=0.05)
    stage.record(label, "sent_per_s", answer["sent"] / answer["elapsed_s"])


def scenario(name: str = "tiny", **more: object) -> Scenario:
    """Two producers, one of which finds no server."""
    subjects = {
        "good": Subject("crucible_producer"),
        "bad": Subject("crucible_producer", job={"redis": NOBODY}),
    }
    options = {"open": redis_stage, "measure": measure, "subjects": subjects, **more}
    return Scenario(name=name, summary="", seconds=0.05, **options)  # type: ignore[arg-type]


async def carried_out(monkeypatch: pytest.MonkeyPatch, *scenarios: Scenario) -> Report:
    """The report of a run of these scenarios, two repeats each."""
    monkeypatch.setattr(runner, "scenarios_of", lambda _: list(scenarios))
    monkeypatch.setattr("benchmarks.report.TARGETS", TARGETS)
    run = runner.Run(runner.Plan(scenario="tiny", repeats=2), lambda *_: None)
    await run.carry_out()
    return run.report()


async def test_a_failing_subject_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named as missing, nothing of it is kept, and all else is measured and judged."""
    report = await carried_out(monkeypatch, scenario(), scenario("after"))
    assert {figure.key[:2] for figure in report.figures} == {("tiny", "good"), ("after", "good")}
    for figure in report.figures:
        assert figure.repeats == [0, 1], figure.key
    failed = [(f.scenario, f.subject, f.repeat, f.made_up) for f in report.failures]
    # In the order of measuring, which rotates.
    assert failed[:2] == [("tiny", "bad", 0, False), ("tiny", "bad", 1, False)]
    assert len(failed) == 4
    assert all(failure.reason for failure in report.failures)
    assert {verdict.target.what: str(verdict.outcome) for verdict in report.verdicts()} == {
        "good": "PASS",
        "bad": "-",
        "both": "-",
    }
    assert [target.what for target in report.unjudged()] == ["bad", "both"]
    assert failures_table(report).row_count == 4
    assert report.whole


async def test_a_second_try_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails once is measured after the others, as the repeat it is."""
    failures = iter([True])

    async def once(stage: Stage, label: str) -> None:
        await measure(stage, label)
        if stage.bench.repeat == 0 and next(failures, False):
            raise SubjectError("not this time")

    one = scenario(measure=once, subjects={"good": Subject("crucible_producer")})
    report = await carried_out(monkeypatch, one)
    assert [(f.repeat, f.made_up, f.reason) for f in report.failures] == [
        (0, True, "not this time")
    ]
    for figure in report.figures:
        assert figure.repeats == [1, 0], "the second try comes last"


async def test_a_scenario_that_cannot_open_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without what it needs a scenario is missing by name, and the next one runs."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def closed(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
        if bench.repeats:
            raise RequirementError("no engine", "start one")
        yield Stage(bench, scenario.name, scenario.subjects)

    good = {"good": Subject("crucible_producer")}
    report = await carried_out(
        monkeypatch, scenario("closed", open=closed), scenario(subjects=good)
    )
    assert {figure.scenario for figure in report.figures} == {"tiny"}
    [failure] = report.failures
    assert (failure.scenario, failure.subject) == ("closed", "")
    assert "no engine" in failure.reason


async def test_children_of_a_subject_that_hangs_do_not_outlive_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A subject that no longer reacts is killed together with its children."""
    monkeypatch.setattr("benchmarks.driven.STOP_S", 0.3)
    # Port 1 has no server: the sampling process fails only once it samples, so it is stopped.
    async with Driven("crucible_api", job={"redis": NOBODY}) as api:
        child = api.facts["pid"]
        os.kill(api.pid, signal.SIGSTOP)
    async with asyncio.timeout(60):
        while _runs(child):
            await asyncio.sleep(0.05)


async def test_a_closed_pipe_ends_a_subject_with_its_children() -> None:
    """It means that the harness died, whether or not the signal for that comes in time."""
    async with Driven("crucible_api", job={"redis": NOBODY}) as api:
        child = api.facts["pid"]
        process = api._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(60):
            await process.wait()
            while _runs(child):
                await asyncio.sleep(0.05)


async def test_nothing_outlives_a_killed_harness() -> None:
    """Killed without a chance to clean up, it takes subjects and their children along."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", "bench", "roundtrip", "--repeats", "1"),
        *("--subjects", "crucible", "--seconds", "600"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    started: set[int] = set()
    try:
        async with asyncio.timeout(60):
            # Server, subject, its api and worker, and the load: all that will be there.
            while len(started) < 5:
                assert process.returncode is None
                started = _descendants(process.pid)
                await asyncio.sleep(0.05)
    finally:
        process.kill()
        await process.wait()
    async with asyncio.timeout(30):
        while any(map(_runs, started)):
            await asyncio.sleep(0.05)


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | _descendants(child)
    return found


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_ctrl_c_shows_what_was_measured(tmp_path: Path) -> None:
    """Figures until then are printed and written, marked as not the whole."""
    result = tmp_path / "result.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", "bench", "batch", "--repeats", "1000"),
        *("--subjects", "crucible send_batch", "--seconds", "0.1", "--json", str(result)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # A shell starts what it puts in the background deaf to Ctrl-C, and so its descendants.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # Each part starts interpreters, which takes long beside other tests.
        async with asyncio.timeout(80):
            while not result.exists():
                assert process.returncode is None
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(80):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode()
    assert process.returncode == 130, text
    assert "messages_per_s" in text
    assert "incomplete" in text
    assert "Traceback" not in text
    document = json.loads(result.read_text())
    assert document["whole"] is False
    assert document["figures"]


async def test_a_swallowed_cancellation_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that loses a cancellation delays the end by one measurement at most."""
    measured: list[str] = []

    async def deaf(stage: Stage, label: str) -> None:
        measured.append(label)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        await carried_out(monkeypatch, scenario(measure=deaf))
    task = asyncio.current_task()
    assert task is not None
    assert task.uncancel() == 0
    assert measured == ["good"]
