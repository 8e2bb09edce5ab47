"""Rows of the history, made of events."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.history_rig import life, story

from crucible.events.event import Event
from crucible.history.fitting import cut
from crucible.history.labels import label_rows, words_of
from crucible.history.rows import Row, batch_of


@given(st.permutations(story()), st.lists(st.sampled_from(story())))
def test_any_order_and_repetition_make_the_same_rows(
    order: list[Event], again: list[Event]
) -> None:
    """A late or repeated event changes no row."""
    assert batch_of([*order, *again]) == batch_of(story())


def test_the_last_event_says_where_it_stands() -> None:
    """And the original submission says what it is."""
    (row,) = _evaluations(story())
    assert (row["status"], row["verdict"], row["attempt"]) == ("completed", "ok", 1)
    assert (row["language"], row["priority"], row["metadata"]) == ("python", 5, '{"run":"a b"}')
    assert row["created_ms"] == story()[0].at


def test_each_attempt_has_a_row_with_what_it_used() -> None:
    """Retries, deliveries to workers that died, and replays are attempts of their own."""
    attempts = batch_of(story()).attempts
    assert [(row["attempt"], row["retry_count"], row["deliveries"]) for row in attempts] == [
        (0, 0, 0),
        (0, 1, 1),
        (1, 1, 0),
    ]
    assert [row["transition"] for row in attempts] == ["retrying", "dead_letter", "completed"]
    assert attempts[2]["cpu_time_ms"] == 11


def test_the_copy_of_a_dual_write_is_a_wave_of_its_own() -> None:
    """Rows in two queue systems are not folded: the database knows which one counts."""
    queued, _, end = life("one", queue_system="legacy")
    waves = batch_of([end, queued, end]).evaluations
    systems = [[row["queue_system"] for row in wave] for wave in waves]
    assert systems == [["celery"], ["legacy"], ["celery"]]


def test_what_does_not_fit_is_cut() -> None:
    """Anybody may write to the bus: one event must not keep the others from being written."""
    event = cut(
        msgspec.structs.replace(
            life("x" * 300)[0], worker="w\0" * 300, retry_count=2**40, seq=2**70, priority=-(2**40)
        )
    )
    assert (len(event.eval_id), event.worker, event.retry_count) == (128, "w" * 255, 2**31 - 1)
    assert (event.seq, event.priority) == (2**63 - 1, -(2**31 - 1))


def test_labels_are_scalars_and_words() -> None:
    """Objects and lists are kept with the evaluation, but nobody finds it by them."""
    event = life("job-7", metadata={"run": "Nightly Build", "n": 3, "ok": True, "list": [1]})[0]
    found = [(row["name"], row["value"]) for row in label_rows(event)]
    assert found == [
        ("run", "Nightly Build"),
        ("n", "3"),
        ("ok", "true"),
        *(("", word) for word in ("job", "7", "nightly", "build", "3", "true")),
    ]


def test_words_are_compared_without_case() -> None:
    """Punctuation divides words."""
    assert words_of("Straße_1 STRASSE, a-b") == ["strasse", "1", "a", "b"]


def _evaluations(events: list[Event]) -> list[Row]:
    return [row for wave in batch_of(events).evaluations for row in wave]
