"""Circuits before the hosts of receivers."""

from __future__ import annotations

import contextlib

from crucible.breaker import BreakerPolicy, BreakerState
from crucible.webhooks.breakers import HostBreakers, HostIll


def test_an_ill_host_opens_its_own_circuit_and_no_other() -> None:
    """Whatever the path; only circuits that have opened are reported."""
    hosts = HostBreakers(BreakerPolicy(failures=2))
    for path in ("a", "b"):
        permit = hosts.of(f"https://ill.example/{path}").permit()
        assert permit is not None
        with contextlib.suppress(HostIll), permit:
            raise HostIll
    assert hosts.of("https://ill.example/c").permit() is None
    assert hosts.of("https://well.example/").permit() is not None
    circuits = hosts.circuits()
    assert list(circuits) == ["webhook ill.example:443"]
    assert circuits["webhook ill.example:443"].state is BreakerState.OPEN


def test_reported_hosts_are_few() -> None:
    """Tenants choose their names."""
    hosts = HostBreakers(BreakerPolicy(failures=1))
    for number in range(1100):
        permit = hosts.of(f"https://h{number}.example/").permit()
        assert permit is not None
        with contextlib.suppress(HostIll), permit:
            raise HostIll
    assert len(hosts.circuits()) == 20
