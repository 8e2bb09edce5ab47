"""Tiers of keys: defaults, tables of an installation, and what they do to a request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from crucible.errors import InputError, SettingsError
from crucible.evaluation.allowance import allowances
from crucible.evaluation.limits import LimitsRequest
from crucible.evaluation.request import EvalRequest, queue_of
from crucible.executor.served import ServedEnvironments
from crucible.models import TIERS, Tier
from crucible.settings import as_environ, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from crucible.evaluation.allowance import Allowance


def allowance(tier: Tier, table: dict[str, Any] | None = None, **flags: Any) -> Allowance:
    """What callers of a tier may ask for, with a table for it."""
    tables = {"CRUCIBLE_TIERS": json.dumps({tier: table or {}})}
    settings = load_settings(tables, flags=flags)
    return allowances(settings, ServedEnvironments(settings.served_environments))[tier]


@pytest.mark.parametrize(
    ("tier", "asked", "queue", "priority"),
    [
        ("premium", 5, "high_priority", 7),
        ("premium", 9, "high_priority", 9),
        ("standard", 5, "evaluation", 5),
        ("standard", 9, "evaluation", 6),
        ("standard", 0, "evaluation", 3),
        ("bulk", 5, "batch", 2),
        ("bulk", 0, "batch", 0),
    ],
)
def test_the_tier_picks_the_queue(tier: Tier, asked: int, queue: str, priority: int) -> None:
    """The user's priority orders evaluations within the queue of the tier."""
    admitted = allowance(tier).admit(EvalRequest(code="x", priority=asked))
    assert (queue_of(admitted.priority), admitted.priority) == (queue, priority)


def test_without_a_tier_priority_picks_the_queue() -> None:
    """Nothing changes where there are no keys."""
    settings = load_settings({})
    found = allowances(settings, ServedEnvironments())[None]
    asked = EvalRequest(code="x", priority=9)
    assert found.admit(asked) is asked


def test_a_ceiling_of_a_tier_holds_for_what_is_asked_and_for_what_is_not() -> None:
    """Workers know no tiers, so a request that names no limit gets the tier's with it."""
    found = allowance("bulk", {"limits": {"wall_time_s": 5, "memory_mb": 128}})
    admitted = found.admit(EvalRequest(code="x"))
    assert admitted.limits is not None
    assert (admitted.limits.wall_time_s, admitted.limits.memory_mb) == (5.0, 128)
    assert admitted.limits.cpu_time_s is None
    with pytest.raises(InputError, match="wall_time_s"):
        found.admit(EvalRequest(code="x", limits=LimitsRequest(wall_time_s=6)))
    assert allowance("standard").admit(EvalRequest(code="x")).limits is None


def test_isolations_and_environments_of_a_tier() -> None:
    """What is not among them is refused, and not what a request gets that names none."""
    found = allowance("standard", {"isolations": ["nested"]}, isolation="container")
    assert found.admit(EvalRequest(code="x")).isolation == "nested"
    with pytest.raises(InputError, match="isolation"):
        found.admit(EvalRequest(code="x", isolation="container"))
    found = allowance("standard", {"environments": ["judge"]}, environments="default,judge")
    assert found.admit(EvalRequest(code="x")).environment == "judge"
    with pytest.raises(InputError, match="environment"):
        found.admit(EvalRequest(code="x", environment="default"))


@pytest.mark.parametrize(
    "tables",
    [
        {"gold": {}},
        {"standard": {"rate": 0}},
        {"standard": {"burst": 0}},
        {"standard": {"speed": 1}},
        {"standard": {"limits": {"wall_time": 1}}},
        {"standard": {"limits": {"memory_mb": 1}}},
        {"standard": {"isolations": []}},
        {"standard": {"environments": []}},
        {"standard": {"environments": ["nowhere"]}},
    ],
)
def test_a_table_that_cannot_be_used_stops_the_start(tables: dict[str, Any]) -> None:
    """The error names the setting."""
    with pytest.raises(SettingsError, match="CRUCIBLE_TIERS"):
        load_settings({"CRUCIBLE_TIERS": json.dumps(tables)})


def test_tables_of_the_file_reach_child_processes(tmp_path: Path) -> None:
    """A key's own rate raises that of its tenant, unless that is set too."""
    file = tmp_path / "crucible.toml"
    file.write_text("[tiers.standard]\nrate = 50\nburst = 100\ntenant_burst = 100\nin_flight = 7\n")
    settings = load_settings({}, file=file)
    rules = settings.tier_rules["standard"]
    assert (rules.rate, rules.burst, rules.in_flight) == (50.0, 100, 7)
    assert (rules.tenant_rate, rules.tenant_burst) == (100.0, 100)
    assert load_settings(as_environ(settings)).tier_rules == settings.tier_rules
    assert settings.tier_rules.keys() == set(TIERS)
