from __future__ import annotations

from crucible import redis_keys
from scripts.redis_keys_page import PAGE, page


def test_the_page_is_the_table() -> None:
    """docs/redis-keys.md says what crucible/redis_keys.py says."""
    assert PAGE.read_text() == page(), "run python scripts/redis_keys_page.py"


def test_the_table_has_every_key() -> None:
    """No name that Crucible writes or reads is missing."""
    names = [
        value
        for name, value in vars(redis_keys).items()
        if isinstance(value, str) and name[0].isupper() and name.isupper() and name not in _FIELDS
    ]
    assert len(names) > 15
    listed = [info.name for info in redis_keys.TABLE]
    for name in names:
        assert any(name in shown for shown in listed), name


#: Parts of keys and of fields, not keys.
_FIELDS = frozenset({"SEP", "CLAIM_PREFIX", "DELAYED_PREFIX"})
