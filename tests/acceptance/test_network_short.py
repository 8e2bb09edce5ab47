"""Cut links between hosts, in short: ``python -m benchmarks.chaos.network`` has the long form."""

from __future__ import annotations

import pytest

from benchmarks.chaos.network.hosts import possible
from benchmarks.chaos.network.trial import CLOCKS_S, Trial


@pytest.mark.long
async def test_a_worker_that_is_cut_off_costs_nothing() -> None:
    """Both ways and one way, beside a slow link, with clocks twenty minutes apart."""
    assert possible(), "this takes root, ip and iptables"
    trial = Trial(print)
    found = await trial.run(10)
    assert not found.faults, (found, trial.logs)
    assert len(found.by_worker) == len(CLOCKS_S)
