"""What a scenario is, and what it is handed while it measures."""

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
    """Where one subject of a scenario comes from.

    Attributes:
        file: its file in ``subjects``.
        environment: whose interpreter runs it.
        job: what its ``setup`` is told besides what the scenario tells all.
    """

    file: str
    environment: str = PROJECT
    job: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """What keeps it from being measured here; empty when nothing does."""
        if not is_installed(self.environment):
            return "not installed here, see scripts/bench-envs"
        return ""


@dataclass(slots=True)
class Kept:
    """What was measured: figures, and histograms by scenario, subject and what was timed."""

    figures: Figures = field(default_factory=Figures)
    latencies: dict[tuple[str, str, str], Histogram] = field(default_factory=dict)

    def add(self, other: Kept) -> None:
        """Everything in ``other``."""
        self.figures.add(other.figures)
        for key, histogram in other.latencies.items():
            self.latencies.setdefault(key, Histogram()).add(histogram)


@dataclass(slots=True)
class Bench:
    """A run's settings and what it has measured so far.

    Attributes:
        seconds: length of one measurement.
        scale: 1.0 for real figures; tests use less, which shrinks counts and fixed sizes.
        directory: for servers' data.
        repeats: measurements of each subject.
        kept: everything of measurements that succeeded; all repeats together.
        notes: remarks for the reader, such as a peer that is not installed.
        attempt: what the measurement under way has recorded; kept only if it succeeds.
        repeat: which repeat that is, from 0.
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
        """What is recorded from now on is of this repeat; forget an attempt that was not kept."""
        self.attempt, self.repeat = Kept(), repeat

    def keep(self) -> None:
        """The measurement succeeded."""
        self.kept.add(self.attempt)
        self.attempt = Kept()

    def count(self, full: int, least: int = 10) -> int:
        """A number of things, shrunk by the scale."""
        return max(least, int(full * self.scale))

    def note(self, text: str) -> None:
        """Remember a remark, once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(slots=True)
class Stage:
    """What the subjects of one scenario share.

    Attributes:
        bench: the run.
        scenario: the scenario's name.
        subjects: its subjects by label.
        redis: URL of its queue server; empty where it has none.
        redis_pid: process id of that server, 0 where there is none.
        more: whatever else the scenario opened.
    """

    bench: Bench
    scenario: str
    subjects: Mapping[str, Subject]
    redis: str = ""
    redis_pid: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    def record(self, subject: str, metric: str, value: float) -> None:
        """Keep one repeat's value."""
        bench = self.bench
        bench.attempt.figures.record(self.scenario, subject, metric, value, bench.repeat)

    def latency(self, subject: str, what: str, histogram: Histogram) -> None:
        """Keep one repeat's latencies: P50, P99 and the highest as figures, and the histogram."""
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
    """One thing measured about several subjects.

    Attributes:
        name: as on the command line.
        summary: one sentence.
        subjects: by label, in the order of measuring.
        open: what they share, for as long as the scenario lasts.
        measure: one subject, once; records figures on the stage.
        seconds: length of one measurement where the command line says nothing.
        in_all: part of ``all``; a soak is not.
        rounds: measurements of each subject for each repeat that was asked for.
    """

    name: str
    summary: str
    subjects: Mapping[str, Subject]
    open: Callable[[Bench, Scenario], AbstractAsyncContextManager[Stage]]
    measure: Callable[[Stage, str], Awaitable[None]]
    seconds: float = 3.0
    in_all: bool = True
    rounds: int = 1


@asynccontextmanager
async def plain_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """A stage with nothing on it."""
    yield Stage(bench, scenario.name, scenario.subjects)


@asynccontextmanager
async def redis_stage(bench: Bench, scenario: Scenario) -> AsyncIterator[Stage]:
    """A stage with a durable queue server, its append-only file on, as ``crucible up`` has it."""
    async with EmbeddedServer(bench.directory / scenario.name) as server:
        yield Stage(bench, scenario.name, scenario.subjects, server.url, server.pid)
