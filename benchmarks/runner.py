"""A run: scenarios one after the other, their subjects alternating, with repeats."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import RedisError

from benchmarks import machine
from benchmarks.report import Failure, Report, latencies_of
from benchmarks.scenario import Bench
from benchmarks.targets import TARGETS
from crucible.errors import CrucibleError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.scenario import Scenario, Stage

#: Scenarios by name, in the order of ``all``.
SCENARIOS = (
    "limits",
    "submit",
    "features",
    "batch",
    "worker",
    "roundtrip",
    "sandbox",
    "grading",
    "rewards",
    "assessments",
    "sse",
    "depth",
    "wait",
    "processes",
    "migration",
    "history",
    "endurance",
    "soak",
)
ALL = "all"
#: Errors that fail one measurement but not the run; any other is a bug of the harness.
_FAILURES = (CrucibleError, RedisError, OSError)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        scenario: a name, or ``all``.
        only: of ``all`` these scenarios, those too that are no part of it; empty for all.
        subjects: only these labels; empty for all.
        repeats: measurements of each subject.
        seconds: length of one; 0: each scenario's default.
        scale: see ``Bench.scale``.
    """

    scenario: str = ALL
    only: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    repeats: int = 5
    seconds: float = 0.0
    scale: float = 1.0


def scenario_of(name: str) -> Scenario:
    """A scenario by name.

    Raises:
        SettingsError: no scenario has this name.
    """
    if name not in SCENARIOS:
        raise SettingsError("SCENARIO", f"{name!r} is not one of {', '.join((*SCENARIOS, ALL))}")
    scenario: Scenario = import_module(f"benchmarks.scenarios.{name}").SCENARIO
    return scenario


def scenarios_of(plan: Plan) -> list[Scenario]:
    """The scenarios of a plan.

    Raises:
        SettingsError: an unknown scenario or subject.
    """
    if plan.scenario == ALL and plan.only:
        chosen = [scenario_of(name) for name in plan.only]
    elif plan.scenario == ALL:
        chosen = [scenario for name in SCENARIOS if (scenario := scenario_of(name)).in_all]
    else:
        chosen = [scenario_of(plan.scenario)]
    known = {label for scenario in chosen for label in scenario.subjects}
    if unknown := sorted(set(plan.subjects) - known):
        raise SettingsError("--subjects", f"no {', '.join(unknown)}; have {', '.join(known)}")
    return chosen


def rotated(labels: Sequence[str], repeat: int) -> list[str]:
    """The order of a repeat: rotated, so that each subject comes first equally often."""
    at = repeat % len(labels) if labels else 0
    return [*labels[at:], *labels[:at]]


class Run:
    """Carries out a plan. Results are kept even if the run is cancelled or fails.

    A failed measurement is tried once more after the others of its scenario, and counted as missing
    if it fails again.

    Args:
        plan: what to measure.
        progress: called with what is measured now, the number of measurements done, and the total.
        measured: called with the report after each measurement.

    Raises:
        SettingsError: the plan has an unknown scenario or subject.
    """

    def __init__(
        self,
        plan: Plan,
        progress: Callable[[str, int, int], None],
        measured: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._progress = progress
        self._measured = measured
        self._started, self._began = datetime.now(UTC), time.monotonic()
        self._machine = machine.describe()
        self._bench = Bench(plan.seconds, plan.scale, Path(), plan.repeats)
        self._steps = [
            _Step(scenario, _labels(self._bench, scenario, plan)) for scenario in scenarios_of(plan)
        ]
        self._failures: list[Failure] = []
        self._done, self._total = 0, sum(len(step.turns(plan)) for step in self._steps)
        self._took: dict[str, float] = {}
        self._whole = False

    @property
    def expected_s(self) -> dict[str, float]:
        """Seconds that each scenario will take, about, in the order of the run."""
        return {step.scenario.name: step.expected_s(self._plan) for step in self._steps}

    async def carry_out(self) -> None:
        """Measure everything. Cancelling stops what runs; what was measured is kept."""
        with tempfile.TemporaryDirectory(prefix="crucible-bench-") as directory:
            self._bench.directory = Path(directory)
            for step in self._steps:
                if step.labels:
                    await self._scenario(step)
        self._whole = True
        self._progress("done", self._done, self._total)

    async def _scenario(self, step: _Step) -> None:
        bench, scenario = self._bench, step.scenario
        bench.seconds = self._plan.seconds or scenario.seconds
        turns = step.turns(self._plan)
        began = time.monotonic()
        try:
            async with scenario.open(bench, scenario) as stage:
                failed = [turn for turn in turns if not await self._try(stage, scenario, turn)]
                for turn in failed:
                    await self._try(stage, scenario, turn)
        except _FAILURES as error:
            # Failed in the scenario itself (its server, for example), not in a subject.
            self._failures.append(Failure(scenario.name, "", 0, _text(error)))
        finally:
            self._took[scenario.name] = round(time.monotonic() - began, 1)

    async def _try(self, stage: Stage, scenario: Scenario, turn: tuple[int, str]) -> bool:
        """Make one measurement; returns whether it succeeded."""
        _end_if_cancelled()
        repeat, label = turn
        self._progress(self._where(scenario, label), self._done, self._total)
        earlier = next((at for at, f in enumerate(self._failures) if _is_of(f, scenario, turn)), -1)
        self._bench.begin(repeat)
        try:
            await scenario.measure(stage, label)
        except _FAILURES as error:
            if earlier < 0:
                failure = Failure(scenario.name, label, repeat, _text(error))
                self._failures.append(failure)
            return False
        self._bench.keep()
        self._done += 1
        if earlier >= 0:
            self._failures[earlier] = msgspec.structs.replace(self._failures[earlier], made_up=True)
        self._measured(self.report())
        return True

    def _where(self, scenario: Scenario, label: str) -> str:
        """What is measured now, and how far that is: ``batch 3/15, 9 min left: crucible``."""
        names = [step.scenario.name for step in self._steps]
        expected = self.expected_s
        at = names.index(scenario.name)
        # What remains of this scenario counts as half of it: turns differ in length.
        left_s = expected[scenario.name] / 2 + sum(expected[name] for name in names[at + 1 :])
        minutes = max(1, round(left_s / 60))
        return f"{scenario.name} {at + 1}/{len(names)}, about {minutes} min left: {label}"

    def report(self) -> Report:
        """The report of what has been measured so far."""
        bench = self._bench
        return Report(
            started_at=self._started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._began, 1),
            command=msgspec.to_builtins(self._plan),
            machine=self._machine,
            figures=bench.kept.figures.all,
            latencies=latencies_of(bench),
            notes=bench.notes,
            asked={step.scenario.name: step.wanted(self._plan) for step in self._steps},
            failures=self._failures,
            whole=self._whole,
            expected_s=self.expected_s,
            took_s=self._took,
        )


class _Step(msgspec.Struct, frozen=True):
    """One scenario of a run, and the subjects of it that can be measured here."""

    scenario: Scenario
    labels: list[str]

    def wanted(self, plan: Plan) -> list[str]:
        """The subjects of the plan, installed or not."""
        return [label for label in self.scenario.subjects if _is_wanted(plan, label)]

    def turns(self, plan: Plan) -> list[tuple[int, str]]:
        """Repeats and subjects in the order of measurement.

        In a run of ``all``, subjects without a target are measured once.
        """
        judged = {
            label for t in TARGETS if t.scenario == self.scenario.name for label in t.subjects
        }
        turns = []
        for repeat in range(plan.repeats * self.scenario.rounds):
            seldom = plan.scenario == ALL and repeat > 0
            labels = [label for label in self.labels if label in judged or not seldom]
            turns += [(repeat, label) for label in rotated(labels, repeat)]
        return turns

    def expected_s(self, plan: Plan) -> float:
        """Seconds that all turns take, about; ``plan.seconds`` and ``plan.scale`` aside."""
        return len(self.turns(plan)) * self.scenario.turn_s


def _end_if_cancelled() -> None:
    """Raise a cancellation that was swallowed: redis-py's timeouts may do that on Python 3.11.

    Raises:
        asyncio.CancelledError: this task was cancelled before.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _is_of(failure: Failure, scenario: Scenario, turn: tuple[int, str]) -> bool:
    return (failure.scenario, failure.repeat, failure.subject) == (scenario.name, *turn)


def _text(error: BaseException) -> str:
    return str(error) or repr(error)


def _is_wanted(plan: Plan, label: str) -> bool:
    return not plan.subjects or label in plan.subjects


def _labels(bench: Bench, scenario: Scenario, plan: Plan) -> list[str]:
    labels = []
    for label, subject in scenario.subjects.items():
        if not _is_wanted(plan, label):
            continue
        if subject.missing:
            bench.note(f"{scenario.name}: {label}: {subject.missing}")
            continue
        labels.append(label)
    return labels
