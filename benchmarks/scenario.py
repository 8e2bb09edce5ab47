"""What a scenario is, and what it gets while it measures."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.driven import PROJECT, Driven, is_installed
from benchmarks.figures import Figures
from benchmarks.histogram import Histogram
from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Subject:
    """One subject of a scenario.

    Attributes:
        file: its file in ``subjects``.
        environment: the environment whose interpreter runs it.
        job: arguments of its ``setup``, besides those that the scenario passes to all.
    """

    file: str
    environment: str = PROJECT
    job: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        if not is_installed(self.environment):
            return "not installed here, see scripts/pinned-envs bench"
        return ""


@dataclass(slots=True)
class Kept:
    """Results: figures, and histograms by scenario, subject and load."""

    figures: Figures = field(default_factory=Figures)
    latencies: dict[tuple[str, str, str], Histogram] = field(default_factory=dict)

    def add(self, other: Kept) -> None:
        """Add everything in ``other``."""
        self.figures.add(other.figures)
        for key, histogram in other.latencies.items():
            self.latencies.setdefault(key, Histogram()).add(histogram)


@dataclass(slots=True)
class Bench:
    """The parameters of a run, and what it has measured so far.

    Attributes:
        seconds: length of one measurement.
        scale: 1.0 for real figures; tests use less, which shrinks counts and fixed sizes.
        directory: directory for servers' data.
        repeats: measurements of each subject.
        kept: results of the measurements that succeeded, all repeats together.
        notes: remarks for the reader, such as a peer that is not installed.
        attempt: results of the measurement in progress; kept only if it succeeds.
        repeat: number of the repeat in progress, from 0.
    """

    seconds: float
    scale: float
    directory: Path
    repeats: int = 1
    kept: Kept = field(default_factory=Kept)
    notes: list[str] = field(default_factory=list)
    attempt: Kept = field(default_factory=Kept)
    repeat: int = 0

    def begin(self, repeat: int) -> None:
        """Start a measurement of this repeat; results of a failed attempt are discarded."""
        self.attempt, self.repeat = Kept(), repeat

    def keep(self) -> None:
        """Keep the results of the measurement in progress: it succeeded."""
        self.kept.add(self.attempt)
        self.attempt = Kept()

    def count(self, full: int, least: int = 10) -> int:
        """A count multiplied by the scale."""
        return max(least, int(full * self.scale))

    def note(self, text: str) -> None:
        """Add a remark, unless it is there already."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(slots=True)
class Stage:
    """What the subjects of one scenario share.

    Attributes:
        bench: the run.
        scenario: the scenario's name.
        subjects: its subjects by label.
        redis: URL of its queue server; empty if it has none.
        redis_pid: process id of that server; 0 if there is none.
        more: anything else the scenario opened.
    """

    bench: Bench
    scenario: str
    subjects: Mapping[str, Subject]
    redis: str = ""
    redis_pid: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    def record(self, subject: str, metric: str, value: float) -> None:
        """Record one value of this repeat."""
        bench = self.bench
        bench.attempt.figures.record(self.scenario, subject, metric, value, bench.repeat)

    def latency(self, subject: str, what: str, histogram: Histogram) -> None:
        """Record this repeat's latencies: P50, P99 and maximum as figures, and the histogram."""
        if not histogram.count:
            return
        for name, value in histogram.percentiles_ms((50.0, 99.0, 100.0)).items():
            self.record(subject, f"{what}_{name}_ms", value)
        key = (self.scenario, subject, what)
        self.bench.attempt.latencies.setdefault(key, Histogram()).add(histogram)

    def driven(self, label: str, **options: Any) -> Driven:
        """The process of a subject; ``job`` and ``cores`` as in ``Driven``."""
        subject = self.subjects[label]
        job = {"redis": self.redis, **subject.job, **options.pop("job", {})}
        return Driven(subject.file, subject.environment, job=job, **options)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One measurement and the subjects it is made of.

    Attributes:
        name: its name on the command line.
        summary: one line about it.
        subjects: subjects by label, in the order of measurement.
        open: opens what they share for the duration of the scenario.
        measure: measures one subject once and records figures on the stage.
        seconds: default length of one measurement.
        in_all: whether it is part of ``all``; a soak is not.
        rounds: measurements of each subject per repeat.
        turn_s: seconds that one measurement takes on the reference machine, with start and end of
            its processes; only foretells when a run ends.
    """

    name: str
    summary: str
    subjects: Mapping[str, Subject]
    open: Callable[[Bench, Scenario], AbstractAsyncContextManager[Stage]]
    measure: Callable[[Stage, str], Awaitable[None]]
    seconds: float = 3.0
    in_all: bool = True
    rounds: int = 1
    turn_s: float = 10.0


@asynccontextmanager
async def plain_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """A stage without a server."""
    yield Stage(bench, scenario.name, scenario.subjects)


@asynccontextmanager
async def redis_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """A stage with a durable queue server, its append-only file on, as ``crucible up`` has it."""
    async with EmbeddedServer(bench.directory / scenario.name) as server:
        yield Stage(bench, scenario.name, scenario.subjects, server.url, server.pid)
