"""Rates of keys: the quotas they are published within, and what clients are told of them."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from crucible.broker.publishing.quota import InFlight, Quota, Rate
from crucible.errors import QuotaExceeded
from crucible.redis_keys import KEY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crucible.broker.publishing.quota import QuotaState
    from crucible.identity.principal import Principal
    from crucible.models import Tier
    from crucible.redis_keys import Keys
    from crucible.settings.tiers import TierRules


def policy_of(rules: TierRules) -> str:
    """What a key may, as ``RateLimit-Policy`` says it: a quota of units, and its window."""
    return f'"submit";q={rules.burst};w={max(1, math.ceil(rules.burst / rules.rate))}'


class RateStatus(NamedTuple):
    """What is left to a key, as header fields say it (IETF RateLimit, draft 11).

    Attributes:
        policy: the value of ``RateLimit-Policy``.
        left: the value of ``RateLimit``.
        text: both fields as they are sent.
    """

    policy: str
    left: str
    text: str

    @classmethod
    def of(cls, policy: str, remaining: int, reset_s: float) -> RateStatus:
        """From what a key may, what is left of it, and when it is wholly free again."""
        left = f'"submit";r={remaining};t={math.ceil(reset_s)}'
        return cls(policy, left, f"RateLimit-Policy: {policy}\r\nRateLimit: {left}\r\n")

    def headers(self) -> dict[str, str]:
        """Both fields by name."""
        return {"RateLimit-Policy": self.policy, "RateLimit": self.left}


class KeyRate:
    """The rate of one key in one process.

    Args:
        quota: what the server checks.
        policy: what clients are told of it.
        clock: monotonic seconds.
    """

    def __init__(
        self, quota: Quota, policy: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quota = quota
        self._policy = policy
        self._clock = clock
        self._blocked_until = self._free_at = -math.inf
        self._state: QuotaState | None = None
        self._status = RateStatus.of(policy, 0, 0.0)

    def check(self) -> None:
        """Refuse what the server would refuse as well, without asking it.

        Raises:
            QuotaExceeded: it refused one before, and the time it named is not over.
        """
        if self._blocked_until < 0:  # nearly always: nothing was refused
            return
        now = self._clock()
        left_s = self._blocked_until - now
        if left_s <= 0:
            self._blocked_until = -math.inf
            return
        reset_s = max(left_s, self._free_at - now)
        raise QuotaExceeded(left_s, reset_s, policy=self._policy)

    def refused(self, error: QuotaExceeded) -> None:
        """Take note that the server refused a submission; the error learns the policy."""
        error.policy = self._policy
        if not error.in_flight:
            now = self._clock()
            self._blocked_until = now + error.retry_after_s
            self._free_at = now + error.reset_s

    def status(self, state: QuotaState) -> RateStatus:
        """What is left, for the client; rendered once for all submissions of a flush."""
        if state is not self._state:
            self._state = state
            self._status = RateStatus.of(self._policy, state.remaining, state.reset_s)
        return self._status


class KeyRates:
    """The rates of all keys in one process.

    Args:
        tiers: what holds for the keys of each tier.
        keys: key names.
        ttl_s: seconds after which an evaluation that nobody saw end is no longer in flight.
    """

    def __init__(self, tiers: Mapping[Tier, TierRules], keys: Keys, ttl_s: int) -> None:
        self._tiers = tiers
        self._keys = keys
        self._ttl_s = ttl_s
        self._rates: dict[str, KeyRate] = {}

    def of(self, caller: Principal) -> KeyRate | None:
        """The rate of a caller; None for one that has none."""
        rate = self._rates.get(caller.key_id)
        if rate is None and caller.tier is not None:
            # Revoked keys stay here; more than twice as many as may be valid are too many.
            if len(self._rates) >= 2 * KEY_LIMIT:
                self._rates.clear()
            rate = self._rates[caller.key_id] = self._made(caller, caller.tier)
        return rate

    def _made(self, caller: Principal, tier: Tier) -> KeyRate:
        rules, names = self._tiers[tier], self._keys
        own = Rate(names.rate_of_key(caller.key_id), 1e6 / rules.rate, rules.burst)
        of_tenant = Rate(
            names.rate_of_tenant(caller.tenant, tier), 1e6 / rules.tenant_rate, rules.tenant_burst
        )
        in_flight = InFlight(names.in_flight(caller.tenant), rules.in_flight, self._ttl_s)
        return KeyRate(Quota((own, of_tenant), in_flight), policy_of(rules))
