"""A page of the history has one upper bound, so that its index walk begins where the page does."""

from __future__ import annotations

import pytest

from crucible.history.filters import Filters, Place
from crucible.history.queries import page_queries


@pytest.mark.parametrize(
    ("after", "bounds"),
    [
        (None, [2000]),
        (Place(1500, "e5"), [1500, "e5"]),
        (Place(2000, "e5"), [2000]),
        (Place(2500, "e5"), [2000]),
    ],
)
def test_the_lower_of_until_and_cursor_is_the_only_bound(
    after: Place | None, bounds: list[int | str]
) -> None:
    """Either alone says what both say together."""
    filters = Filters(tenant="local", since_ms=1000, until_ms=2000)
    (query,) = page_queries(filters, after, 50)
    values = list(query.compile().params.values())
    assert values == ["local", 1000, *bounds, 50]
