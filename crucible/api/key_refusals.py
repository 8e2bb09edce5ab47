"""What this process refused because of a key, or the want of one: counted where it is answered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from crucible.errors import Forbidden, QuotaExceeded, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Reasons of ``key_refusals_total``: no key came; none that is valid; it lacks the scope; its rate
#: or its tenant's is used up; its tenant has as much in flight as it may.
REASONS = ("missing", "invalid", "scope", "rate", "in_flight")
_counts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))


def count_refusal(error: Unauthenticated | Forbidden | QuotaExceeded) -> None:
    """Note that a request, or an item of a batch, is answered with this error."""
    match error:
        case Unauthenticated():
            _counts["invalid" if error.given else "missing"] += 1
        case Forbidden():
            _counts["scope"] += 1
        case QuotaExceeded():
            _counts["in_flight" if error.in_flight else "rate"] += 1


def refusals() -> Mapping[str, int]:
    """How many there were since the start, by reason."""
    return _counts
