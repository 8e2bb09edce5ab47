"""What evaluations are found by: scalars of their metadata, and words. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from crucible.history.fitting import text
from crucible.history.lengths import WORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.events.event import Event

#: Labels of one evaluation; more of its metadata is kept, but not searched for.
_MAX_LABELS = 64
_WORD = re.compile(r"[^\W_]+")
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\Z", re.IGNORECASE)


def label_rows(event: Event) -> Iterator[dict[str, Any]]:
    """What an evaluation is found by: scalars of its metadata, and words of them and of its id."""
    is_generated = _UUID.match(event.eval_id) is not None
    if is_generated and not event.metadata:
        return
    # Nobody searches for a part of a generated id, and it would be five words.
    pairs = dict.fromkeys(_labels_of(event, [] if is_generated else [event.eval_id]))
    for name, value in list(pairs)[:_MAX_LABELS]:
        yield {
            "tenant": event.tenant,
            "name": name,
            "value": value,
            "created_ms": event.at,
            "eval_id": event.eval_id,
        }


def _labels_of(event: Event, texts: list[str]) -> Iterator[tuple[str, str]]:
    found = [
        (name, value)
        for name, stored in (event.metadata or {}).items()
        if name and len(name) <= WORD and (value := label_value(stored)) is not None
    ]
    yield from ((text(name, WORD), value) for name, value in found)
    for one in (*texts, *(value for _, value in found)):
        yield from (("", word) for word in words_of(one))


def label_value(value: object) -> str | None:
    """A value of metadata as it is searched for; None for lists, objects and null.

    Args:
        value: text, a number or a boolean.
    """
    if isinstance(value, str):
        return text(value, WORD)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return text(str(value), WORD)
    return None


def words_of(text: str) -> list[str]:
    """The words of a text as they are searched for, each once."""
    return list(dict.fromkeys(word[:WORD] for word in _WORD.findall(text.casefold())))
