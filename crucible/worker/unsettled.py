"""The runs of a worker whose claims it has not settled yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.worker.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crucible.broker.claiming.claims import Claim, Settlement


class UnsettledRuns:
    """Every run whose claim this worker holds, by claim."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def add(self, claims: Iterable[Claim]) -> list[Run]:
        """Keep claims that were just made; returns their runs."""
        runs = [Run(claim) for claim in claims]
        for run in runs:
            self._runs[run.claim.field] = run
        return runs

    def get(self, claim: Claim) -> Run | None:
        """The run of a claim; None where it is settled, given back, or another worker's."""
        return self._runs.get(claim.field)

    def drop(self, claim: Claim) -> Run | None:
        """Forget a claim: it is settled, given back, or another worker's."""
        return self._runs.pop(claim.field, None)

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """Forget the claims of settlements that the server has."""
        for settlement in settlements:
            if settlement.claim is not None:
                self._runs.pop(settlement.claim.field, None)
