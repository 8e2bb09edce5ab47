"""The load: a mix of works from a seed. No I/O."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from benchmarks.chaos.records import Expected
from crucible.models import ISOLATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.models import Isolation

QUEUES = ("chaos_urgent", "chaos_usual")
#: The longest task and the longest delay, seconds; the visibility timeout must be longer.
LONGEST_S, LATEST_S = 3.0, 8.0


class Kind(StrEnum):
    """Kinds of work."""

    NOOP = "no-op"
    SHORT = "short"
    LONG = "long"
    DELAYED = "delayed"
    RETRYING = "retrying"
    CHAIN = "chain"
    CHORD = "chord"
    PROGRAM = "program"


#: Share of each kind that needs no container engine, in percent of those.
_SHARES = {
    Kind.NOOP: 30,
    Kind.SHORT: 25,
    Kind.LONG: 12,
    Kind.DELAYED: 12,
    Kind.RETRYING: 7,
    Kind.CHAIN: 7,
    Kind.CHORD: 7,
}


@dataclass(frozen=True, slots=True)
class Work:
    """One task or one canvas.

    Attributes:
        name: prefix of its task ids.
        kind: the kind of work.
        queue: the queue of its tasks.
        priority: Celery's on Redis: 0 goes first.
        seconds: duration of each of its tasks.
        countdown: of a delayed task, or between retries.
        size: steps of a chain, header tasks of a chord, attempts that fail.
        isolation: of a program.
    """

    name: str
    kind: Kind
    queue: str
    priority: int
    seconds: float = 0.0
    countdown: float = 0.0
    size: int = 1
    isolation: Isolation = "container"

    @property
    def ids(self) -> list[str]:
        """Ids of its tasks in order; a chord's body is the last."""
        if self.kind is Kind.CHAIN:
            return [f"{self.name}.{step}" for step in range(self.size)]
        if self.kind is Kind.CHORD:
            return [*(f"{self.name}.{part}" for part in range(self.size)), f"{self.name}.body"]
        return [self.name]

    @property
    def label(self) -> str:
        """Its kind, of a program with the isolation."""
        return f"{self.kind}, {self.isolation}" if self.kind is Kind.PROGRAM else self.kind

    def expected(self, now: float) -> tuple[Expected, ...]:
        """The ledger's record of its tasks when it is sent at ``now``."""
        ids = self.ids
        if self.kind is Kind.CHAIN:
            steps = zip(ids, [(), *((one,) for one in ids)], strict=False)
            return tuple(Expected(step, None, after) for step, after in steps)
        if self.kind is Kind.CHORD:
            *header, body = ids
            return (*map(Expected, header), Expected(body, None, tuple(header)))
        eta = now + self.countdown if self.kind is Kind.DELAYED else None
        return (Expected(ids[0], eta),)


def works(seed: int, producer: str, programs: int = 0) -> Iterator[Work]:
    """The endless works of one producer.

    Args:
        seed: determines them.
        producer: begins their names.
        programs: for every hundred of the others, so many run a program in a sandbox, in turns of
            each isolation.
    """
    chosen = random.Random(f"{seed}-{producer}")
    kinds, shares = [*_SHARES, Kind.PROGRAM], [*_SHARES.values(), programs]
    isolations = itertools.cycle(ISOLATIONS)
    number = 0
    while True:
        number += 1
        (kind,) = chosen.choices(kinds, shares)
        work = _work(chosen, f"{producer}-{number}", kind)
        if kind is Kind.PROGRAM:
            work = replace(work, isolation=next(isolations))
        yield work


def _work(chosen: random.Random, name: str, kind: Kind) -> Work:
    queue = chosen.choice(QUEUES)
    priority = chosen.choice((0, 3, 6, 9))
    seconds = {
        Kind.SHORT: chosen.uniform(0.01, 0.2),
        Kind.LONG: chosen.uniform(1.0, LONGEST_S),
        Kind.CHAIN: chosen.uniform(0.0, 0.2),
        Kind.CHORD: chosen.uniform(0.0, 0.3),
    }.get(kind, 0.0)
    countdown = {
        Kind.DELAYED: chosen.uniform(0.2, LATEST_S),
        Kind.RETRYING: chosen.uniform(0.1, 1.0),
    }.get(kind, 0.0)
    size = chosen.randint(2, 5) if kind in (Kind.CHAIN, Kind.CHORD) else chosen.randint(1, 3)
    return Work(name, kind, queue, priority, round(seconds, 3), round(countdown, 3), size)
