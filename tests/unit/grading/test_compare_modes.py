from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.grading.comparison import compare
from crucible.grading.models import Comparison, Mode
from crucible.models import Verdict

ACCEPTED, WRONG, PRESENTATION = (
    Verdict.ACCEPTED,
    Verdict.WRONG_ANSWER,
    Verdict.PRESENTATION_ERROR,
)
TEXT = st.text("ab 12\n\t\r", max_size=30).map(str.encode)


def verdict(mode: Mode, expected: bytes, output: bytes, **tolerance: float) -> Verdict:
    """What ``compare`` says."""
    return compare(Comparison(mode=mode, **tolerance), expected, output).verdict


@pytest.mark.parametrize(
    ("mode", "expected", "output", "found"),
    [
        ("exact", b"1\n", b"1\n", ACCEPTED),
        ("exact", b"1\n", b"1", PRESENTATION),
        ("exact", b"1 2\n", b"1\n2\n", PRESENTATION),
        ("exact", b"1 2\n", b"12\n", WRONG),
        ("exact", b"", b"\n", PRESENTATION),
        ("trim", b"1\n2\n", b"1  \r\n2\t\n\n\n", ACCEPTED),
        ("trim", b"1\n2\n", b"1\n\n2\n", WRONG),
        ("trim", b"1 2\n", b"1  2\n", WRONG),
        ("trim", b" 1\n", b"1\n", WRONG),
        ("trim", b"1\n", b"", WRONG),
        ("tokens", b"1 2\n3\n", b"\n1\t2 3", ACCEPTED),
        ("tokens", b"1 2 3", b"1 2", WRONG),
        ("tokens", b"1 2", b"1 2 3", WRONG),
        ("tokens", b"a", b"A", WRONG),
        ("tokens", b"\xff \x00", b"\xff\n\x00", ACCEPTED),
        ("sorted", b"b\na\n", b"a\n\nb  \n", ACCEPTED),
        ("sorted", b"b\na\n", b"a\na\n", WRONG),
        ("sorted", b"a\na\nb\n", b"a\nb\nb\n", WRONG),
        ("sorted", b"a b\n", b"a\nb\n", WRONG),
    ],
)
def test_modes(mode: Mode, expected: bytes, output: bytes, found: Verdict) -> None:
    """Each mode leaves aside what it is documented to leave aside, and nothing else."""
    assert verdict(mode, expected, output) is found


@pytest.mark.parametrize(
    ("expected", "output", "tolerance", "found"),
    [
        (b"1.0", b"1", {}, ACCEPTED),
        (b"1.0", b"1.05", {"abs": 0.1}, ACCEPTED),
        (b"1.0", b"1.05", {"abs": 0.01}, WRONG),
        (b"1000", b"1001", {"rel": 0.01}, ACCEPTED),
        (b"1000", b"1001", {"abs": 0.01, "rel": 0.0001}, WRONG),
        (b"-0", b"0", {}, ACCEPTED),
        (b"nan", b"nan", {"abs": 9}, WRONG),
        (b"1", b"nan", {"abs": 9}, WRONG),
        (b"inf", b"Infinity", {}, ACCEPTED),
        (b"inf", b"-inf", {"abs": 9}, WRONG),
        (b"1e400", b"inf", {}, ACCEPTED),
        (b"1", b"inf", {"abs": 9, "rel": 9}, WRONG),
        (b"yes 1", b"yes 1.0", {}, ACCEPTED),
        (b"yes", b"no", {"abs": 9}, WRONG),
        (b"10", b"1_0", {}, WRONG),
        (b"10", b"0xa", {}, WRONG),
        (b"1 2", b"1", {}, WRONG),
    ],
)
def test_floats(
    expected: bytes, output: bytes, tolerance: dict[str, float], found: Verdict
) -> None:
    """Numbers within either tolerance, other words as they are; NaN is never right."""
    assert verdict("float", expected, output, **tolerance) is found


@given(TEXT)
def test_every_mode_accepts_the_answer_itself(text: bytes) -> None:
    """As long as no NaN is in it, which has no spelling in this alphabet."""
    modes: tuple[Mode, ...] = ("exact", "trim", "tokens", "float", "sorted")
    assert {verdict(mode, text, text) for mode in modes} == {ACCEPTED}


@given(TEXT, TEXT)
def test_modes_from_strict_to_lenient(expected: bytes, output: bytes) -> None:
    """What a stricter mode accepts, a more lenient one accepts."""
    exact, trim, tokens = (verdict(m, expected, output) for m in ("exact", "trim", "tokens"))
    assert trim is ACCEPTED or exact is not ACCEPTED
    assert tokens is ACCEPTED or trim is not ACCEPTED
    assert (exact is WRONG) == (tokens is WRONG)


@given(st.lists(st.text("ab", min_size=1)), st.randoms(use_true_random=False))
def test_sorted_takes_any_order(lines: list[str], order: random.Random) -> None:
    """A shuffled answer is accepted, and one with a line changed is not."""
    shuffled = order.sample(lines, len(lines))
    text, other = ("\n".join(one).encode() for one in (lines, shuffled))
    assert verdict("sorted", text, other) is ACCEPTED
    if lines:
        shuffled[0] += "c"
        assert verdict("sorted", text, "\n".join(shuffled).encode()) is WRONG


@given(st.floats(-1e6, 1e6), st.floats(-1, 1))
def test_float_accepts_within_the_tolerance(number: float, share: float) -> None:
    """A number off by less than ``abs`` is right, by more it is wrong."""
    near, far = number + share * 0.5, number + 1.5
    assert verdict("float", b"%r" % number, b"%r" % near, abs=0.6) is ACCEPTED
    assert verdict("float", b"%r" % number, b"%r" % far, abs=0.6) is WRONG


def test_the_message_says_where() -> None:
    """The first difference is named, with what was expected and found, both cut."""
    ruling = compare(Comparison(mode="tokens"), b"1 2 3", b"1 " + b"9" * 1000 + b" 3")
    assert ruling.message is not None
    assert ruling.message.startswith("word 2: expected '2', found '999")
    assert len(ruling.message) < 200
