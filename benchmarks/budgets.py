"""Budgets of processor time: what each hot path costs, as a multiple of a bare probe.

Path and probe are measured in turns, so that what else the machine does meets both. A budget is
kept where the median of the ratios is not above it by more than their spread.
"""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.budget_paths import PATHS, PROBES, Where
from benchmarks.figures import Summary, summary_of
from crucible.embedded.server import EmbeddedServer
from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

FILE = Path(__file__).with_name("budgets.toml")


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a path may cost.

    Attributes:
        probe: what it is a multiple of.
        at_most: how many times that.
    """

    probe: str
    at_most: float


class Account(msgspec.Struct, frozen=True):
    """What a path cost in one run.

    Attributes:
        path: its name.
        what: one operation of it.
        budget: what it may cost.
        us: microseconds of processor time.
        probe_us: the same of its probe.
        ratio: the one as a multiple of the other, turn by turn.
    """

    path: str
    what: str
    budget: Budget
    us: Summary
    probe_us: Summary
    ratio: Summary

    @property
    def noise(self) -> float:
        """Half of the range of the ratios."""
        return (self.ratio.high - self.ratio.low) / 2

    @property
    def kept(self) -> bool:
        """It costs no more than it may, as far as this run can tell."""
        return self.ratio.median - self.noise <= self.budget.at_most


def read_budgets(text: str) -> dict[str, Budget]:
    """The budgets of a file.

    Raises:
        SettingsError: it is malformed, or names a path or a probe that does not exist.
    """
    try:
        budgets = msgspec.convert(tomllib.loads(text), dict[str, Budget])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(FILE.name, str(error)) from None
    for name, budget in budgets.items():
        if name not in PATHS or budget.probe not in PROBES:
            raise SettingsError(FILE.name, f"{name}: no such path, or no probe {budget.probe!r}")
    return budgets


async def measure(
    budgets: dict[str, Budget],
    turns: int,
    scale: float = 1.0,
    progress: Callable[[str], None] = lambda _: None,
    only: Collection[str] = (),
) -> list[Account]:
    """Measure each path of the budgets.

    Args:
        budgets: by path.
        turns: measurements of each path and of its probe.
        scale: 1.0 for real figures; tests use less.
        progress: called with the path that is measured.
        only: these paths; empty for all.

    Raises:
        SettingsError: one of ``only`` has no budget.
        CrucibleError: a subject failed.
    """
    if unknown := sorted(set(only) - budgets.keys()):
        raise SettingsError("--subjects", f"no {', '.join(unknown)}; have {', '.join(budgets)}")
    accounts = []
    with tempfile.TemporaryDirectory(prefix="crucible-budgets-") as directory:
        async with EmbeddedServer(Path(directory) / "server", durable=False) as server:
            where = Where(server.url.rpartition("/")[0], Path(directory), scale)
            for name, budget in budgets.items():
                if not only or name in only:
                    progress(name)
                    accounts.append(await _measure(name, budget, where, turns))
    return accounts


async def _measure(name: str, budget: Budget, where: Where, turns: int) -> Account:
    path, probe = PATHS[name], PROBES[budget.probe]
    mine: list[float] = []
    bare: list[float] = []
    async with probe.open(where) as measure_probe, path.open(where) as measure_path:
        await measure_path()  # its first operations pay for what all later ones find ready
        await measure_probe()
        for _ in range(turns):
            bare.append(await measure_probe())
            mine.append(await measure_path())
    ratios = [one / other for one, other in zip(mine, bare, strict=True)]
    return Account(name, path.what, budget, summary_of(mine), summary_of(bare), summary_of(ratios))
