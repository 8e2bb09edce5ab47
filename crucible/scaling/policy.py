"""The autoscale policy: when to have more workers, and when fewer.

More at once: when more than ``up_above`` messages wait for each worker, or when the next message
has waited for longer than ``target_age_s`` and the measured service time says how many are needed.
Fewer later: when less than ``down_under`` wait for each worker, and only to what was enough at
every look of the last ``hold_s`` seconds. Between the two nothing changes. Claimed messages are
work: there stays a slot for each of them.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What there is to do.

    Attributes:
        waiting: messages in the queues.
        claimed: messages that workers hold, which are not waiting any more.
        slots: messages one worker runs at once; at least 1.
        oldest_s: seconds the next message has waited; None where that is not known.
        service_s: seconds one message takes in its slot; None where that is not known.
    """

    waiting: int
    claimed: int = 0
    slots: int = 1
    oldest_s: float | None = None
    service_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When the number of workers changes.

    Attributes:
        least: workers that are always there.
        most: workers there are at most; not below ``least``.
        up_above: messages waiting for each worker above which there should be more.
        down_under: messages waiting for each worker under which there may be fewer; below
            ``up_above``.
        target_age_s: seconds a message may wait.
        hold_s: seconds for which fewer workers must have been enough before some are stopped.
    """

    least: int = 1
    most: int = 10
    up_above: float = 10.0
    down_under: float = 2.0
    target_age_s: float = 30.0
    hold_s: float = 60.0

    def bounded(self, workers: int) -> int:
        """The nearest number that is allowed."""
        return min(max(workers, self.least), self.most)


def wanted(policy: Policy, load: Load, workers: int) -> int:
    """The workers that one look at the load asks for, within the bounds of the policy.

    Args:
        policy: when to change.
        load: what there is to do.
        workers: how many there should be so far.
    """
    # With none at all the first message is reason enough.
    present = max(1, workers)
    in_time = _needed_in_time(policy, load)
    more = max(in_time if _is_late(policy, load) else 0, 1 if load.waiting + load.claimed else 0)
    if load.waiting > policy.up_above * present:
        more = max(more, math.ceil(load.waiting / policy.up_above))
    if more > workers:
        return policy.bounded(more)
    if load.waiting >= policy.down_under * present:
        return policy.bounded(workers)
    # Half way between both thresholds, so that a little more load does not start them again.
    middle = (policy.up_above + policy.down_under) / 2
    enough = max(math.ceil(load.waiting / middle), math.ceil(load.claimed / load.slots), in_time)
    return policy.bounded(min(workers, enough))


def _is_late(policy: Policy, load: Load) -> bool:
    return bool(load.waiting) and (load.oldest_s or 0.0) > policy.target_age_s


def _needed_in_time(policy: Policy, load: Load) -> int:
    """Workers that run all there is within the time a message may wait; 0 where not known."""
    if load.service_s is None:
        return 0
    work_s = (load.waiting + load.claimed) * load.service_s
    return math.ceil(work_s / (load.slots * policy.target_age_s))


class Autoscaler:
    """Decides again and again; keeps what was wanted lately.

    Args:
        policy: when to change.
        workers: how many there are at first.

    Attributes:
        desired: the last decision.
    """

    def __init__(self, policy: Policy, workers: int = 0) -> None:
        self.policy = policy
        self.desired = policy.bounded(workers)
        #: When, and how many: later ones are smaller, since no other can be the most of a window.
        self._wants: deque[tuple[float, int]] = deque()
        self._began_s: float | None = None

    def decide(self, load: Load, now_s: float) -> int:
        """How many workers there should be.

        Args:
            load: what there is to do.
            now_s: seconds of a clock that only goes forward.
        """
        if self._began_s is None:
            self._began_s = now_s
        want = wanted(self.policy, load, self.desired)
        while self._wants and self._wants[-1][1] <= want:
            self._wants.pop()
        self._wants.append((now_s, want))
        while self._wants[0][0] < now_s - self.policy.hold_s:
            self._wants.popleft()
        if want > self.desired:
            self.desired = want
        elif now_s - self._began_s >= self.policy.hold_s:
            # What was wanted before the first look is not known: none is stopped until then.
            self.desired = min(self.desired, self._wants[0][1])
        return self.desired
