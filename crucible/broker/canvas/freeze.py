"""Giving ids to everything a canvas will run, before any of it is sent.

Source: celery ``canvas.py`` ``freeze`` of each kind and ``_chain.prepare_steps`` (5.7). The order
in which options are set is the order they have on the wire.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.signature import Signature, chord, clone
from crucible.broker.wire.ids import new_id
from crucible.broker.wire.result_tree import ResultTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(slots=True, kw_only=True)
class Place:
    """Where in a canvas a part stands.

    Attributes:
        task_id: id of a task, or of the last task of a chain, unless it has one.
        group_id: group or chord the part's end counts for.
        chord: body of that chord.
        group_index: position in it.
        root_id: first task of all.
        parent_id: task that sends the part.
    """

    task_id: str | None = None
    group_id: str | None = None
    chord: Signature | None = None
    group_index: int | None = None
    root_id: str | None = None
    parent_id: str | None = None


def freeze(sig: Signature, place: Place, reply_to: str) -> ResultTree:
    """Give ``sig`` and all in it their ids, in place."""
    if sig.kind == "chain":
        _, nodes = prepare(sig, (), place, reply_to, copy=False)
        sig.options["task_id"] = nodes[0].id
        return nodes[0]
    if sig.kind == "group":
        return freeze_group(sig, place, reply_to)
    if sig.kind == "chord":
        return _freeze_chord(sig, place, reply_to)
    return _freeze_task(sig, place, reply_to)


def _freeze_task(sig: Signature, place: Place, reply_to: str) -> ResultTree:
    options = sig.options
    if "task_id" not in options:
        options["task_id"] = place.task_id or new_id()
    if place.root_id:
        options["root_id"] = place.root_id
    if place.parent_id:
        options["parent_id"] = place.parent_id
    options.setdefault("reply_to", reply_to)
    if place.group_id:
        options.setdefault("group_id", place.group_id)
    if place.chord:
        options["chord"] = place.chord
    if place.group_index is not None:
        options["group_index"] = place.group_index
    return ResultTree(options["task_id"])


def freeze_group(sig: Signature, place: Place, reply_to: str) -> ResultTree:
    """Flatten a group's members and give them their ids; they count for ``place``'s group."""
    options = sig.options
    if "task_id" not in options:
        options["task_id"] = new_id()
    if place.group_id:
        options["group_id"] = place.group_id
    if place.chord:
        options["chord"] = place.chord
    if place.group_index is not None:
        options["group_index"] = place.group_index
    root_id = options.setdefault("root_id", place.root_id)
    parent_id = options.setdefault("parent_id", place.parent_id)
    members: list[Signature] = []
    nodes: list[ResultTree] = []
    for part in _flat(sig):
        member = clone(part)
        inside = Place(
            group_id=place.group_id,
            chord=place.chord,
            group_index=len(members),
            root_id=root_id,
            parent_id=parent_id,
        )
        members.append(member)
        nodes.append(freeze(member, inside, reply_to))
    sig["kwargs"]["tasks"] = members
    return ResultTree(options["task_id"], children=nodes)


def _flat(sig: Signature) -> list[Signature]:
    """A group's members, those of groups in it included; a chain without tasks is none.

    The members of an inner group come last first, as stock has them.
    """
    found: list[Signature] = []
    waiting = deque(sig.parts)
    while waiting:
        part = waiting.popleft()
        if part.kind == "group":
            waiting.extendleft(part.parts)
        elif part.kind != "chain" or part.parts:
            found.append(part)
    return found


def _freeze_chord(sig: Signature, place: Place, reply_to: str) -> ResultTree:
    header = header_group(sig)
    inside = Place(chord=sig.body, root_id=place.root_id, parent_id=place.parent_id)
    header_node = freeze_group(header, inside, reply_to)
    sig.options["task_id"] = header_node.id
    after = Place(
        task_id=place.task_id,
        root_id=place.root_id,
        chord=place.chord,
        group_id=place.group_id,
        group_index=place.group_index,
    )
    node = freeze(sig.body, after, reply_to)
    node.first.parent = header_node
    return node


def header_group(sig: Signature, **options: Any) -> Signature:
    """A chord's header as a group, made one in place if it is a list."""
    header = sig["kwargs"]["header"]
    if not isinstance(header, Signature):
        header = sig["kwargs"]["header"] = Signature(
            task="celery.group",
            args=(),
            kwargs={"tasks": header},
            options=options,
            subtask_type="group",
            immutable=False,
        )
    return header


def prepare(
    sig: Signature,
    args: Sequence[Any],
    place: Place,
    reply_to: str,
    *,
    link_error: Sequence[Any] = (),
    copy: bool = True,
) -> tuple[list[Signature], list[ResultTree]]:
    """A chain's steps, last first as messages carry them, and their nodes.

    Nested chains are spliced in, a group before a task becomes a chord, a chord whose body is a
    chain is split, so that its header does not carry the rest of the chain once a member.

    Args:
        sig: the chain.
        args: for its first task, in front of its own.
        place: where the chain stands; its last task counts there.
        reply_to: written into every task.
        link_error: added to every step.
        copy: leave ``sig`` as it is.
    """
    steps: list[Signature] = []
    nodes: list[ResultTree] = []
    for step in _steps_backwards(sig, args, copy=copy):
        if step.kind == "group" and steps:
            step = _upgraded(step, steps, nodes, place.root_id)  # noqa: PLW2901 - the same step
        node = freeze(step, Place(root_id=place.root_id) if steps else place, reply_to)
        if nodes and nodes[-1].first is not node.first:
            nodes[-1].first.parent = node
        for errback in link_error:
            step.link_error(errback)
        steps.append(step)
        nodes.append(node)
    if copy:
        for step in steps:
            strip_header_chords(step)
    return steps, nodes


def _steps_backwards(sig: Signature, args: Sequence[Any], *, copy: bool) -> Iterator[Signature]:
    """A chain's steps from the last to the first, spliced and split."""
    waiting = _with_real_head(deque(sig.parts))
    some = False
    while waiting:
        step = _unrolled(waiting.pop())
        if step.kind == "group" and not step.parts and (waiting or some):
            continue
        if copy and step.kind == "chord" and _led_by_task(step.body):
            waiting.extend(_split(step))
            continue
        first = not waiting
        if copy:
            step = clone(step, args if first else ())
        elif first:
            step["args"] = (*args, *step["args"])
        if step.kind == "chain":
            waiting.extend(step.parts)
            continue
        some = True
        yield step


def _with_real_head(waiting: deque[Signature]) -> deque[Signature]:
    """Splice nested chains at the head and drop empty groups there.

    The first real task is the one that takes the arguments.
    """
    dropped = None
    while waiting:
        head = waiting[0] = _unrolled(waiting[0])
        if head.kind == "chain":
            waiting.popleft()
            waiting.extendleft(reversed(head.parts))
        elif head.kind == "group" and not head.parts and len(waiting) > 1:
            dropped = waiting.popleft()
        else:
            break
    if dropped is not None and not waiting:
        waiting.append(dropped)
    return waiting


def _unrolled(sig: Signature) -> Signature:
    """A group of one is its member."""
    return sig.parts[0] if sig.kind == "group" and len(sig.parts) == 1 else sig


def _led_by_task(body: Signature) -> bool:
    return body.kind == "chain" and bool(body.parts) and body.parts[0].kind != "group"


_OF_THE_CHAIN = frozenset(
    {"chord", "group_id", "group_index", "link", "link_error", "parent_id", "root_id", "task_id"}
)


def _split(step: Signature) -> list[Signature]:
    """A chord with a chain as body: the chord with the chain's first task, then the rest."""
    step = clone(step)
    body = step.body
    tasks = [clone(part) for part in body.parts]
    for callback in body.options.get("link") or ():
        tasks[-1].link(callback)
    for errback in body.options.get("link_error") or ():
        for task in tasks:
            task.link_error(errback)
    passed_on = {k: v for k, v in body.options.items() if k not in _OF_THE_CHAIN}
    step["kwargs"]["body"] = clone(tasks[0], **passed_on)
    return [step, *tasks[1:]]


def _upgraded(
    step: Signature, steps: list[Signature], nodes: list[ResultTree], root_id: str | None
) -> Signature:
    """A group before a task: a chord with that task, which is taken off the steps, as body."""
    body = steps.pop()
    body_node = nodes.pop()
    if nodes:
        # What follows was lined up behind the body; it comes behind the chord instead.
        after = nodes[-1]
        while after.parent is not None and after.parent is not body_node:
            after = after.parent
        after.parent = None
    # Where the body is not one task, stock has no single id to name the chord by.
    named = {} if body.kind in ("group", "chord") else {"task_id": body_node.id}
    return chord(step, body, **named, root_id=root_id)


def strip_header_chords(sig: Signature) -> None:
    """Take the body off the header's tasks: a waiting chord has it once, sending puts it back."""
    if sig.kind == "chord":
        header = header_group(sig)
        _strip(header)
        strip_header_chords(header)
        strip_header_chords(sig.body)
    elif sig.kind in ("group", "chain"):
        for part in sig.parts:
            strip_header_chords(part)


def _strip(sig: Signature) -> None:
    sig.options.pop("chord", None)
    if sig.kind == "group":
        for part in sig.parts:
            _strip(part)
    elif sig.kind == "chain" and sig.parts:
        _strip(sig.parts[-1])
    elif sig.kind == "chord":
        _strip(sig.body)
