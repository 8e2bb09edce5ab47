"""The quotas of one flush as arguments of ``publish.lua``, and what it answers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.publishing.quota import state_of
from crucible.errors import QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crucible.broker.publishing.quota import InFlight, Quota, QuotaState, Rate
    from crucible.broker.redis.link import Argument

#: Seconds after which a sender that has too much in flight is asked to try again.
_IN_FLIGHT_RETRY_S = 1.0


class QuotaArguments:
    """Numbers the quotas of one flush; several may share a rate or a set.

    Args:
        quotas: in any order, each as often as it is used.
    """

    def __init__(self, quotas: Sequence[Quota]) -> None:
        self._quotas: dict[Quota, int] = {}
        self._rates: dict[str, Rate] = {}
        self._sets: dict[str, InFlight] = {}
        for quota in quotas:
            if quota in self._quotas:
                continue
            self._quotas[quota] = len(self._quotas) + 1
            for rate in quota.rates:
                self._rates.setdefault(rate.key, rate)
            if quota.in_flight is not None:
                self._sets.setdefault(quota.in_flight.key, quota.in_flight)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many rates, sets and quotas there are."""
        return len(self._rates), len(self._sets), len(self._quotas)

    def number_of(self, quota: Quota | None) -> int:
        """The number of a quota; 0 for none."""
        return 0 if quota is None else self._quotas[quota]

    def arguments(self, position: Callable[[str], int]) -> list[Argument]:
        """What the script is told of them.

        Args:
            position: of a key among KEYS.
        """
        if not self._quotas:
            return []
        rates = {key: number for number, key in enumerate(self._rates, 1)}
        sets = {key: number for number, key in enumerate(self._sets, 1)}
        args: list[Argument] = []
        for rate in self._rates.values():
            args += (position(rate.key), *rate.words)
        for held in self._sets.values():
            args += (position(held.key), held.ttl_s)
        for quota in self._quotas:
            bound = quota.in_flight
            args += (0, 0) if bound is None else (sets[bound.key], bound.limit)
            args += (len(quota.rates), *(rates[rate.key] for rate in quota.rates))
        return args

    def states(self, levels_us: Sequence[int], counts: Sequence[int]) -> Mapping[Quota, QuotaState]:
        """What is left of each quota.

        Args:
            levels_us: what the script answers of the rates.
            counts: and of the sets.
        """
        level_of = dict(zip(self._rates, levels_us, strict=True))
        count_of = dict(zip(self._sets, counts, strict=True))
        return {quota: state_of(quota, level_of, count_of) for quota in self._quotas}


def exceeded(state: QuotaState, *, in_flight: bool) -> QuotaExceeded:
    """The error for a message that a quota refused.

    Args:
        state: what is left of it.
        in_flight: too much is in flight; else a rate is used up.
    """
    retry_after_s = _IN_FLIGHT_RETRY_S if in_flight else max(state.retry_after_s, 1e-6)
    return QuotaExceeded(retry_after_s, state.reset_s, in_flight=in_flight)
