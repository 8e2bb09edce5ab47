"""The simulated day of docs/scaling.md."""

from __future__ import annotations

import itertools

from benchmarks.autoscale_day import simulate
from crucible.scaling.policy import Policy


def test_the_default_policy_bears_the_day() -> None:
    """The burst is worked off in time, the number of workers rests, and the night needs one."""
    samples = simulate(Policy(most=20))
    assert max(sample.oldest_s for sample in samples) < 60
    assert sum(one.workers != next_.workers for one, next_ in itertools.pairwise(samples)) < 40
    assert max(sample.workers for sample in samples) > 8
    assert (samples[0].workers, samples[-1].workers) == (1, 1)
