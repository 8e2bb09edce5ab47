"""What is said of a queue server that is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest

from crucible.broker.redis.requirements import Facts, Weight, judge


def facts(**changes: Any) -> Facts:
    """A server as it should be, and what is changed of it."""
    well: dict[str, Any] = {
        "version": (7, 2, 4),
        "mode": "standalone",
        "used_bytes": 10,
        "max_bytes": 100,
        "policy": "noeviction",
        "keeps_file": True,
        "clock_difference_s": 0.2,
        "replicas": 2,
        "replicas_wanted": 1,
        "forbidden": [],
        "refusal": "",
    }
    return Facts(**{**well, **changes})


def test_a_server_as_it_should_be_needs_no_word() -> None:
    """The oldest version included, and a limit of memory that is far away."""
    assert judge(facts()) == judge(facts(version=(6, 2, 0))) == []
    assert judge(facts(max_bytes=0, used_bytes=10**12, policy="allkeys-lru")) == []


@pytest.mark.parametrize(
    ("changes", "weight", "words"),
    [
        ({"version": (6, 0, 16)}, Weight.UNUSABLE, "Redis 6.0.16 is older than 6.2"),
        ({"mode": "cluster"}, Weight.UNUSABLE, "cluster mode"),
        ({"forbidden": ["RPOP on q"]}, Weight.RIGHTS, "does not let this user run RPOP on q"),
        ({"refusal": "its memory is full"}, Weight.REFUSAL, "its memory is full"),
        ({"replicas": 0}, Weight.REFUSAL, "0 of the 1 replicas of CRUCIBLE_REPLICAS follow it"),
        ({"policy": "allkeys-lru"}, Weight.DOUBT, "may evict queues and claims"),
        ({"used_bytes": 95}, Weight.DOUBT, "95% of its maxmemory"),
        ({"keeps_file": False}, Weight.DOUBT, "append-only file"),
        ({"clock_difference_s": -40.0}, Weight.DOUBT, "differs by -40.0 s"),
    ],
)
def test_each_finding_names_what_is_found_and_what_to_do(
    changes: dict[str, Any], weight: Weight, words: str
) -> None:
    """One finding each, with a remedy."""
    [finding] = judge(facts(**changes))
    assert finding.weight is weight
    assert words in finding.detail
    assert finding.remedy
