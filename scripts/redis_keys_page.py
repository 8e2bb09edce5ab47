"""Writes ``docs/redis-keys.md`` from the table of ``crucible.redis_keys``.

``python scripts/redis_keys_page.py`` after a change of the table; a unit test compares the two.
"""

from __future__ import annotations

from pathlib import Path

from crucible.redis_keys import CLAIM_PREFIX, TABLE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "redis-keys.md"

_HEAD = f"""# Redis keys

All on the task queue server; results and chords on the result server where that is another, and
events on the event bus.
`crucible/redis_keys.py` is the one place that spells them, and this page is made from its table by
`scripts/redis_keys_page.py`. `global_keyprefix` is put before all but results and chords, which
have `result_keyprefix`. Names without `crucible:` are Celery's and kombu's own.

Fields of `unacked` that Crucible writes start with `{CLAIM_PREFIX}<worker id>|`, so that a sweep
finds the claims of a dead worker without an index of its own.
"""


def page() -> str:
    """The page as it is to be."""
    lines = ["| key | type | written by | bound | what |", "|---|---|---|---|---|"]
    for info in TABLE:
        name = f"`{info.name.replace(', ', '`, `')}`"
        lines.append(f"| {name} | {info.kind} | {info.writer} | {info.bound} | {info.meaning} |")
    return f"{_HEAD}\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
