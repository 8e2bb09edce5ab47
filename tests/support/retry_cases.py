"""What tasks ask of ``retry``, and the errors they raise, the same for stock's tasks and ours."""

from __future__ import annotations

from typing import Any

#: A queue that nobody serves, so that the next try stays there to be looked at.
PARKED = "parked"

#: Arguments of ``retry`` beside the queue, by name.
RETRIES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "other args": {"args": [5, 6]},
    "args in the place of kwargs": {"args": ["args in the place of kwargs", 7, 8]},
    "kwargs in the place of args": {"kwargs": {"x": 9}},
    "other args and kwargs": {"args": ["as it is"], "kwargs": {"y": [1, {"z": None}]}},
    "expires": {"expires": 3600},
    "a hard limit": {"time_limit": 90},
    "both limits": {"time_limit": 90.5, "soft_time_limit": 30},
    "shadow": {"shadow": "another name"},
    "headers": {"headers": {"mine": [1, "two"]}},
}

#: Properties of a message that stock's request has under the same name.
REQUEST = (
    *("id", "args", "kwargs", "retries", "root_id", "parent_id", "group", "group_index"),
    *("delivery_info", "properties", "correlation_id", "reply_to", "origin", "eta", "expires"),
    *("timelimit", "time_limit", "soft_time_limit", "shadow", "ignore_result", "stamps"),
    *("stamped_headers", "replaced_task_nesting", "callbacks", "errbacks", "chain", "chord"),
)

#: How the tasks that are tried again by themselves are defined.
AUTORETRY: dict[str, Any] = {
    "autoretry_for": (LookupError, OSError),
    "dont_autoretry_for": (FileNotFoundError,),
    "retry_kwargs": {"max_retries": 2, "countdown": 0},
}


#: Makes what a task raises, given how often it was tried before.
ERRORS: dict[str, type[Exception]] = {
    "subclass": KeyError,
    "second": OSError,
    "excluded": FileNotFoundError,
    "other": ZeroDivisionError,
}
