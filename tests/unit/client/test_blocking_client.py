from __future__ import annotations

from scripts.blocking_client import TARGET, text


def test_the_blocking_client_is_made_from_the_other() -> None:
    assert TARGET.read_text() == text(), "run python scripts/blocking_client.py"
