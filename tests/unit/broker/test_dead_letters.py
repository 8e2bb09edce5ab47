from __future__ import annotations

import pytest

from crucible.broker.claiming.deadletters import DeadLetter, shown


@pytest.mark.parametrize(
    ("text", "number"),
    [("", None), ("3", 3), ("x", None), ("-1", None), ("٣", None), ("nan", None), ("9" * 99, None)],
)
def test_numbers_of_a_letter_are_numbers_or_unknown(text: str, number: int | None) -> None:
    """Whoever wrote the stream, what is shown has the types that are described."""
    letter = DeadLetter(letter_id="1-1", raw=b"", queue="q", reason="x", attempts=text, at=text)
    assert (shown(letter)["attempts"], shown(letter)["at"]) == (number, number)


def test_a_letters_time_has_fractions() -> None:
    """Seconds since the epoch, as the worker wrote them; attempts have no fraction."""
    letter = DeadLetter(letter_id="1-1", raw=b"", queue="q", reason="x", attempts="1.5", at="1.5")
    assert (shown(letter)["attempts"], shown(letter)["at"]) == (None, 1.5)
