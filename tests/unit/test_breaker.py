"""The circuit breaker against its model, and the races it must not fall for."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from crucible.breaker import BreakerPolicy, BreakerState, Circuit, CircuitBreaker, Permit, worst
from crucible.errors import BrokerUnavailable, QueueFull, SettingsError

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


@dataclass
class Clock:
    """A clock turned by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, **policy: float) -> CircuitBreaker:
    return CircuitBreaker(
        "queue",
        BrokerUnavailable,
        policy=BreakerPolicy(**{"failures": 3, "open_s": 10.0, **policy}),  # type: ignore[arg-type]  # ints and floats by name
        clock=clock,
    )


def half_open(clock: Clock, **policy: float) -> CircuitBreaker:
    """A breaker that a failure opened, long enough ago to be tried again."""
    breaker = make(clock, failures=1, **policy)
    attempt(breaker, BrokerUnavailable())
    clock.now += 10
    return breaker


def attempt(breaker: CircuitBreaker, error: BaseException | None = None) -> bool:
    """One attempt that ends with ``error``; False when it was not let through."""
    permit = breaker.permit()
    if permit is None:
        return False
    end(permit, error)
    return True


def end(permit: Permit, error: BaseException | None = None) -> None:
    permit.__exit__(type(error) if error else None, error, None)


def test_failures_in_a_row_open_it() -> None:
    """The threshold counts failures in a row; a success in between starts the count anew."""
    breaker = make(Clock())
    for error in (BrokerUnavailable(), BrokerUnavailable(), None) * 3:
        assert attempt(breaker, error)
    assert breaker.state is CLOSED
    for _ in range(3):
        attempt(breaker, BrokerUnavailable())
    assert (breaker.state, breaker.opened_total, breaker.retry_after_s) == (OPEN, 1, 10.0)
    assert breaker.permit() is None


def test_other_errors_say_nothing() -> None:
    """A full queue or a cancelled request is neither a failure nor a success of the downstream."""
    breaker = make(Clock())
    for _ in range(2):
        attempt(breaker, BrokerUnavailable())
    for error in (QueueFull("q", 1), asyncio.CancelledError()) * 5:
        attempt(breaker, error)
    assert breaker.state is CLOSED
    attempt(breaker, BrokerUnavailable())
    assert breaker.state is OPEN


def test_half_open_lets_one_through() -> None:
    """After its time one attempt is let through; its success closes, its failure opens again."""
    clock = Clock()
    breaker = make(clock, failures=1)
    attempt(breaker, BrokerUnavailable())
    clock.now += 9.999
    assert breaker.permit() is None
    clock.now += 0.001
    assert breaker.state is HALF_OPEN
    trial = breaker.permit()
    assert trial is not None
    assert breaker.permit() is None
    end(trial, BrokerUnavailable())
    assert (breaker.state, breaker.retry_after_s, breaker.opened_total) == (OPEN, 10.0, 2)
    clock.now += 10
    assert attempt(breaker)
    assert breaker.state is CLOSED


def test_what_is_worth_knowing_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first failure with its reason, the opening, the end; no line for each failure."""
    clock = Clock()
    breaker = make(clock)

    def attempt(error: Exception | None) -> None:
        permit = breaker.permit()
        assert permit is not None
        with contextlib.suppress(BrokerUnavailable), permit:
            if error is not None:
                raise error

    for _ in range(4):
        for number in range(3):
            attempt(BrokerUnavailable(f"reason {number}"))
            if breaker.state is OPEN:
                break
        clock.now += 10
    attempt(None)
    attempt(BrokerUnavailable("soon again"))
    assert [one.getMessage() for one in caplog.records] == [
        "queue fails: reason 0",
        "queue is not called any more after 3 failures in a row, but for a try every 10 s",
        "queue answers again",
    ]
    clock.now += 61
    attempt(BrokerUnavailable("another time"))
    assert caplog.records[-1].getMessage() == "queue fails: another time"
    assert {one.levelname for one in caplog.records} == {"WARNING"}


def test_cancelled_trial_gives_its_place_back() -> None:
    """A trial that says nothing leaves the breaker half open and lets the next one through."""
    breaker = half_open(Clock())
    assert attempt(breaker, asyncio.CancelledError())
    assert breaker.state is HALF_OPEN
    assert attempt(breaker)
    assert breaker.state is CLOSED


def test_late_answers_from_before_do_not_count() -> None:
    """Attempts begun before the trip neither close the circuit nor hold up its trials."""
    clock = Clock()
    breaker = make(clock, failures=1)
    slow = [breaker.permit() for _ in range(4)]
    attempt(breaker, BrokerUnavailable())
    for permit in slow[:2]:
        assert permit is not None
        end(permit, None)
    assert breaker.state is OPEN
    clock.now += 10
    for permit in slow[2:]:
        assert permit is not None
        end(permit, BrokerUnavailable())
    assert breaker.state is HALF_OPEN
    assert attempt(breaker)
    assert breaker.state is CLOSED


def test_several_trials() -> None:
    """With three trials three successes close it, and no more than three are let through."""
    breaker = half_open(Clock(), trials=3)
    trials = [breaker.permit() for _ in range(5)]
    assert [permit is not None for permit in trials] == [True, True, True, False, False]
    for number, permit in enumerate(trials[:3]):
        assert permit is not None
        assert breaker.state is HALF_OPEN, number
        end(permit)
    assert breaker.state is CLOSED


async def test_permit_around_an_attempt() -> None:
    """In a ``with`` block the error goes on its way and is counted once."""
    breaker = make(Clock(), failures=2)
    permit = breaker.permit()
    assert permit is not None
    with pytest.raises(BrokerUnavailable), permit:
        raise BrokerUnavailable("gone")
    end(permit, BrokerUnavailable())
    assert breaker.state is CLOSED
    attempt(breaker, BrokerUnavailable())
    assert breaker.state is OPEN


@pytest.mark.parametrize(
    ("policy", "setting"),
    [
        ({"failures": 0}, "CRUCIBLE_BREAKER_FAILURES"),
        ({"open_s": 0.0}, "CRUCIBLE_BREAKER_OPEN_S"),
        ({"open_s": float("nan")}, "CRUCIBLE_BREAKER_OPEN_S"),
        ({"open_s": float("inf")}, "CRUCIBLE_BREAKER_OPEN_S"),
        ({"trials": 0}, "CRUCIBLE_BREAKER_TRIALS"),
    ],
)
def test_wrong_policy_is_named(policy: dict[str, float], setting: str) -> None:
    """Thresholds that mean nothing name their setting."""
    with pytest.raises(SettingsError) as caught:
        make(Clock(), **policy)
    assert caught.value.setting == setting


class BreakerMachine(RuleBasedStateMachine):
    """Any interleaving of attempts and time against a model that remembers everything."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = make(self.clock, failures=3, open_s=10.0, trials=2)
        self.state = CLOSED
        self.row = self.good = self.out = 0
        self.opened_s = 0.0
        self.era: object = object()

    def enter(self, state: BreakerState) -> None:
        self.state, self.era = state, object()
        self.row = self.good = self.out = 0
        self.opened_s = self.clock.now

    def tick(self) -> None:
        if self.state is OPEN and self.clock.now >= self.opened_s + 10:
            self.enter(HALF_OPEN)

    @rule(seconds=st.sampled_from([0.5, 4.0, 10.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.tick()

    @rule(target=permits)
    def ask(self) -> tuple[Permit, object] | None:
        permit = self.breaker.permit()
        allowed = self.state is CLOSED or (self.state is HALF_OPEN and self.out + self.good < 2)
        assert (permit is not None) is allowed
        if permit is None:
            return None
        self.out += self.state is HALF_OPEN
        return permit, self.era

    @rule(held=consumes(permits), how=st.sampled_from(["success", "failure", "neither"]))
    def answer(self, held: tuple[Permit, object] | None, how: str) -> None:
        if held is None:
            return
        permit, era = held
        error = {"success": None, "failure": BrokerUnavailable(), "neither": KeyError()}[how]
        end(permit, error)
        if era is not self.era:
            return
        self.out -= self.state is HALF_OPEN
        if how == "success":
            self.row, self.good = 0, self.good + 1
            if self.state is HALF_OPEN and self.good >= 2:
                self.enter(CLOSED)
        elif how == "failure":
            self.row += 1
            if self.state is HALF_OPEN or self.row >= 3:
                self.enter(OPEN)

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.state is self.state
        waits = self.breaker.retry_after_s
        assert (waits > 0) is (self.state is OPEN)
        assert waits <= 10


BreakerMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, database=None
)
TestBreakerMachine = BreakerMachine.TestCase


def test_circuits_of_many_processes_are_as_bad_as_the_worst() -> None:
    """One process that cannot reach a downstream is what an operator has to see."""
    closed, half, is_open = (
        Circuit(state, opened)
        for state, opened in (
            (BreakerState.CLOSED, 0),
            (BreakerState.HALF_OPEN, 1),
            (BreakerState.OPEN, 2),
        )
    )
    found = worst([{"a": closed, "b": is_open}, {"a": half, "c": closed}, {"b": closed}])
    assert found == {"a": Circuit(half.state, 1), "b": Circuit(is_open.state, 2), "c": closed}
    assert worst([]) == {}


def test_a_breaker_tells_other_processes_its_state_and_openings() -> None:
    """What travels is read back as it was."""
    breaker = make(Clock(), failures=1)
    attempt(breaker, BrokerUnavailable())
    sent = msgspec.json.encode(breaker.circuit)
    assert msgspec.json.decode(sent, type=Circuit) == Circuit(OPEN, 1)
