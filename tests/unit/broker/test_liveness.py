"""What a worker's sign of life says, as it is stored."""

from __future__ import annotations

import pytest

from crucible.breaker import BreakerState, Circuit
from crucible.broker.claiming.liveness import SignOfLife, decode_sign, encode_sign


@pytest.mark.parametrize(
    "sign",
    [
        SignOfLife("w@host"),
        SignOfLife("w@host", "the engine\ndoes not answer"),
        SignOfLife("w@host", "", {"executor:http://e:1": Circuit(BreakerState.OPEN, 3)}),
        SignOfLife(
            "é@host",
            "all",
            {"a": Circuit(BreakerState.CLOSED), "b": Circuit(BreakerState.HALF_OPEN)},
        ),
    ],
)
def test_a_sign_is_read_as_it_was_written(sign: SignOfLife) -> None:
    """Node, trouble and circuits survive being stored."""
    assert decode_sign(encode_sign(sign).encode()) == sign


def test_a_worker_without_trouble_is_its_name_alone() -> None:
    """What most workers store is as short as it can be."""
    assert encode_sign(SignOfLife("w@host")) == "w@host"


@pytest.mark.parametrize("stored", [b"{", b'{"node": 7}', b"\xff", b""])
def test_what_cannot_be_read_is_taken_for_a_name(stored: bytes) -> None:
    """A sign in another form still says that a worker lives."""
    assert decode_sign(stored).node == stored.decode(errors="replace")
