"""The short form of the history's battle: history, results and ledger agree after SIGKILLs."""

from __future__ import annotations

import pytest

from benchmarks.history_battle import battle
from benchmarks.progress import StalledError, until_done

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize(("database", "kills"), [("sqlite", 6), ("postgresql", 7)])
async def test_the_three_agree_on_every_evaluation(database: str, kills: int) -> None:
    """Each of the processes is killed once, in the middle of submissions."""
    account = await battle(database, 80, kills, seed=1)
    assert account.faults == []
    assert account.evaluations == 80
    assert len(account.kills) == kills


async def test_a_wait_fails_only_when_nothing_moves() -> None:
    """However long it takes in all; and says what is left then."""
    looks = iter([*range(4), None])

    async def moving() -> object:
        return next(looks)

    async def standing() -> object:
        return "one entry at historian-1"

    await until_done(moving)
    with pytest.raises(StalledError, match="one entry at historian-1"):
        await until_done(standing, stalled_s=0.3)
