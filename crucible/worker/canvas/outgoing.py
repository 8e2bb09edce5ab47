"""What tasks send: canvases as messages, each with its place in the tree of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.effects import Effects, Push
from crucible.broker.canvas.plan import ChordSize, SavedGroup, plan
from crucible.broker.canvas.signature import as_signature, clone
from crucible.broker.wire.encode import TaskOptions, encode_call
from crucible.broker.wire.ids import default_reply_to, new_id
from crucible.broker.wire.jsontypes import dumps
from crucible.broker.wire.priority import step_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.broker.claiming.effects_writer import EffectsWriter
    from crucible.broker.wire.decode import Message
    from crucible.broker.wire.encode import TaskCall
    from crucible.broker.wire.result_tree import ResultTree
    from crucible.redis_keys import Keys
    from crucible.worker.registry import TaskRegistry
    from crucible.worker.run import Run


@dataclass(frozen=True, slots=True)
class Origin:
    """The sender of a message.

    Attributes:
        root_id: first task of its tree.
        parent_id: the task that sends.
    """

    root_id: str
    parent_id: str

    @classmethod
    def of(cls, message: Message) -> Origin:
        """The task of this message as a sender."""
        return cls(message.root_id, message.id)


def child_of(node: ResultTree) -> list[Any]:
    """The result tuple a sender keeps of what it started: its first task, or its first group."""
    first = node.first
    children = None if first.children is None else [part.as_tuple() for part in first.children]
    return [[first.id, None], children]


class OutgoingEncoder:
    """Encodes what tasks of this worker send.

    Args:
        registry: tasks whose own options go into the messages, as stock does for tasks it knows.
        keys: key names.
        default_queue: where a task goes that names no queue (``task_default_queue``).
    """

    def __init__(self, registry: TaskRegistry, keys: Keys, default_queue: str = "celery") -> None:
        self._registry = registry
        self._keys = keys
        self._default_queue = default_queue

    def encode(
        self, work: Mapping[str, Any], args: Sequence[Any], origin: Origin, **options: Any
    ) -> tuple[Effects, ResultTree]:
        """The messages that start a signature, and the node of its result.

        Args:
            work: the signature, with ``args`` in front of its own arguments.
            args: such as the result of the task before it.
            origin: whose child it becomes, unless it says otherwise.
            options: execution options over its own.

        Raises:
            ValueError: ``work`` is no signature, or an argument is circular.
            TypeError: an argument is of a kind JSON cannot carry.
        """
        planned = plan(
            work, args, reply_to=default_reply_to(), default_queue=self._default_queue, **options
        )
        effects = Effects()
        for step in planned.steps:
            if isinstance(step, ChordSize):
                effects.sizes.append((step.group_id, step.size))
            elif isinstance(step, SavedGroup):
                effects.groups.append((step.group_id, dumps({"result": step.result}).encode()))
            else:
                effects.pushes.append(self.message(step, origin))
        return effects, planned.result

    def message(self, call: TaskCall, origin: Origin) -> Push:
        """One call as a message; raises what ``encode`` raises."""
        options: dict[str, Any] = dict(call.options or {})
        options["root_id"] = options.get("root_id") or origin.root_id
        options["parent_id"] = options.get("parent_id") or origin.parent_id
        task = self._registry.get(call.name)
        if task is not None:
            if call.ignore_result is None:
                call.ignore_result = task.ignore_result
            options.setdefault("time_limit", task.time_limit)
            options.setdefault("soft_time_limit", task.soft_time_limit)
        call.options = TaskOptions(**options)  # type: ignore[typeddict-item]  # a superset of one
        raw = encode_call(call, call.task_id or new_id())
        return Push(self._keys.step_list(call.queue, step_of(call.priority)), raw)


class TaskSender:
    """Sends what running tasks ask for, at once: it does not wait for their settlement.

    Args:
        encoder: encodes the messages.
        effects: writes them.
    """

    def __init__(self, encoder: OutgoingEncoder, effects: EffectsWriter) -> None:
        self._encoder = encoder
        self._effects = effects

    async def send(
        self, run: Run, work: Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> ResultTree:
        """Start a signature as a child of the running task.

        Raises:
            ValueError: ``work`` is no signature.
            TypeError: an argument is of a kind JSON cannot carry.
            BrokerError: it may or may not have been sent.
        """
        effects, node = self._encoder.encode(work, args, Origin.of(message_of(run)), **options)
        await self._effects.apply(effects)
        run.children.append(child_of(node))
        return node

    async def add_to_chord(self, run: Run, work: Mapping[str, Any]) -> ResultTree:
        """Start a signature as one more part of the chord the running task is part of.

        Raises:
            ValueError: the task is not part of a chord.
            BrokerError: it may or may not have been sent.
        """
        message = message_of(run)
        body = message.embed["chord"]
        if not body or not message.group:
            raise ValueError("the task is not part of a chord")
        sig = clone(as_signature(work))
        sig.set(
            group_id=message.group,
            group_index=message.headers.get("group_index"),
            chord=body,
            root_id=message.root_id,
        )
        effects, node = self._encoder.encode(sig, (), Origin.of(message))
        # The chord counts one more part before the part can be run: same step, in this order.
        added = Effects(added=[message.group])
        added.extend(effects)
        await self._effects.apply(added)
        run.children.append(child_of(node))
        return node


def message_of(run: Run) -> Message:
    """The message of a run that is under way.

    Raises:
        ValueError: it was not decoded yet.
    """
    if run.message is None:
        raise ValueError("a run without a message has no duties")
    return run.message
