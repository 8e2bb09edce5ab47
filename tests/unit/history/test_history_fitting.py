"""Events that fit the columns are taken as they are; the others are cut."""

from __future__ import annotations

import msgspec
import pytest
from support.history_rig import story

from crucible.history.fitting import cut, fitted


def test_usual_events_are_not_copied() -> None:
    """They are most, and a copy costs more than all looks at them."""
    for event in story():
        if event.message is None:
            assert fitted(event) is event
        assert cut(event) == event


@pytest.mark.parametrize(
    "wrong",
    [
        {"eval_id": "x" * 129},
        {"tenant": "x" * 65},
        {"status": "x" * 21},
        {"isolation": "x" * 21},
        {"queue": "a\0b"},
        {"worker": "a\0b"},
        {"worker": "x" * 256},
        {"message": "x" * 3000},
        {"seq": 2**63},
        {"at": -(2**70)},
        {"retry_count": 2**31},
        {"attempt": 2**31},
        {"deliveries": 2**31},
        {"priority": 2**31},
        {"verdict": "x" * 129},
        {"language": "x" * 129},
        {"environment": "x" * 129},
    ],
)
def test_what_does_not_fit_is_cut_as_ever(wrong: dict[str, object]) -> None:
    """The quick look misses nothing that the cut would change."""
    event = msgspec.structs.replace(story()[-1], **wrong)
    assert fitted(event) == cut(event) != event
