"""A signature that takes the place of a running task.

Source: celery 5.7 ``app/task.py`` ``Task.replace``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.freeze import Place, freeze
from crucible.broker.canvas.signature import (
    Signature,
    add_to_list,
    as_signature,
    chord,
    clone,
    signature,
)
from crucible.broker.wire.ids import default_reply_to
from crucible.worker.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.broker.wire.decode import Message


def replacement(message: Message, work: Mapping[str, Any]) -> tuple[Signature, dict[str, Any]]:
    """The signature to start, and the options to start it with.

    It runs under the task's id, with the callbacks, the chord and the rest of the chain the task
    had.

    Raises:
        ImproperlyConfigured: ``work`` is part of a chord, or an empty chain.
        ValueError: it is no signature.
    """
    sig = clone(as_signature(work))
    if "chord" in sig.options:
        raise ImproperlyConfigured("A signature replacing a task must not be part of a chord")
    if sig.kind == "chain" and not sig.parts:
        raise ImproperlyConfigured("Cannot replace with an empty chain")
    sig = _ending_in_a_task(sig)
    embed = message.embed
    last = sig["kwargs"]["tasks"][-1] if sig.kind == "chain" else sig
    for callback in sig.options.pop("link", ()) if last is not sig else ():
        add_to_list(last.options, "link", callback)
    for callback in embed["callbacks"] or ():
        last.link(as_signature(callback))
    for errback in embed["errbacks"] or ():
        sig.link_error(as_signature(errback))
    freeze(sig, Place(task_id=message.id), default_reply_to())
    nesting = int(message.headers.get("replaced_task_nesting") or 0) + 1
    options = {
        "chord": embed["chord"],
        "group_id": message.group,
        "group_index": message.headers.get("group_index"),
        "root_id": message.root_id,
        "replaced_task_nesting": nesting,
    }
    sig.set(**{name: value for name, value in options.items() if value is not None})
    if sig.kind == "chain":
        for part in sig.parts:
            part.set(replaced_task_nesting=nesting)
    rest = [as_signature(step) for step in embed["chain"] or ()]
    for step in rest:
        step.set(replaced_task_nesting=nesting)
    return sig, {"chain": rest} if rest else {}


def _ending_in_a_task(sig: Signature) -> Signature:
    """A group becomes a chord, so that what follows has one task to follow."""
    if sig.kind == "group":
        return chord(sig, _accumulate())
    if sig.kind == "chain" and sig.parts[-1].kind == "group":
        tasks: list[Any] = sig["kwargs"]["tasks"]
        tasks[-1] = chord(tasks[-1], _accumulate())
    return sig


def _accumulate() -> Signature:
    return signature("celery.accumulate", kwargs={"index": 0})
