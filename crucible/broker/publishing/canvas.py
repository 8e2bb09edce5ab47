"""Sending whole signatures: chains, groups and chords, on top of sending tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.plan import ChordSize, Plan, plan
from crucible.broker.canvas.signature import chain, chord, group
from crucible.broker.results.task_result import GroupResult, TaskResult, group_of, handle_of
from crucible.broker.wire.call import TaskCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crucible.broker.canvas.chord_keys import ChordKeys
    from crucible.broker.results.task_result import Results


class SendsCanvases(ABC):
    """The part of a publisher that sends signatures.

    Args:
        results: makes handles.
        chords: writes the keys of groups and chords.
        reply_to: a UUID, written into messages.

    Attributes:
        results: stored results, and waiting for them.
    """

    def __init__(self, results: Results, chords: ChordKeys, reply_to: str) -> None:
        self.results = results
        self._chords = chords
        self._reply_to = reply_to

    @abstractmethod
    async def send_batch(self, calls: Sequence[TaskCall]) -> list[TaskResult]:
        """Send many calls in their order."""

    async def send_canvas(
        self, work: Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> TaskResult | GroupResult:
        """Start a signature: a task, chain, group or chord.

        Args:
            work: made with ``broker.canvas.signature``, or out of a message.
            args: arguments in front of its own.
            options: execution options over its own, such as ``queue`` or ``link_error``.

        Returns:
            The last task of a chain, the body of a chord, or the group.

        Raises:
            ValueError: ``work`` is no signature.
            BrokerError: some of it could not be sent; what came before was.
        """
        planned = plan(work, args, reply_to=self._reply_to, **options)
        await self.send_plan(planned)
        return handle_of(planned.result, self.results)

    async def send_plan(self, planned: Plan) -> None:
        """Carry out a plan in its order; raises what ``send_canvas`` raises."""
        calls: list[TaskCall] = []
        for step in planned.steps:
            if isinstance(step, TaskCall):
                calls.append(step)
                continue
            await self.send_batch(calls)
            calls = []
            if isinstance(step, ChordSize):
                await self._chords.set_size(step.group_id, step.size)
            else:
                await self._chords.save_group(step.group_id, step.result)
        await self.send_batch(calls)

    async def send_chain(
        self, *parts: Mapping[str, Any] | Iterable[Mapping[str, Any]], **options: Any
    ) -> TaskResult | GroupResult:
        """Start tasks, given one by one or as a list, one after the other.

        The handle is that of the last step.
        """
        return await self.send_canvas(chain(*parts), **options)

    async def send_group(
        self, *parts: Mapping[str, Any] | Iterable[Mapping[str, Any]], **options: Any
    ) -> GroupResult:
        """Start tasks, given one by one or as a list, beside one another."""
        planned = plan(group(*parts), reply_to=self._reply_to, **options)
        await self.send_plan(planned)
        return group_of(planned.result, self.results)

    async def send_chord(
        self, header: Iterable[Mapping[str, Any]], body: Mapping[str, Any], **options: Any
    ) -> TaskResult | GroupResult:
        """Start tasks beside one another, and ``body`` with the list of their results."""
        return await self.send_canvas(chord(header, body), **options)
