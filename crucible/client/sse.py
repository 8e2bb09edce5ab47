"""Server-sent events as the API writes them. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """One event of a stream.

    Attributes:
        kind: of the ``event`` field.
        data: of the ``data`` fields, joined by line feeds.
        event_id: of the ``id`` field; empty where there was none.
    """

    kind: str
    data: str
    event_id: str


class MessageReader:
    """Makes messages of lines (WHATWG HTML, "event stream interpretation")."""

    def __init__(self) -> None:
        self._kind = ""
        self._data: list[str] = []
        self._event_id = ""

    def take(self, line: str) -> Message | None:
        """The message that ends with this line, which has no line ending; None for any other."""
        if line:
            self._take_field(line)
            return None
        kind, data, event_id = self._kind, self._data, self._event_id
        self._kind, self._data, self._event_id = "", [], ""
        return Message(kind or "message", "\n".join(data), event_id) if data else None

    def _take_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._event_id = value
