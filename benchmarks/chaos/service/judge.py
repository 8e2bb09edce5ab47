"""Whether every record of an evaluation says what the ledger of its client says. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from benchmarks.chaos.service.ledger import run_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.chaos.service.ledger import Asked, Ledger, Suite

#: A state in the end: status and verdict.
End = tuple[str, str | None]
#: Seconds before and after an evaluation in which a kill may have taken the event of its end.
_BEFORE_S, _AFTER_S = 1.0, 10.0
#: Seconds after the publication of a message in which a stock worker may have been taking it,
#: beyond what the messages of that battle waited at most.
_TAKEN_S = 30.0
#: Seconds from which on a wait is that of a clock that was turned.
_TURNED_S = 300.0
#: Characters of a message that are shown.
_SHOWN = 400
#: States of an assessment whose message somebody has to have.
_UNDER_WAY = ("queued", "running")


@dataclass(slots=True)
class Delivered:
    """Deliveries of one evaluation: ids of messages, and the ends that they told."""

    ids: set[str] = field(default_factory=set)
    ends: set[End] = field(default_factory=set)


@dataclass(slots=True)
class Found:
    """What there is after a battle.

    Attributes:
        results: the answer of the API for each evaluation.
        history: the rows of the history.
        deliveries: by evaluation.
        events: the ends on the bus, in its order.
        reports: by assessment, None where there is none.
        suites: what the API says of each assessment in the end.
        left: messages in a list or claimed, in the end, as text.
        named: evaluations that an async worker had, and when it named them last in an event or in
            its log, seconds since the epoch.
        given_back: evaluations that async workers put back into their list, for another try or
            because the worker that had them was gone, and when that was last.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, End] = field(default_factory=dict)
    deliveries: dict[str, Delivered] = field(default_factory=dict)
    events: dict[str, list[End]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    suites: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    named: dict[str, float] = field(default_factory=dict)
    given_back: dict[str, float] = field(default_factory=dict)

    def holds(self, name: str) -> bool:
        """Whether the message of an evaluation or assessment is still there."""
        return any(_is_of(text, name) for text in self.left)


@dataclass(slots=True)
class Verdict:
    """What came of it.

    Attributes:
        kinds: evaluations and assessments by kind.
        kills: by what was killed.
        outages: of disks, links and clocks.
        explained: ends that the bus does not have, in whose time something was killed.
        lost_by_stock: evaluations and deliveries whose message is nowhere, which no async worker
            has named since it was in its list, and after whose publication the stock worker or its
            server was killed: stock takes a message off its list before it notes that it has it.
            Assessments that wait for such evaluations as well.
        of_stock: how the stock worker bore a full disk of the queue server, and what it wrote of
            connections that broke off.
        deliveries: how many evaluations were delivered.
        noticed: full disks that a process wrote a line about.
        faults: everything that does not agree.
        seconds: how long it took.
    """

    kinds: dict[str, int] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    outages: dict[str, int] = field(default_factory=dict)
    explained: int = 0
    lost_by_stock: list[str] = field(default_factory=list)
    of_stock: list[str] = field(default_factory=list)
    deliveries: int = 0
    noticed: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def killed(self) -> int:
        """All kills."""
        return sum(self.kills.values())


def end_of(shown: Mapping[str, Any]) -> End:
    """The end of an evaluation as the API, a delivery or a row shows it."""
    return str(shown.get("status")), shown.get("verdict")


def judge(
    verdict: Verdict,
    ledgers: Iterable[Ledger],
    found: Found,
    kills: Sequence[float],
    stock_kills: Sequence[float] = (),
) -> None:
    """Compare everything.

    Args:
        verdict: gets the faults.
        ledgers: of the clients.
        found: everything else.
        kills: times, seconds since the epoch.
        stock_kills: of these, those in which a stock worker may lose a message.
    """
    ledgers = list(ledgers)
    hit = StockHits(stock_kills, _longest_wait_s(ledgers, found))
    # Assessments that wait for what stock lost: their own tasks queue themselves again and again.
    waiting: set[str] = set()
    for ledger in ledgers:
        verdict.faults += [f"refused: {one}" for one in ledger.refused]
        lost: set[str] = set()
        for eval_id, asked in ledger.asked.items():
            _count(verdict, asked.kind)
            if by_stock := _lost_by_stock(eval_id, asked, found, hit):
                verdict.lost_by_stock.append(by_stock)
                lost.add(eval_id)
                continue
            verdict.faults += _evaluation(eval_id, asked, found)
            fault, explained = _event(eval_id, asked, found, kills)
            verdict.faults += fault
            verdict.explained += explained
        for name, suite in ledger.suites.items():
            _count(verdict, "assessment")
            runs = {run_id(name, number) for number in range(suite.runs)}
            if found.reports.get(name) is None and runs & lost:
                verdict.lost_by_stock.append(f"assessment {name} waits for one of them")
                waiting.add(name)
                continue
            if _is_left_by_stock(name, found, hit):
                verdict.lost_by_stock.append(f"assessment {name} has not ended")
                continue
            verdict.faults += _report(name, suite, found)
    verdict.deliveries = len(found.deliveries)
    left = [text for text in found.left if not any(_is_of(text, name) for name in waiting)]
    if left:
        verdict.faults.append(f"{len(left)} messages and claims are left, as {left[0][:_SHOWN]}")


def _count(verdict: Verdict, kind: str) -> None:
    verdict.kinds[kind] = verdict.kinds.get(kind, 0) + 1


@dataclass(frozen=True, slots=True)
class StockHits:
    """When a stock worker may have lost a message.

    Attributes:
        at: times of its kills and of its server's, seconds since the epoch.
        wait_s: seconds that messages waited at most.
    """

    at: Sequence[float]
    wait_s: float

    def may_have_lost(self, published: float) -> bool:
        """Whether a message may have been taken at one of them."""
        until = published + self.wait_s + _TAKEN_S
        return any(published - _BEFORE_S <= at <= until for at in self.at)


def _longest_wait_s(ledgers: Iterable[Ledger], found: Found) -> float:
    """Seconds that an evaluation waited at most until it ran, as far as clocks can be believed."""
    waits = [
        wait_s
        for ledger in ledgers
        for eval_id, asked in ledger.asked.items()
        if (started := found.results.get(eval_id, {}).get("started_at"))
        and 0 < (wait_s := _seconds(started) - asked.at) < _TURNED_S
    ]
    return max(waits, default=0.0)


def _is_of(message: str, name: str) -> bool:
    """Whether a message is that of an evaluation or assessment, whose runs have longer names."""
    return re.search(rf"{re.escape(name)}(?![\w-])", message) is not None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _lost_by_stock(eval_id: str, asked: Asked, found: Found, hit: StockHits) -> str:
    """What is missing of an evaluation for that reason; empty for nothing."""
    if found.holds(eval_id):
        return ""
    if (shown := found.results.get(eval_id)) is None:
        back = found.given_back.get(eval_id, 0.0)
        had = found.named.get(eval_id, 0.0) > back
        excused = not had and hit.may_have_lost(max(asked.at, back))
        return f"{eval_id} ({asked.kind}) has not ended" if excused else ""
    # The message of a delivery is published at the end of its evaluation.
    undelivered = asked.webhook and eval_id not in found.deliveries
    excused = undelivered and hit.may_have_lost(_ended_at(asked, shown))
    return f"{eval_id} ({asked.kind}) is not delivered" if excused else ""


def _is_left_by_stock(name: str, found: Found, hit: StockHits) -> bool:
    """Whether the message of an assessment's own task may be what it waits for."""
    suite = found.suites.get(name, {})
    if found.holds(name) or suite.get("status") not in _UNDER_WAY:
        return False
    return hit.may_have_lost(_seconds(suite["updated_at"]))


def _ended_at(asked: Asked, shown: Mapping[str, Any]) -> float:
    """When an evaluation ended; the clock of the worker that stored it may have been behind."""
    finished = shown.get("finished_at")
    return max(_seconds(finished) if finished else 0.0, asked.at)


def _evaluation(eval_id: str, asked: Asked, found: Found) -> list[str]:
    shown = found.results.get(eval_id, {})
    end = end_of(shown)
    if end not in asked.ends:
        who = "an async worker had it" if eval_id in found.named else "no async worker names it"
        told = (
            f"{end} {shown.get('error')}, expected {asked.ends}; {who}, accepted at {asked.at:.1f}"
        )
        return [f"{eval_id} ({asked.kind}): {told}"]
    faults = []
    if asked.output is not None and shown.get("output") != asked.output:
        faults.append(f"{eval_id}: printed {shown.get('output')!r}, expected {asked.output!r}")
    if found.history.get(eval_id) != end:
        faults.append(f"{eval_id}: {end}, in the history {found.history.get(eval_id)}")
    if asked.webhook:
        delivered = found.deliveries.get(eval_id, Delivered())
        if len(delivered.ids) != 1 or delivered.ends != {end}:
            faults.append(f"{eval_id}: {end}, delivered {delivered}")
    elif eval_id in found.deliveries:
        faults.append(f"{eval_id}: delivered, and nobody asked for it")
    return faults


def _event(
    eval_id: str, asked: Asked, found: Found, kills: Sequence[float]
) -> tuple[list[str], bool]:
    """A fault of the events, and whether the missing end is explained by a kill."""
    shown = found.results.get(eval_id, {})
    ends = found.events.get(eval_id, [])
    explained = _is_explained(asked, shown, kills)
    # Two workers that ran it both report an end; the first one counts, as the first result does.
    if ends and (ends[0] != end_of(shown) or (len(set(ends)) > 1 and not explained)):
        return [f"{eval_id}: {end_of(shown)}, on the bus {ends}"], False
    if ends or explained:
        return [], not ends
    return [f"{eval_id}: no event of its end, and nothing was killed in its time"], False


def _is_explained(asked: Asked, shown: Mapping[str, Any], kills: Sequence[float]) -> bool:
    """Whether something was killed in the time of an evaluation."""
    last = _ended_at(asked, shown)
    return any(asked.at - _BEFORE_S <= at <= last + _AFTER_S for at in kills)


def _report(name: str, suite: Suite, found: Found) -> list[str]:
    report = found.reports.get(name)
    if report is None:
        return [f"assessment {name}: no report; it is {found.suites.get(name)}"]
    summary = report["summary"]
    told = summary["runs"], summary["passed_cases"]
    return [] if told == (suite.runs, suite.passed_cases) else [f"assessment {name}: {summary}"]
