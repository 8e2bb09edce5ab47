"""What a caller may ask for: the installation's bounds, and those of its tier within them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.errors import InputError
from crucible.evaluation.limits import LimitsRequest, ceilings_of
from crucible.evaluation.request import check_request
from crucible.executor.served import ServedEnvironments
from crucible.settings.tiers import PRIORITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.evaluation.request import EvalRequest
    from crucible.models import Isolation, Limits, Tier
    from crucible.settings import Settings
    from crucible.settings.tiers import TierRules

#: Seconds a result may be kept on request: seven days.
MAX_RESULT_TTL_S = 7 * 86_400


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of caller may ask for.

    Attributes:
        served: the environments its programs may run in.
        ceilings: the most they may ask for.
        isolations: those that they may ask for.
        isolation: what those get that name none; None where a worker's default is among those.
        priorities: lowest and highest user priority; what is beyond is moved to the nearest.
        result_ttl_s: the longest that they may have a result kept, seconds.
        lowered: its ceilings that are below the installation's.
        chooses: the environment is chosen here for requests that name none, because a worker
            might choose one that is not among those served.
    """

    served: ServedEnvironments
    ceilings: Limits
    isolations: tuple[Isolation, ...]
    isolation: Isolation | None = None
    priorities: tuple[int, int] = (0, 9)
    lowered: tuple[str, ...] = ()
    result_ttl_s: int = MAX_RESULT_TTL_S
    chooses: bool = False

    def admit(self, asked: EvalRequest, *, plain: bool | None = None) -> EvalRequest:
        """A request as it is queued; the same object where nothing of it changes.

        Args:
            asked: what was asked.
            plain: what ``is_plain`` says of it, where that is known.

        Raises:
            InputError: it could never run, or asks for more than the caller may have.
        """
        asked = check_request(asked, self.served, self.ceilings, self.isolations, plain=plain)
        ttl_s = asked.result_ttl_s
        if ttl_s is not None and not 1 <= ttl_s <= self.result_ttl_s:
            raise InputError("result_ttl_s", f"must be between 1 and {self.result_ttl_s}")
        low, high = self.priorities
        if not low <= asked.priority <= high:
            priority = min(max(asked.priority, low), high)
            asked = msgspec.structs.replace(asked, priority=priority)
        if self.isolation is not None and asked.isolation is None:
            asked = msgspec.structs.replace(asked, isolation=self.isolation)
        if self.chooses and asked.environment is None:
            environment, _ = self.served.find(asked.language)
            asked = msgspec.structs.replace(asked, environment=environment.name)
        return self._bounded(asked) if self.lowered else asked

    def _bounded(self, asked: EvalRequest) -> EvalRequest:
        """With limits for what a worker, which knows no tiers, would else give more of."""
        _, language = self.served.find(asked.language, asked.environment)
        given = asked.limits or LimitsRequest()
        missing = {
            name: ceiling
            for name in self.lowered
            if getattr(given, name) is None
            and (ceiling := getattr(self.ceilings, name)) < getattr(language.defaults, name)
        }
        if not missing:
            return asked
        return msgspec.structs.replace(asked, limits=msgspec.structs.replace(given, **missing))


def allowances(settings: Settings, served: ServedEnvironments) -> Mapping[Tier | None, Allowance]:
    """What callers of each tier may ask for; under None those that have no tier.

    Args:
        settings: of the installation.
        served: its environments.
    """
    ceilings = ceilings_of(settings)
    found: dict[Tier | None, Allowance] = {
        None: Allowance(
            served=served,
            ceilings=ceilings,
            isolations=settings.isolations,
            result_ttl_s=settings.max_result_ttl_s,
        )
    }
    for tier, rules in settings.tier_rules.items():
        found[tier] = _of_tier(tier, rules, settings, found[None])
    return found


def _of_tier(tier: Tier, rules: TierRules, settings: Settings, all_: Allowance) -> Allowance:
    limits = {}
    for name, most in rules.limits.items():
        ceiling = getattr(all_.ceilings, name)
        limits[name] = type(ceiling)(min(ceiling, most))
    isolations = tuple(one for one in settings.isolations if one in rules.isolations)
    served = all_.served
    if rules.environments is not None:
        # In the installation's order, by which one is chosen for requests that name none.
        served = ServedEnvironments([one for one in served if one.name in rules.environments])
    return Allowance(
        served=served,
        ceilings=msgspec.structs.replace(all_.ceilings, **limits),
        isolations=isolations,
        isolation=None if settings.isolation in isolations else isolations[0],
        priorities=PRIORITIES[tier],
        result_ttl_s=min(all_.result_ttl_s, rules.result_ttl_s or all_.result_ttl_s),
        chooses=rules.environments is not None,
        lowered=tuple(n for n, v in limits.items() if v < getattr(all_.ceilings, n)),
    )
