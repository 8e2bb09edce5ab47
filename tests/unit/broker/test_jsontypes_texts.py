from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from crucible.broker.wire.jsontypes import dumps, dumps_texts

EVERY_ASCII = "".join(map(chr, range(128)))
TEXT = st.text(st.characters(codec="utf-8") | st.characters(max_codepoint=127))


@given(st.lists(TEXT | TEXT.map(lambda text: text * 50), max_size=4))
def test_texts_are_written_as_the_standard_library_writes_them(values: list[str]) -> None:
    """Short or long, ASCII or not: the same bytes."""
    assert dumps_texts(values) == dumps(values) == json.dumps(values)


def test_every_ascii_character_is_written_alike_in_a_long_text() -> None:
    """The quick encoder is used for long ASCII texts, and has every character right."""
    for character in EVERY_ASCII:
        text = character * 300
        assert dumps_texts([text]) == json.dumps([text])
    assert dumps_texts([EVERY_ASCII * 3]) == json.dumps([EVERY_ASCII * 3])


def test_anything_but_texts_is_left_alone() -> None:
    """One other value, and the general encoder has to do it."""
    assert dumps_texts(["a", 1]) is None
    assert dumps_texts([["a"]]) is None
    assert dumps_texts([]) == "[]"
