"""Chains, groups and chords against what stock producers published for the same canvas."""

from __future__ import annotations

import re
from typing import Any

import pytest
from stock_rig import golden, values
from stock_rig.mask import mask_message

from crucible.broker.canvas.plan import ChordSize, SavedGroup, plan
from crucible.broker.canvas.signature import Signature, chain, chord, group, signature
from crucible.broker.wire.encode import TaskCall, encode_call

CALLS = {call["call"]: call for call in golden.calls() if "canvas" in call}
ENTRIES = [
    entry
    for entry in golden.load("5.7.0", "publishes")["entries"]
    if entry["via"] == "canvas" and "error" not in entry
]


def _signature(spec: dict[str, Any]) -> Signature:
    return signature(
        spec["task"],
        spec.get("args", ()),
        spec.get("kwargs"),
        immutable=spec.get("immutable", False),
        **spec.get("options", {}),
    )


def _canvas(spec: dict[str, Any]) -> Any:
    ((kind, inner),) = spec.items()
    if kind == "chain":
        return chain(*map(_canvas, inner))
    if kind == "group":
        return group(map(_canvas, inner))
    if kind == "chord":
        return chord(map(_canvas, inner["header"]), _canvas(inner["body"]))
    if kind in ("map", "starmap", "chunks"):
        kwargs = {"task": signature(inner["task"]), "it": inner["items"]}
        made = signature(f"celery.{kind}", (), kwargs, immutable=True)
        if kind == "chunks":
            made["kwargs"]["n"] = inner["size"]
        made["subtask_type"] = kind if kind == "chunks" else f"x{kind}"
        return made
    return values.decode(spec, _signature)


def _masked(raw: str | bytes) -> str:
    """Whether a result is kept stands in a stock producer's own registry; not compared."""
    text = raw if isinstance(raw, str) else raw.decode()
    text = re.sub(r'"ignore_result": (null|false)', '"ignore_result": null', text)
    return mask_message(text)


def _written(steps: list[TaskCall | ChordSize | SavedGroup]) -> list[list[str]]:
    """The commands a stock producer sends for a plan's chord keys, group ids masked."""
    found = []
    for step in steps:
        if isinstance(step, ChordSize):
            found += [["DEL", ".c"], ["SET", ".s", str(step.size), "EX", "86400"]]
    return found


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["call"] for entry in ENTRIES])
def test_canvas_is_started_as_stock_starts_it(entry: dict[str, Any]) -> None:
    """The same canvas gives the same messages in the same order, and the same chord keys."""
    call = CALLS[entry["call"]]
    work = _canvas(call["canvas"])
    for stamps in call.get("stamps", []):
        work.stamp(**stamps)
    before = repr(work)
    planned = plan(work, **values.decode(call.get("options", {}), _signature))
    assert repr(work) == before
    ours = [
        encode_call(step, step.task_id or "")
        for step in planned.steps
        if isinstance(step, TaskCall)
    ]
    theirs = [pushed["message"] for pushed in entry["pushed"]]
    assert [_masked(raw) for raw in ours] == [_masked(raw) for raw in theirs]
    theirs_written = [
        [words[0], words[1][-2:], *words[2:]]
        for words in entry["writes"]
        if words[0] in ("SET", "DEL") and "taskset" in words[1]
    ]
    assert _written(planned.steps) == theirs_written
