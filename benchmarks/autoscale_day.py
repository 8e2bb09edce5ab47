"""A day's load under the autoscale policy, simulated: ``python -m benchmarks.autoscale_day FILE``.

A quiet night, office hours, the burst of a release at ten, and a long tail of slow programs in the
evening. One look every ten seconds; a worker that is asked for is there after 20 s, one that is to
leave ends what it runs. The same arrivals every time: nothing is drawn by chance but from one seed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crucible.scaling.policy import Autoscaler, Load, Policy

DAY_S = 86_400
STEP_S = 10
#: Tasks a worker runs at once, and seconds from asking for a worker to its first task.
SLOTS = 4
START_S = 20
_HOUR_S = 3600
_SEED = 2024
#: Weight of the newest end in the measured service time, as in ``crucible.worker.load``.
_NEWEST = 0.05


class Sample(NamedTuple):
    """One look: seconds since midnight, messages waiting, age of the next, workers."""

    at_s: int
    waiting: int
    oldest_s: float
    workers: int


def arrivals_a_second(at_s: float) -> float:
    """Submissions a second at one time of the day."""
    hour = at_s / _HOUR_S
    office = 3.0 * max(0.0, math.sin(math.pi * (hour - 7) / 12)) if 7 <= hour <= 19 else 0.0
    release = 20.0 if 10.0 <= hour < 10.25 else 0.0
    return 0.2 + office + release


def service_s(at_s: float) -> float:
    """Seconds a program takes: one and a half, and twelve in the evening's long tail."""
    return 12.0 if 20 <= at_s / _HOUR_S < 22 else 1.5


@dataclass
class Fleet:
    """Workers and the queue they work off.

    Attributes:
        scaler: decides how many there are.
        ready_s: when each worker that was asked for is there.
        waiting: when each message in the queue was sent.
        running: when each message that runs will end.
    """

    scaler: Autoscaler
    ready_s: list[float] = field(default_factory=list)
    waiting: deque[float] = field(default_factory=deque)
    running: list[float] = field(default_factory=list)
    average_s: float | None = None

    def step(self, at_s: int, arriving: list[int]) -> Sample:
        """Some seconds: messages arrive, start and end; then the policy decides."""
        for second, number in enumerate(arriving, at_s):
            self.waiting.extend([float(second)] * number)
            self._run(second)
        now_s = at_s + STEP_S
        oldest_s = now_s - self.waiting[0] if self.waiting else 0.0
        load = Load(
            waiting=len(self.waiting),
            claimed=len(self.running),
            slots=SLOTS,
            oldest_s=oldest_s,
            service_s=self.average_s,
        )
        self._resize(self.scaler.decide(load, now_s), now_s)
        return Sample(at_s, len(self.waiting), oldest_s, len(self.ready_s))

    def _run(self, second: int) -> None:
        self.running = [end_s for end_s in self.running if end_s > second]
        present = sum(1 for ready_s in self.ready_s if ready_s <= second)
        while self.waiting and len(self.running) < present * SLOTS:
            self.waiting.popleft()
            took_s = service_s(second)
            self.running.append(second + took_s)
            self.average_s = (
                took_s
                if self.average_s is None
                else self.average_s + _NEWEST * (took_s - self.average_s)
            )

    def _resize(self, desired: int, now_s: float) -> None:
        while len(self.ready_s) < desired:
            self.ready_s.append(now_s + START_S)
        # The newest leave first: they may not even be there yet.
        del self.ready_s[desired:]


def _poisson(chance: random.Random, mean: float) -> int:
    """How many arrive in a second (Knuth)."""
    least, product, number = math.exp(-mean), chance.random(), 0
    while product > least:
        product *= chance.random()
        number += 1
    return number


def simulate(policy: Policy) -> list[Sample]:
    """The day, look by look."""
    chance = random.Random(_SEED)
    fleet = Fleet(Autoscaler(policy), ready_s=[0.0] * policy.least)
    samples = []
    for at_s in range(0, DAY_S, STEP_S):
        mean = arrivals_a_second(at_s)
        arriving = [_poisson(chance, mean) for _ in range(STEP_S)]
        samples.append(fleet.step(at_s, arriving))
    return samples


def draw(samples: list[Sample], path: Path) -> None:
    """Plot queue age, depth and workers over the day."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "autoscale"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    rows = figure.subplots(3, 1, sharex=True)
    hours = [sample.at_s / _HOUR_S for sample in samples]
    for axes, label, values in zip(
        rows,
        ("age of the next message, s", "messages waiting", "workers"),
        (
            [sample.oldest_s for sample in samples],
            [sample.waiting for sample in samples],
            [sample.workers for sample in samples],
        ),
        strict=True,
    ):
        axes.plot(hours, values, linewidth=0.8)
        axes.set(ylabel=label, xlim=(0, 24), ylim=(0, None))
        axes.grid(alpha=0.3)
    rows[0].set_title("A day under the default policy, at most 20 workers of 4 slots")
    rows[2].set(xlabel="hour", xticks=range(0, 25, 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    """Simulate, draw, and print the extremes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    samples = simulate(Policy(most=20))
    draw(samples, path)
    changes = sum(a.workers != b.workers for a, b in itertools.pairwise(samples))
    print(f"most workers      {max(sample.workers for sample in samples)}")
    print(f"worst age, s      {max(sample.oldest_s for sample in samples):.0f}")
    print(f"changes in a day  {changes}")
    print(f"worker hours      {sum(sample.workers for sample in samples) * STEP_S / _HOUR_S:.0f}")


if __name__ == "__main__":
    main()
