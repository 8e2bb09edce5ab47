"""What a worker's sign of life says, as it is stored."""

from __future__ import annotations

import pytest

from crucible.breaker import BreakerState, Circuit
from crucible.broker.claiming.liveness import Heartbeat, decode_heartbeat, encode_heartbeat


@pytest.mark.parametrize(
    "sign",
    [
        Heartbeat("w@host"),
        Heartbeat("w@host", "the engine\ndoes not answer"),
        Heartbeat("w@host", "", {"executor:http://e:1": Circuit(BreakerState.OPEN, 3)}),
        Heartbeat(
            "é@host",
            "all",
            {"a": Circuit(BreakerState.CLOSED), "b": Circuit(BreakerState.HALF_OPEN)},
        ),
    ],
)
def test_a_sign_is_read_as_it_was_written(sign: Heartbeat) -> None:
    """Node, trouble and circuits survive being stored."""
    assert decode_heartbeat(encode_heartbeat(sign).encode()) == sign


def test_a_worker_without_trouble_is_its_name_alone() -> None:
    """What most workers store is as short as it can be."""
    assert encode_heartbeat(Heartbeat("w@host")) == "w@host"


@pytest.mark.parametrize("stored", [b"{", b'{"node": 7}', b"\xff", b""])
def test_what_cannot_be_read_is_taken_for_a_name(stored: bytes) -> None:
    """A sign in another form still says that a worker lives."""
    assert decode_heartbeat(stored).node == stored.decode(errors="replace")
