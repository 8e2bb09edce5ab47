"""What is kept of the output of a program that runs."""

from __future__ import annotations

from crucible.evaluation.live_output import SHOWN_BYTES, Tail
from crucible.executor.live import listener, listening


def test_the_end_is_kept_however_much_is_written() -> None:
    """The last bytes of all pieces; memory stays bounded."""
    tail = Tail()
    for number in range(100_000):
        tail.add(b"%d\n" % number)
    assert tail.text.endswith("99998\n99999\n")
    assert len(tail.text) == SHOWN_BYTES
    assert tail.written == sum(len(f"{number}\n") for number in range(100_000))


def test_what_is_no_text_is_replaced() -> None:
    """A character that was cut in two as well."""
    tail = Tail()
    tail.add(b"\xff\xe2\x82")
    assert tail.text == "��"


def test_who_listens_does_so_inside_only() -> None:
    """The innermost listener hears; none afterwards."""
    heard: list[bytes] = []
    assert listener() is None
    with listening(heard.append):
        said = listener()
        assert said is not None
        said(b"x")
    assert listener() is None
    assert heard == [b"x"]
