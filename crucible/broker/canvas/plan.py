"""What has to be sent, in which order, to start a chain, a group or a chord.

Nothing is sent here: ``plan`` turns a signature into the messages a stock producer would publish,
and the chord sizes it would set between them. A producer and a worker that continues a chain use
the same plan.

Source: celery ``canvas.py`` ``apply_async`` and ``run`` of each kind (5.7), with the Redis
backend's way of chords (``backends/redis.py`` ``apply_chord`` and ``set_chord_size``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.freeze import (
    Place,
    freeze,
    freeze_group,
    header_group,
    prepare,
    strip_header_chords,
)
from crucible.broker.canvas.signature import (
    Signature,
    add_to_list,
    as_signature,
    clone,
    group,
    merged,
)
from crucible.broker.wire.call import TaskCall, TaskOptions
from crucible.broker.wire.ids import default_reply_to, new_id
from crucible.broker.wire.result_tree import ResultTree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class ChordSize:
    """Set how many parts a chord waits for; goes just before its last header task.

    Attributes:
        group_id: the chord's group.
        size: parts to wait for.
    """

    group_id: str
    size: int


@dataclass(frozen=True, slots=True)
class SavedGroup:
    """Keep the shape of a chord's header that has groups in it, for joining the results.

    Attributes:
        group_id: the chord's group.
        result: Celery's form of the header's result.
    """

    group_id: str
    result: list[Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order, and what the whole will be known by.

    Attributes:
        steps: messages to publish and chord keys to write.
        result: the last task of it, or the group.
    """

    steps: list[TaskCall | ChordSize | SavedGroup]
    result: ResultTree


def plan(
    work: Mapping[str, Any],
    args: Sequence[Any] = (),
    *,
    reply_to: str = "",
    default_queue: str = "celery",
    **options: Any,
) -> Plan:
    """How to start ``work``.

    Args:
        work: a signature, of one's own or out of a message. It is not changed.
        args: arguments in front of its own, such as the result of the task before it.
        reply_to: written into every task; empty is this process's.
        default_queue: where a task goes that names no queue.
        options: execution options over its own, such as ``root_id``, ``parent_id``, ``chain``.

    Raises:
        ValueError: ``work`` is no signature.
        TypeError: callbacks were given for a group.
    """
    planner = _Planner(reply_to or default_reply_to(), default_queue)
    result = planner.apply(as_signature(work), tuple(args), options)
    return Plan(planner.steps, result)


class _Planner:
    def __init__(self, reply_to: str, default_queue: str) -> None:
        self._reply_to = reply_to
        self._default_queue = default_queue
        self.steps: list[TaskCall | ChordSize | SavedGroup] = []

    def apply(self, sig: Signature, args: Sequence[Any], options: Mapping[str, Any]) -> ResultTree:
        if sig.kind == "chain":
            return self._chain(sig, args, {**sig.options, **options})
        if sig.kind == "group":
            return self._group(sig, args, options)
        if sig.kind == "chord":
            return self._chord(sig, args, options)
        if sig.kind == "chunks":
            return self._group(_chunked(sig), args, options)
        return self._task(sig, args, options)

    def _task(self, sig: Signature, args: Sequence[Any], options: Mapping[str, Any]) -> ResultTree:
        given = {name: value for name, value in options.items() if value is not None}
        own_args, kwargs, both = merged(sig, args, {}, given)
        both.setdefault("task_id", new_id())
        both["queue"] = both.get("queue") or both.get("routing_key") or self._default_queue
        self.steps.append(_call(sig["task"], own_args, kwargs, both))
        return ResultTree(both["task_id"])

    def _chain(self, sig: Signature, args: Sequence[Any], options: dict[str, Any]) -> ResultTree:
        if not sig.parts:
            raise ValueError("a chain without tasks")
        place = Place(
            task_id=options.pop("task_id", None),
            group_id=options.pop("group_id", None),
            chord=options.pop("chord", None),
            group_index=options.pop("group_index", None),
            root_id=options.pop("root_id", None),
            parent_id=options.pop("parent_id", None),
        )
        links = _as_list(options.pop("link", None))
        errbacks = _as_list(options.pop("link_error", None))
        own_args = sig["args"] if sig["immutable"] else (*args, *sig["args"])
        steps, nodes = prepare(sig, own_args, place, self._reply_to, link_error=errbacks)
        for callback in links:
            steps[0].options.setdefault("link", [])
            steps[0].options["link"] = [*_as_list(steps[0].options["link"]), callback]
        first = steps.pop()
        outer = options.pop("chain", None)
        result = self.apply(first, (), {**options, "chain": [*(outer or ()), *steps]})
        return nodes[0] if steps else result

    def _group(self, sig: Signature, args: Sequence[Any], options: Mapping[str, Any]) -> ResultTree:
        if options.get("link") is not None or options.get("link_error") is not None:
            raise TypeError("a group takes no callbacks; use a chord, or its tasks'")
        _, _, both = merged(Signature(sig, immutable=True), (), {}, options)
        group_id = both.pop("task_id", None) or new_id()
        both["group_id"] = group_id
        body = both.pop("chord", None)
        both.pop("group_index", None)
        members: list[tuple[Signature, ResultTree]] = []
        self._freeze_members(sig, group_id, both.get("root_id"), members)
        size = 0
        for position, (member, _) in enumerate(members):
            counted_for = body if body is not None else member.options.get("chord")
            size += chord_size(member)
            if counted_for is not None and position == len(members) - 1:
                self.steps.append(ChordSize(group_id, size))
            # The first is of no use to anybody, but a chord's body carries it on the wire.
            self.apply(member, args, {"add_to_parent": False, "chord": counted_for, **both})
        return ResultTree(group_id, children=[node for _, node in members])

    def _freeze_members(
        self,
        sig: Signature,
        group_id: str,
        root_id: str | None,
        members: list[tuple[Signature, ResultTree]],
    ) -> None:
        for index, part in enumerate(sig.parts):
            if part.kind == "group":
                self._freeze_members(part, group_id, root_id, members)
            elif part.kind != "chain" or part.parts:
                member = clone(part)
                place = Place(group_id=group_id, root_id=root_id, group_index=index)
                members.append((member, freeze(member, place, self._reply_to)))

    def _chord(self, sig: Signature, args: Sequence[Any], options: Mapping[str, Any]) -> ResultTree:
        own = dict(sig.options)
        given = dict(options)
        delay: dict[str, Any] = {
            name: given.pop(name, None) or own.get(name) for name in ("countdown", "eta")
        }
        callbacks: dict[str, Any] = {
            name: given.pop(name) for name in ("link", "link_error") if name in given
        }
        body = clone(sig.body, **_for_body(given))
        sig = clone(sig)
        header = header_group(sig, task_id=own.get("task_id") or new_id())
        passed_on: dict[str, Any] = {**own, **given, **callbacks}
        for name in delay:
            passed_on.pop(name, None)
        body_id = passed_on.pop("task_id", None) or new_id()
        group_id = header.options.get("task_id") or new_id()
        root_id = body.options.get("root_id")
        if passed_on:
            _link_to_body(body, passed_on)
            body.options.update(_for_body(passed_on))
        node = freeze(
            body, Place(task_id=body_id, group_id=group_id, root_id=root_id), self._reply_to
        )
        strip_header_chords(body)
        for name in ("chain", "chord"):
            passed_on.pop(name, None)
        header.options["task_id"] = group_id
        place = Place(group_id=group_id, chord=body, root_id=root_id)
        header_node = freeze_group(header, place, self._reply_to)
        if header.parts:
            if any(child.children is not None for child in header_node.children or ()):
                self.steps.append(SavedGroup(group_id, header_node.as_tuple()))
            passed_on.update({name: value for name, value in delay.items() if value})
            passed_on["task_id"] = group_id
            self._group(header, () if sig["immutable"] else args, passed_on)
        else:
            # No part would ever complete it: the body runs now, with no results.
            self.apply(body, ([],), {})
        node.first.parent = header_node
        return node


def _for_body(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a body takes over: its parent is the header task that completes the chord."""
    return {name: value for name, value in options.items() if name != "parent_id"}


def _link_to_body(body: Signature, options: dict[str, Any]) -> None:
    """Move a chord's callbacks to its body: the header must not have them."""
    for callback in _as_list(options.pop("link", None)):
        body.link(clone(as_signature(callback)))
    for errback in _as_list(options.pop("link_error", None)):
        if body.kind == "group":
            body.link_error(errback)
        else:
            add_to_list(body.options, "link_error", as_signature(errback))


def chord_size(sig: Signature) -> int:
    """How many parts of ``sig`` a chord around it waits for."""
    if sig.kind == "group":
        return sum(map(chord_size, sig.parts))
    if sig.kind == "chain":
        # Only the last member that counts at all.
        return next((size for part in reversed(sig.parts) if (size := chord_size(part))), 0)
    if sig.kind == "chord":
        return chord_size(sig.body)
    return 1


def _chunked(sig: Signature) -> Signature:
    """``celery.chunks``: a group of starmaps over parts of the items."""
    task, items, size = (sig["kwargs"][name] for name in ("task", "it", "n"))
    items = list(items)
    parts = [
        Signature(
            task="celery.starmap",
            args=(),
            kwargs={"task": task, "it": items[start : start + size]},
            options={},
            subtask_type="xstarmap",
            immutable=True,
        )
        for start in range(0, len(items), size)
    ]
    return group(parts, **sig.options)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


_CALL_OPTIONS = frozenset(TaskOptions.__annotations__)


def _call(
    task: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]
) -> TaskCall:
    """A message to send, out of a signature's options.

    Unknown ones, which stock leaks into the message's properties, are left out.
    """
    call = TaskCall(
        task,
        args,
        kwargs,
        task_id=options["task_id"],
        queue=options["queue"],
        priority=options.get("priority"),
        ignore_result=options.get("ignore_result"),
    )
    rest: dict[str, Any] = {name: value for name, value in options.items() if name in _CALL_OPTIONS}
    if rest.get("stamped_headers"):
        rest["stamps"] = {name: options.get(name) for name in rest["stamped_headers"]}
    call.options = TaskOptions(**rest)  # type: ignore[typeddict-item]  # names were just checked
    return call
