"""One task to send: what a caller says about it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


class TaskOptions(TypedDict, total=False):
    """What a call may say beyond its task, arguments, id, queue and priority.

    Names and meanings are those of stock ``send_task``. Times are seconds where they are numbers.
    A signature is a ``Signature`` or its wire form, a dictionary.
    """

    countdown: float | None
    eta: datetime | str | None
    expires: float | datetime | str | None
    serializer: str
    compression: str | None
    headers: Mapping[str, Any] | None
    time_limit: float | None
    soft_time_limit: float | None
    shadow: str | None
    link: Any
    link_error: Any
    chain: list[Any] | None
    chord: Any
    group_id: str | None
    group_index: int | None
    root_id: str | None
    parent_id: str | None
    retries: int
    stamped_headers: Sequence[str] | None
    stamps: Mapping[str, Any] | None
    reply_to: str | None
    origin: str | None
    argsrepr: str | None
    kwargsrepr: str | None
    replaced_task_nesting: int


_KNOWN_OPTIONS = frozenset(TaskOptions.__annotations__)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse misspelt options.

    Raises:
        TypeError: one that is not known.
    """
    unknown = options.keys() - _KNOWN_OPTIONS
    if unknown:
        name = min(unknown)
        near = difflib.get_close_matches(name, _KNOWN_OPTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"send_task() has no option {name!r}{hint}")


class TaskCall(msgspec.Struct):
    """One task to send.

    Attributes:
        name: the task's registered name.
        args: positional arguments, a list or tuple.
        kwargs: keyword arguments.
        task_id: its id; None makes a new one.
        queue: list it goes to.
        priority: 0 to 9, on Redis 0 goes first; None is written as 0.
        ignore_result: whether the worker stores no result; None leaves it to the task.
        options: everything else.
    """

    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    task_id: str | None = None
    queue: str = "celery"
    priority: int | None = None
    ignore_result: bool | None = None
    options: TaskOptions | None = None
