"""The short form of the history's battle: history, results and ledger agree after SIGKILLs."""

from __future__ import annotations

import pytest

from benchmarks.history_battle import battle

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize(("database", "kills"), [("sqlite", 6), ("postgresql", 7)])
async def test_the_three_agree_on_every_evaluation(database: str, kills: int) -> None:
    """Each of the processes is killed once, in the middle of submissions."""
    account = await battle(database, 80, kills, seed=1)
    assert account.faults == []
    assert account.evaluations == 80
    assert len(account.kills) == kills
