from __future__ import annotations

import pytest

from crucible.compat.evaluating import limits_within
from crucible.compat.facades import FACADES, served_facades
from crucible.errors import SettingsError
from crucible.evaluation.judge0_form import status_of
from crucible.models import Evaluation, Limits, Status, Verdict


@pytest.mark.parametrize(
    ("setting", "served"),
    [
        ("all", dict.fromkeys(FACADES)),
        ("none", {}),
        ("", {}),
        ("judge0:2358, piston", {"judge0": 2358, "piston": None}),
    ],
)
def test_facades_that_are_served(setting: str, served: dict[str, int | None]) -> None:
    assert served_facades(setting) == served


@pytest.mark.parametrize("setting", ["nobody", "judge0:", "judge0:x", "piston:70000", "all,piston"])
def test_what_names_no_facade_is_refused(setting: str) -> None:
    with pytest.raises(SettingsError, match="CRUCIBLE_COMPAT"):
        served_facades(setting)


def test_limits_are_held_between_floor_and_ceiling() -> None:
    """Other systems take what is too much for the most; -1 and nothing are the most as well."""
    ceilings = Limits(wall_time_s=30.0, memory_mb=512)
    found = limits_within(ceilings, wall_time_s=99, cpu_time_s=0.0, memory_mb=-1, pids=None)
    assert (found.wall_time_s, found.cpu_time_s, found.memory_mb) == (30.0, 0.1, 512)
    assert found.pids == ceilings.pids
    assert isinstance(limits_within(ceilings, memory_mb=100.5).memory_mb, int)


@pytest.mark.parametrize(
    ("status", "verdict", "signal", "number"),
    [
        (Status.QUEUED, None, None, 1),
        (Status.RUNNING, None, None, 2),
        (Status.RETRYING, None, None, 2),
        (Status.COMPLETED, Verdict.OK, None, 3),
        (Status.FAILED, Verdict.CPU_LIMIT, None, 5),
        (Status.FAILED, Verdict.COMPILE_ERROR, None, 6),
        (Status.COMPLETED, Verdict.SIGNALLED, 11, 7),
        (Status.FAILED, Verdict.OUTPUT_LIMIT, None, 8),
        (Status.COMPLETED, Verdict.SIGNALLED, 8, 9),
        (Status.COMPLETED, Verdict.SIGNALLED, 6, 10),
        (Status.COMPLETED, Verdict.NONZERO_EXIT, None, 11),
        (Status.FAILED, Verdict.MEMORY_LIMIT, 9, 12),
        (Status.COMPLETED, Verdict.SIGNALLED, 15, 12),
        (Status.FAILED, Verdict.INTERNAL_ERROR, None, 13),
    ],
)
def test_numbers_of_judge0(
    status: Status, verdict: Verdict | None, signal: int | None, number: int
) -> None:
    found = Evaluation(eval_id="x", task_id="eval-x", status=status, verdict=verdict, signal=signal)
    assert status_of(found, as_expected=True) == number
    if verdict == Verdict.OK:
        assert status_of(found, as_expected=False) == 4
