"""The golden captures: complete, masked to themselves, equal to what stock Celery writes now."""

from __future__ import annotations

import re
from typing import Any

import pytest
from stock_rig import golden
from stock_rig.mask import mask_message, mask_text, masked_structure
from stock_rig.publishes import publish_table
from stock_rig.reading import events, messages, replies, results
from stock_rig.values import decode

pytestmark = pytest.mark.stock

_VOLATILE = re.compile(
    r"[1-9a-f][0-9a-f]{7}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|gen\d"
)


def _raw_messages(version: str) -> list[str]:
    publishes = golden.load(version, "publishes")["entries"]
    traces = golden.load(version, "traces")["entries"]
    pushed = [item["message"] for entry in publishes for item in entry["pushed"]]
    return pushed + [raw for entry in traces for _, raw in messages(entry["trace"])]


@pytest.mark.parametrize("version", golden.GOLDEN_VERSIONS)
def test_every_table_row_was_captured(version: str) -> None:
    """Each call and scenario of the tables has its capture, none ended in an error."""
    publishes = golden.load(version, "publishes")
    assert publishes["versions"]["celery"] == version
    assert {entry["call"] for entry in publishes["entries"]} == {
        call["call"] for call in golden.calls()
    }
    assert not [entry for entry in publishes["entries"] if "error" in entry or not entry["pushed"]]
    assert [entry["scenario"] for entry in golden.load(version, "traces")["entries"]] == [
        scenario["scenario"] for scenario in golden.scenarios()
    ]


@pytest.mark.parametrize("version", golden.GOLDEN_VERSIONS)
def test_masking_takes_all_that_is_volatile_and_masks_to_itself(version: str) -> None:
    """After masking no random id and no process is left, and masking again changes nothing."""
    for raw in _raw_messages(version):
        masked = mask_message(raw)
        assert not _VOLATILE.search(masked), masked
        assert mask_message(masked) == masked
        assert not _VOLATILE.search(str(masked_structure(raw)))


@pytest.mark.parametrize("version", golden.GOLDEN_VERSIONS)
async def test_a_fresh_capture_equals_the_golden_one(version: str, redis_url: str) -> None:
    """What the stock client writes today is, masked, byte for byte what was captured."""

    def masked(entries: list[dict[str, Any]]) -> list[list[Any]]:
        return [
            [entry["call"], entry["via"], item["list"], mask_message(item["message"])]
            for entry in entries
            for item in entry["pushed"]
        ]

    installed, entries = await publish_table(version, redis_url)
    expected = golden.load(version, "publishes")
    assert installed["celery"] == version
    assert masked(entries) == masked(expected["entries"])


@pytest.mark.parametrize("version", golden.GOLDEN_VERSIONS)
def test_traces_tell_results_and_events_in_order(version: str) -> None:
    """The readers find in the traces what the protocol reference says of each scenario."""
    traces = {entry["scenario"]: entry for entry in golden.load(version, "traces")["entries"]}
    states = {
        "success": ["SUCCESS"],
        "started": ["STARTED", "SUCCESS"],
        "progress": ["PROGRESS", "PROGRESS", "SUCCESS"],
        "retry_then_ok": ["RETRY", "RETRY", "SUCCESS"],
        "ignored_task": [],
        "ignore": [],
        "expired": ["REVOKED"],
        "unknown_task": ["FAILURE"],
        "chain_failure": ["FAILURE", "FAILURE", "FAILURE"],
        "track_started_everywhere": ["STARTED", "SUCCESS"],
        "errors_kept_though_ignored": ["FAILURE"],
        "prefixed_chord": ["SUCCESS", "SUCCESS", "SUCCESS"],
    }
    for name, expected in states.items():
        assert [result["status"] for result in results(traces[name]["trace"])] == expected, name
    told = [event["type"] for event in events(traces["retry_then_ok"]["trace"])]
    again = ["task-received", "task-started", "task-retried"]
    assert told == [*again, *again, "task-received", "task-started", "task-succeeded"]
    terminated = results(traces["terminated"]["trace"])[-1]
    assert terminated["result"]["exc_message"] == ["terminated"]


@pytest.mark.parametrize("version", golden.GOLDEN_VERSIONS)
def test_control_replies_were_captured_raw_and_as_read(version: str) -> None:
    """Each command's reply in the trace is the one that the stock client read from it."""
    asked = [entry for entry in golden.load(version, "control")["entries"] if "method" in entry]
    assert {"ping", "stats", "revoke", "active", "hello"} <= {entry["method"] for entry in asked}
    for entry in asked:
        assert replies(entry["trace"]) == entry["reply"], entry["method"]


@pytest.mark.parametrize("version", golden.GOLDEN_VERSIONS)
def test_no_capture_tells_where_it_was_made(version: str) -> None:
    """Tracebacks name files of a neutral place, in results as well as inside encoded events."""
    traces = [entry["trace"] for entry in golden.load(version, "traces")["entries"]]
    texts = [str(told.get("traceback")) for trace in traces for told in results(trace)]
    texts += [str(told.get("traceback")) for trace in traces for told in events(trace)]
    files = {found for text in texts for found in re.findall(r'File "(/[^"]*)"', text)}
    assert files
    assert not {name for name in files if not name.startswith(("/checkout/", "/python/"))}


def test_masks_keep_what_a_table_fixed() -> None:
    """Fixed ids and far times survive; the same id gets the same number wherever it stands."""
    random = "5473df7d-8655-44a5-a16a-059ecc673c7c"
    text = f"{random} 00000000-0000-4000-8000-000000000001 {random} 2099-01-02T03:04:05+02:00"
    assert mask_text(text) == (
        "<id1> 00000000-0000-4000-8000-000000000001 <id1> 2099-01-02T03:04:05+02:00"
    )
    assert mask_text("2026-11-21T22:09:39.317759+00:00") == "<time +00:00>"
    assert mask_text("2026-11-21T22:09:39.317759") == "<time>"
    assert (
        mask_text('"origin": "gen31262@vm", "pid": 12') == '"origin": "<process>", "pid": <number>'
    )


def test_values_beyond_json_are_decoded() -> None:
    """Table values stand for the Python values they name; a signature needs a factory."""
    table = {"a": [{"$tuple": [1, {"$base64": "/wCA"}]}, {"$repeat": ["x", 3]}], "$odd": 1}
    assert decode(table) == {"a": [(1, b"\xff\x00\x80"), "xxx"], "$odd": 1}
    assert str(decode({"$decimal": "1.10"})) == "1.10"
    with pytest.raises(ValueError, match="signatures are not supported"):
        decode({"$signature": {"task": "t"}})
    assert decode({"$signature": {"task": "t"}}, lambda spec: spec["task"]) == "t"
