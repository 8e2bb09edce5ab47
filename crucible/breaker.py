"""A circuit breaker: after some failures in a row a downstream is not called for a while.

No loop, and no I/O but lines in the log; the clock is injected. ::

    closed ── `failures` in a row ──▶ open ── `open_s` later ──▶ half open
      ▲                                ▲                            │
      └──────── `trials` successes ────┼────────────────────────────┤
                                       └──────── one failure ───────┘

Use::

    permit = breaker.permit()
    if permit is None:
        ...  # not called; breaker.retry_after_s says for how long
    else:
        with permit:  # success, failure, or neither, by how the block ends
            await downstream()
"""

from __future__ import annotations

import enum
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import msgspec

from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType


log = logging.getLogger(__name__)

#: Seconds without a failure after which the next one is worth a line again.
_QUIET_S = 60.0


class BreakerState(enum.StrEnum):
    """Whether a downstream is called."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


#: From the best to the worst.
_BY_SEVERITY = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)


class Circuit(msgspec.Struct, frozen=True, array_like=True):
    """The state of a breaker, as it is sent to other processes.

    Attributes:
        state: at that moment.
        opened_total: how often it has opened since its process started.
    """

    state: BreakerState
    opened_total: int = 0


def worst(circuits: Iterable[Mapping[str, Circuit]]) -> dict[str, Circuit]:
    """Circuits of several processes as one: the worst state of each downstream, and all openings.

    Args:
        circuits: by downstream, of one process each.
    """
    merged: dict[str, Circuit] = {}
    for of_one in circuits:
        for name, circuit in of_one.items():
            known = merged.get(name, Circuit(BreakerState.CLOSED))
            state = max(known.state, circuit.state, key=_BY_SEVERITY.index)
            merged[name] = Circuit(state, known.opened_total + circuit.opened_total)
    return dict(sorted(merged.items()))


@dataclass(frozen=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens and closes.

    Attributes:
        failures: failures in a row that open it.
        open_s: seconds it stays open before it tries again.
        trials: successes that close it again, and attempts let through at once until then.

    Raises:
        SettingsError: a value is out of range.
    """

    failures: int = 5
    open_s: float = 10.0
    trials: int = 1

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise SettingsError("CRUCIBLE_BREAKER_FAILURES", "must be at least 1")
        if not (math.isfinite(self.open_s) and self.open_s > 0):
            raise SettingsError("CRUCIBLE_BREAKER_OPEN_S", "must be above 0 and finite")
        if self.trials < 1:
            raise SettingsError("CRUCIBLE_BREAKER_TRIALS", "must be at least 1")


class CircuitBreaker:
    """The breaker of one downstream.

    Attributes:
        name: the downstream, for metrics and ``/ready``.
        opened_total: how often it has opened.
    """

    def __init__(
        self,
        name: str,
        *counted: type[BaseException],
        policy: BreakerPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        log_level: int = logging.WARNING,
    ) -> None:
        """A closed breaker.

        Args:
            name: the downstream.
            counted: exceptions that are failures of the downstream; every other exception, a
                cancellation for one, says nothing about it. ``Exception`` when none is given.
            policy: thresholds.
            clock: monotonic seconds.
            log_level: of what it logs: the first failure after a quiet minute, that it opens, and
                that it has closed again.
        """
        self.name = name
        self.opened_total = 0
        self._counted = counted or (Exception,)
        self._policy = policy or BreakerPolicy()
        self._clock = clock
        self._level = log_level
        self._failed_s = -math.inf
        self._state = BreakerState.CLOSED
        self._opened_s = -math.inf
        self._failed = 0
        self._succeeded = 0
        self._trying = 0
        # Counts changes of state, so that an attempt begun in another state is not mistaken
        # for one of this state: a slow success from before the trip must not close the circuit.
        self._epoch = 0

    @property
    def state(self) -> BreakerState:
        """The state now; time alone turns open into half open."""
        if self._state is BreakerState.OPEN and self._waited():
            self._enter(BreakerState.HALF_OPEN)
        return self._state

    @property
    def circuit(self) -> Circuit:
        """The breaker's state, as it is sent to other processes."""
        return Circuit(self.state, self.opened_total)

    @property
    def retry_after_s(self) -> float:
        """Seconds until the next attempt may be let through; 0 unless open."""
        if self.state is not BreakerState.OPEN:
            return 0.0
        return max(0.0, self._opened_s + self._policy.open_s - self._clock())

    def permit(self) -> Permit | None:
        """A permit for one attempt, or None while the downstream is not to be called."""
        state = self.state
        if state is BreakerState.OPEN:
            return None
        if state is BreakerState.HALF_OPEN:
            if self._trying + self._succeeded >= self._policy.trials:
                return None
            self._trying += 1
        return Permit(self, self._epoch)

    def classify(self, error: BaseException | None) -> Literal["success", "failure", "neither"]:
        """What the end of an attempt says about the downstream."""
        if error is None:
            return "success"
        return "failure" if isinstance(error, self._counted) else "neither"

    def count(self, epoch: int, error: BaseException | None) -> None:
        """Count the end of an attempt whose permit was given in ``epoch``."""
        end = self.classify(error)
        if end == "failure":
            self._note(error)
        # Reading the state may change it and the epoch; an attempt of a past epoch counts no more.
        state = self.state
        if epoch != self._epoch:
            return
        if state is BreakerState.HALF_OPEN:
            self._trying -= 1
        if end == "failure":
            self._failed += 1
            if state is BreakerState.HALF_OPEN or self._failed >= self._policy.failures:
                self._enter(BreakerState.OPEN)
        elif end == "success":
            self._failed = 0
            self._succeeded += 1
            if state is BreakerState.HALF_OPEN and self._succeeded >= self._policy.trials:
                self._enter(BreakerState.CLOSED)

    def _note(self, error: BaseException | None) -> None:
        now = self._clock()
        if now - self._failed_s > _QUIET_S:
            log.log(self._level, "%s fails: %s", self.name, error)
        self._failed_s = now

    def _enter(self, state: BreakerState) -> None:
        if state is BreakerState.CLOSED:
            log.log(self._level, "%s answers again", self.name)
        elif state is BreakerState.OPEN and self._state is BreakerState.CLOSED:
            text = "%s is not called any more after %d failures in a row, but for a try every %g s"
            log.log(self._level, text, self.name, self._failed, self._policy.open_s)
        self._state = state
        self._epoch += 1
        self._failed = self._succeeded = self._trying = 0
        if state is BreakerState.OPEN:
            self._opened_s = self._clock()
            self.opened_total += 1

    def _waited(self) -> bool:
        return self._clock() >= self._opened_s + self._policy.open_s


class Permit:
    """A permit for one attempt; a context manager that reports how it ended, once."""

    __slots__ = ("_breaker", "_epoch", "_used")

    def __init__(self, breaker: CircuitBreaker, epoch: int) -> None:
        self._breaker = breaker
        self._epoch = epoch
        self._used = False

    def __enter__(self) -> Self:
        """Begin the attempt."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; the exception goes on its way."""
        if not self._used:
            self._used = True
            self._breaker.count(self._epoch, exc)
