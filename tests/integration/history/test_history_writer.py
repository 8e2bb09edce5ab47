"""Writing the history to both databases."""

from __future__ import annotations

import random

import msgspec
from sqlalchemy import event, insert, text
from support.history_rig import life, migrated, rows_of, story

from crucible.history.rows import batch_of
from crucible.history.schema import attempts, evaluations, labels, purged, transitions
from crucible.history.writer import HistoryWriter


async def test_batches_in_any_order_make_the_same_rows(history_url: str) -> None:
    """What was written never moves backwards, in whichever batches events come."""
    events = [*story(), *life("two"), *life("two", tenant="other")]
    expected = batch_of(events)
    random_order = random.Random(7)
    async with migrated(history_url) as engine:
        writer = HistoryWriter(engine)
        for _ in range(12):
            for one in random_order.sample(events, len(events)):
                await writer.write([one])
            found = await rows_of(engine, evaluations)
            assert found == [
                {column: row[column] for column in found[0]} for row in expected.evaluations[0]
            ]
            assert await rows_of(engine, transitions) == list(expected.transitions)
            assert await rows_of(engine, attempts) == list(expected.attempts)
            assert await rows_of(engine, labels) == list(expected.labels)
            async with engine.execution_options(writes=True).begin() as connection:
                for table in (evaluations, transitions, attempts, labels):
                    await connection.execute(table.delete())


async def test_the_original_of_a_dual_write_takes_the_row_over(history_url: str) -> None:
    """The end of the copy that came first is not that of the evaluation."""
    queued, _, copy_end = life("one", queue_system="legacy")
    end = msgspec.structs.replace(copy_end, queue_system="legacy", verdict="nonzero_exit")
    async with migrated(history_url) as engine:
        writer = HistoryWriter(engine)
        for batch in ([copy_end], [queued], [copy_end], [end], [copy_end]):
            await writer.write(batch)
        (row,) = await rows_of(engine, evaluations)
    assert (row["queue_system"], row["verdict"]) == ("legacy", "nonzero_exit")
    assert row["celery_task_id"] is None


async def test_a_batch_is_one_statement_where_the_database_can_take_it(history_url: str) -> None:
    """PostgreSQL gets the rows of all tables at once, SQLite those of each."""
    statements: list[str] = []

    def executed(_: object, __: object, statement: str, *___: object) -> None:
        if "INSERT" in statement:
            statements.append(statement)

    async with migrated(history_url) as engine:
        writer = HistoryWriter(engine)
        event.listen(engine.sync_engine, "before_cursor_execute", executed)
        await writer.write([*story(), *life("two")])
        counts = [len(await rows_of(engine, table)) for table in (evaluations, transitions)]
    assert counts == [2, 10]
    assert len(statements) == (4 if history_url.startswith("sqlite") else 1)


async def test_a_dual_write_in_one_batch_is_written_in_order(history_url: str) -> None:
    """Rows of one evaluation in two queue systems are not put into the same statement."""
    queued, _, copy_end = life("one", queue_system="legacy")
    end = msgspec.structs.replace(copy_end, queue_system="legacy", verdict="nonzero_exit")
    async with migrated(history_url) as engine:
        await HistoryWriter(engine).write([copy_end, queued, *life("two"), copy_end, end])
        rows = await rows_of(engine, evaluations)
        assert len(await rows_of(engine, transitions)) == 6
    assert [(row["queue_system"], row["verdict"]) for row in rows] == [
        ("legacy", "nonzero_exit"),
        ("celery", "ok"),
    ]


async def test_one_event_that_is_refused_does_not_hold_the_others(history_url: str) -> None:
    """Whatever a database has against one row, the rest of its batch is written."""
    async with migrated(history_url) as engine:
        async with engine.execution_options(writes=True).begin() as connection:
            await connection.execute(text("CREATE UNIQUE INDEX once ON evaluations (worker)"))
        writer = HistoryWriter(engine)
        other = [msgspec.structs.replace(one, worker="v@host") for one in life("three")]
        await writer.write([*life("one"), life("two")[0], life("two")[1], *other])
        rows = await rows_of(engine, evaluations)
    assert [(row["eval_id"], row["worker"]) for row in rows] == [
        ("one", "w@host"),
        ("three", "v@host"),
        ("two", None),
    ]
    assert (writer.refused, writer.written) == (1, 7)


async def test_late_events_of_what_was_forgotten_are_not_written(history_url: str) -> None:
    """A purge stays in force for events that are still on the bus."""
    async with migrated(history_url) as engine:
        async with engine.execution_options(writes=True).begin() as connection:
            await connection.execute(insert(purged).values(tenant="local", eval_id="one", at_ms=1))
        await HistoryWriter(engine).write([*life("one"), *life("one", tenant="other")])
        rows = await rows_of(engine, evaluations)
        assert {row["tenant"] for row in await rows_of(engine, transitions)} == {"other"}
    assert [row["tenant"] for row in rows] == ["other"]
