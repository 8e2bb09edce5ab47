from __future__ import annotations

import uuid

from crucible.broker.wire.ids import new_id, new_tag


def test_ids_are_random_uuids() -> None:
    """Over more than one batch: version, variant and form are right, and no two are the same."""
    made = [new_id() for _ in range(1000)]
    parsed = [uuid.UUID(text) for text in made]
    assert [str(one) for one in parsed] == made
    assert {(one.version, one.variant) for one in parsed} == {(4, uuid.RFC_4122)}
    assert len(set(made)) == len(made)
    # Every bit that is free takes both values.
    ones = zeros = 0
    for one in parsed:
        ones |= one.int
        zeros |= ~one.int
    fixed = 0xF << 76 | 0b11 << 62
    assert (ones & zeros) & (2**128 - 1) == (2**128 - 1) & ~fixed


def test_tags_look_like_ids_and_are_unique() -> None:
    """Over more than one batch."""
    made = [new_tag() for _ in range(1000)]
    assert [str(uuid.UUID(text)) for text in made] == made
    assert {uuid.UUID(text).version for text in made} == {4}
    assert len(set(made)) == len(made)
