"""Dead letters: messages that could not be run, kept with their exact bytes in a bounded stream."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.chain_tail import tail_task_ids
from crucible.broker.wire.decode import decode
from crucible.broker.wire.priority import priority_of, step_of
from crucible.broker.wire.retry import counted_anew, next_attempt, parse
from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.commands import Commands
    from crucible.redis_keys import Keys


#: Letters read at once in a search, and how often at most: all that the stream keeps.
_PAGE, _SEARCHED = 250, 48


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        letter_id: its id in the stream; the first part is milliseconds since the epoch.
        raw: the message's exact bytes.
        queue: the queue it came from.
        reason: unreadable, unregistered, rejected, undeliverable, unsettled, failed.
        detail: one sentence for people.
        task_id: id of the task, where it could be read.
        task: name of the task, where it could be read.
        attempts: tries or deliveries made, as text; empty where it was never tried.
        at: when, seconds since the epoch, as text.
    """

    letter_id: str
    raw: bytes
    queue: str
    reason: str
    detail: str = ""
    task_id: str = ""
    task: str = ""
    attempts: str = ""
    at: str = ""


def _letter(letter_id: bytes, fields: Sequence[bytes]) -> DeadLetter:
    known = dict(zip(fields[::2], fields[1::2], strict=True))

    def text(name: bytes) -> str:
        return known.get(name, b"").decode(errors="replace")

    return DeadLetter(
        letter_id=letter_id.decode(),
        raw=known.get(b"raw", b""),
        queue=text(b"queue"),
        reason=text(b"reason"),
        detail=text(b"detail"),
        task_id=text(b"task_id"),
        task=text(b"task"),
        attempts=text(b"attempts"),
        at=text(b"at"),
    )


def is_letter_id(text: str) -> bool:
    """Whether it can be the id of a letter: milliseconds, a dash, a number, not both zero."""
    match = re.fullmatch(r"([0-9]{1,19})-([0-9]{1,19})", text)
    return match is not None and bool(int(match[1]) or int(match[2]))


class DeadLetters:
    """The dead letters of one server.

    Args:
        store: commands on the queue server.
        keys: key names.
        results: commands on the result server where that is another.
    """

    def __init__(self, store: Commands, keys: Keys, results: Commands | None = None) -> None:
        self._store = store
        self._keys = keys
        self._results = results or store

    async def count(self) -> int:
        """How many there are."""
        return int(await self._store.command("XLEN", self._keys.dlq))

    async def page(self, limit: int, before: str = "") -> list[DeadLetter]:
        """The newest first; ``before`` is the id of the last letter of the page before."""
        end = f"({before}" if before else "+"
        rows: Any = await self._store.command("XREVRANGE", self._keys.dlq, end, "-", "COUNT", limit)
        return [_letter(letter_id, fields) for letter_id, fields in rows]

    async def get(self, letter_id: str) -> DeadLetter | None:
        """One letter; None where there is none, or the text cannot be an id."""
        if not is_letter_id(letter_id):
            return None
        rows: Any = await self._store.command("XRANGE", self._keys.dlq, letter_id, letter_id)
        return _letter(*rows[0]) if rows else None

    async def find(self, task_id: str) -> DeadLetter | None:
        """The newest letter of a task, among the newest ``_SEARCHED`` pages; None without one."""
        before = ""
        for _ in range(_SEARCHED):
            letters = await self.page(_PAGE, before)
            for letter in letters:
                if letter.task_id == task_id:
                    return letter
            if len(letters) < _PAGE:
                return None
            before = letters[-1].letter_id
        return None

    async def replay(self, letter: DeadLetter, *, count_attempt: bool = False) -> bool:
        """Put a letter's message back at the end of its queue; False when it is gone already.

        Its stored failure is deleted first, and that of the later steps of its chain, or the new
        results could not be stored. Its count of deliveries starts anew; all other bytes stay as
        they were. A chord that failed with the message stays failed.

        Args:
            letter: the letter.
            count_attempt: count in its headers that it had ended and is run again.

        Raises:
            MessageError: the message cannot be read, so no worker could run it either.
        """
        raw = counted_anew(letter.raw)
        if count_attempt:
            raw = next_attempt(raw)
        envelope = parse(raw)
        if not isinstance(envelope.get("properties"), dict):
            raise MessageError("no readable properties")
        step = step_of(priority_of(envelope))
        if letter.task_id:
            ids = [letter.task_id, *_failed_with(raw)]
            await self._results.command("DEL", *map(self._keys.result, ids))
        # Pushed before it is deleted: a crash in between runs it twice rather than never.
        await self._store.command("LPUSH", self._keys.step_list(letter.queue, step), raw)
        return bool(await self._store.command("XDEL", self._keys.dlq, letter.letter_id))

    async def purge(self, letter_ids: Sequence[str] = ()) -> int:
        """Delete these letters, or all of them; returns how many."""
        if letter_ids:
            return int(await self._store.command("XDEL", self._keys.dlq, *letter_ids))
        count = await self.count()
        await self._store.command("DEL", self._keys.dlq)
        return count


def _failed_with(raw: bytes) -> list[str]:
    """Ids of the later steps of its chain, whose results say that it failed."""
    try:
        return tail_task_ids(decode(raw).embed["chain"])
    except MessageError:
        return []


def shown(letter: DeadLetter) -> dict[str, Any]:
    """A letter as JSON types; the message as JSON where it is that, else as text.

    ``attempts`` and ``at`` (seconds since the epoch) are numbers, None where they are not known.
    """
    try:
        message: Any = json.loads(letter.raw)
    except (ValueError, RecursionError):
        message = letter.raw.decode(errors="backslashreplace")
    return {
        "id": letter.letter_id,
        "queue": letter.queue,
        "reason": letter.reason,
        "detail": letter.detail,
        "task_id": letter.task_id,
        "task": letter.task,
        "attempts": int(letter.attempts) if _is_digits(letter.attempts) else None,
        "at": float(letter.at) if _is_digits(letter.at.replace(".", "", 1)) else None,
        "message": message,
    }


def _is_digits(text: str) -> bool:
    """Whether it is digits, and no more than any count or time has."""
    return len(text) < 30 and text.isascii() and text.isdecimal()
