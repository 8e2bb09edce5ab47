from __future__ import annotations

import pytest

from crucible.client.sse import Message, MessageReader


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        ("data: a\n\n", [Message("message", "a", "")]),
        ("event: e\nid: 7-0\ndata: a\ndata: b\n\n", [Message("e", "a\nb", "7-0")]),
        (": heartbeat\n\n", []),
        ("event: e\n\ndata:no space\n\n", [Message("message", "no space", "")]),
        ("data\n\ndata: half", [Message("message", "", "")]),
        ("retry: 10\nunknown: x\ndata: a: b\n\n", [Message("message", "a: b", "")]),
    ],
)
def test_lines_make_messages(stream: str, messages: list[Message]) -> None:
    """As browsers read them: comments and unknown fields are passed over."""
    reader = MessageReader()
    found = [message for line in stream.split("\n")[:-1] if (message := reader.take(line))]
    assert found == messages
