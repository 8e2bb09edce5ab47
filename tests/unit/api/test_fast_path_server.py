from __future__ import annotations

import pytest
from aiohttp.web_protocol import RequestHandler

from crucible.api.fast_path.server import INTERNALS, is_known


def test_the_installed_aiohttp_is_known() -> None:
    """Fails when an upgrade renames what the short way builds on; see ``docs/why/060``."""
    assert is_known(RequestHandler)


@pytest.mark.parametrize("name", sorted(INTERNALS))
def test_another_aiohttp_is_told_apart(name: str) -> None:
    """One part less, and everything goes through aiohttp."""
    assert is_known(type("Same", (), dict.fromkeys(INTERNALS)))
    assert not is_known(type("Other", (), dict.fromkeys(INTERNALS - {name})))
