from __future__ import annotations

import pytest
from aiohttp.web_protocol import RequestHandler

from crucible.api.fast_path.server import INTERNALS, is_known


def test_the_installed_aiohttp_is_known() -> None:
    """An upgrade renamed what the fast path uses; see ``docs/why/060-direct-submissions.md``."""
    assert is_known(RequestHandler)


@pytest.mark.parametrize("name", sorted(INTERNALS))
def test_another_aiohttp_is_told_apart(name: str) -> None:
    """One part less, and everything goes through aiohttp."""
    assert is_known(type("Same", (), dict.fromkeys(INTERNALS)))
    assert not is_known(type("Other", (), dict.fromkeys(INTERNALS - {name})))
