"""A run: scenarios one after the other, subjects of each alternated, repeated."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks import machine
from benchmarks.report import Report, latencies_of
from benchmarks.scenario import Bench
from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.scenario import Scenario

#: In the order of ``all``.
SCENARIOS = (
    "limits",
    "submit",
    "batch",
    "worker",
    "roundtrip",
    "sandbox",
    "depth",
    "wait",
    "processes",
    "migration",
    "endurance",
    "soak",
)
ALL = "all"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        scenario: a name, or ``all``.
        subjects: only these labels; empty for every one.
        repeats: measurements of each subject.
        seconds: length of one; 0 leaves it to each scenario.
        scale: see ``Bench.scale``.
    """

    scenario: str = ALL
    subjects: tuple[str, ...] = ()
    repeats: int = 5
    seconds: float = 0.0
    scale: float = 1.0


def scenario_of(name: str) -> Scenario:
    """A scenario by name.

    Raises:
        SettingsError: there is none of this name.
    """
    if name not in SCENARIOS:
        raise SettingsError("SCENARIO", f"{name!r} is none of {', '.join((*SCENARIOS, ALL))}")
    scenario: Scenario = import_module(f"benchmarks.scenarios.{name}").SCENARIO
    return scenario


def scenarios_of(plan: Plan) -> list[Scenario]:
    """The scenarios a plan means.

    Raises:
        SettingsError: an unknown scenario, or a subject none of them has.
    """
    if plan.scenario == ALL:
        chosen = [scenario for name in SCENARIOS if (scenario := scenario_of(name)).in_all]
    else:
        chosen = [scenario_of(plan.scenario)]
    known = {label for scenario in chosen for label in scenario.subjects}
    if unknown := sorted(set(plan.subjects) - known):
        raise SettingsError("--subjects", f"no {', '.join(unknown)}; have {', '.join(known)}")
    return chosen


def rotated(labels: Sequence[str], repeat: int) -> list[str]:
    """The order of a repeat: each subject goes first as often as the others."""
    at = repeat % len(labels) if labels else 0
    return [*labels[at:], *labels[:at]]


async def run(plan: Plan, progress: Callable[[str, int, int], None]) -> Report:
    """Carry out a plan.

    Args:
        plan: what to measure.
        progress: told what is measured now, how many measurements are done, and of how many.

    Raises:
        SettingsError: the plan names what there is not.
        CrucibleError: a subject failed, or the machine lacks something.
    """
    scenarios = scenarios_of(plan)
    started, began = datetime.now(UTC), time.monotonic()
    described = machine.describe()
    with tempfile.TemporaryDirectory(prefix="crucible-bench-") as directory:
        bench = Bench(plan.seconds, plan.scale, Path(directory))
        chosen = [(scenario, _labels(bench, scenario, plan)) for scenario in scenarios]
        total = plan.repeats * sum(len(labels) for _, labels in chosen)
        done = 0
        for scenario, labels in chosen:
            if not labels:
                continue
            bench.seconds = plan.seconds or scenario.seconds
            async with scenario.open(bench, scenario) as stage:
                for repeat in range(plan.repeats):
                    for label in rotated(labels, repeat):
                        progress(f"{scenario.name}: {label}", done, total)
                        await scenario.measure(stage, label)
                        done += 1
        progress("done", done, total)
    return Report(
        started_at=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        command=msgspec.to_builtins(plan),
        machine=described,
        figures=bench.figures.all,
        latencies=latencies_of(bench),
        notes=bench.notes,
    )


def _labels(bench: Bench, scenario: Scenario, plan: Plan) -> list[str]:
    labels = []
    for label, subject in scenario.subjects.items():
        if plan.subjects and label not in plan.subjects:
            continue
        if subject.missing:
            bench.note(f"{scenario.name}: {label}: {subject.missing}")
            continue
        labels.append(label)
    return labels
