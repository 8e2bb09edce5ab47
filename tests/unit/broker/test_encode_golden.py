"""Messages against those stock producers wrote, byte for byte once ids are masked."""

from __future__ import annotations

from typing import Any

import pytest
from stock_rig import golden, values
from stock_rig.mask import mask_message, masked_structure

from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import encode_task

CALLS = {call["call"]: call for call in golden.calls() if "canvas" not in call}
ENTRIES = [
    (version, entry)
    for version in golden.GOLDEN_VERSIONS
    for entry in golden.load(version, "publishes")["entries"]
    if entry["via"] == "send_task" and "error" not in entry
]
#: Before 5.7 a cut repr was closed in another way; Crucible cuts as 5.7 does.
CUT_REPRS = {
    "long_string",
    "long_string_unicode",
    "compression_zlib",
    "compression_bzip2",
    "compression_lzma",
}
#: 5.7 looks a task's own limits up where the producer has the task registered; we have names only.
REGISTERED_OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("5.7.0", "task_with_soft_limit"): {"soft_time_limit": 0.3},
}


def _signature(spec: dict[str, Any]) -> dict[str, Any]:
    """A signature's wire form, as stock makes it of the same words."""
    return {
        "task": spec["task"],
        "args": spec.get("args", []),
        "kwargs": spec.get("kwargs", {}),
        "options": spec.get("options", {}),
        "subtask_type": None,
        "immutable": spec.get("immutable", False),
    }


@pytest.mark.parametrize(
    ("version", "entry"), ENTRIES, ids=[f"{version}-{e['call']}" for version, e in ENTRIES]
)
def test_call_is_written_as_stock_writes_it(version: str, entry: dict[str, Any]) -> None:
    """Every call of the table gives the bytes that stock ``send_task`` put into the list."""
    call = CALLS[entry["call"]]
    (pushed,) = entry["pushed"]
    theirs = pushed["message"]
    options = values.decode(call.get("options", {}), _signature)
    options.update(REGISTERED_OPTIONS.get((version, call["call"]), {}))
    # What 5.3.6 writes where the caller says nothing; 5.7 writes null.
    ignore_result = options.pop("ignore_result", False if version == "5.3.6" else None)
    ours = encode_task(
        call["task"],
        values.decode(call.get("args", []), _signature),
        values.decode(call.get("kwargs", {}), _signature),
        task_id=options.pop("task_id", decode(theirs.encode()).id),
        queue=options.pop("queue", "celery"),
        priority=options.pop("priority", None),
        ignore_result=ignore_result,
        options=options,
    )
    if version == "5.3.6" and call["call"] in CUT_REPRS:
        mine, stock = masked_structure(ours), masked_structure(theirs)
        assert mine["headers"].pop("argsrepr") != stock["headers"].pop("argsrepr")
        assert mine == stock
    else:
        assert mask_message(ours) == mask_message(theirs)


@pytest.mark.parametrize(
    ("version", "entry"), ENTRIES, ids=[f"{version}-{e['call']}" for version, e in ENTRIES]
)
def test_stock_message_is_read(version: str, entry: dict[str, Any]) -> None:
    """What stock wrote is decoded to the arguments the call was made with."""
    call = CALLS[entry["call"]]
    message = decode(entry["pushed"][0]["message"].encode())
    assert message.task == call["task"]
    assert message.args == _plain(values.decode(call.get("args", []), _signature))
    assert message.kwargs == _plain(values.decode(call.get("kwargs", {}), _signature))


def _plain(value: Any) -> Any:
    """Tuples become lists on the wire."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
