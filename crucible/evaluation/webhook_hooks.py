"""Worker hooks that send the deliveries of webhooks when evaluations end.

In async workers the messages go with the settlement, in the step that stores the result and ends
the claim: a worker that is killed has done all of it or, by the next owner of the message, it is
done again with the same ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.wire.retry import attempt_of
from crucible.evaluation.transitions import scoped_of
from crucible.evaluation.webhook_ends import calls_of, end_of, url_in
from crucible.models import Status, Verdict
from crucible.tracing import onward
from crucible.worker.run import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.wire.call import TaskCall
    from crucible.broker.wire.decode import Message
    from crucible.webhooks.planning import End
    from crucible.webhooks.subscriptions import Subscriptions
    from crucible.worker.run import Run

_TURNED_AWAY = {
    TurnedAway.REVOKED: (Status.CANCELLED, Verdict.CANCELLED),
    TurnedAway.TERMINATED: (Status.CANCELLED, Verdict.CANCELLED),
    TurnedAway.EXPIRED: (Status.FAILED, Verdict.EXPIRED),
}


class WebhookHooks:
    """Sends deliveries (see ``worker.hooks.TaskHooks``).

    Args:
        subscriptions: the webhooks there are.
        tasks: names of the tasks that are evaluations.
    """

    def __init__(self, subscriptions: Subscriptions, tasks: Collection[str]) -> None:
        self._subscriptions = subscriptions
        self._tasks = tasks

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """It returned: an evaluation, or a list of them."""
        message = self._evaluation(run)
        if message is not None:
            arguments = (message.args, message.kwargs, message.headers)
            run.follow_ups = self.returned(message.task, *arguments, result)

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """The platform could not run it."""
        message = self._evaluation(run)
        if message is not None:
            arguments = (_kwargs_of(message), message.headers)
            run.follow_ups = self.gave_up(message.task, message.id, *arguments)

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """It was revoked or expired; what goes back into its queue has not ended."""
        message = self._evaluation(run)
        if message is None or why not in _TURNED_AWAY:
            return
        status, verdict = _TURNED_AWAY[why]
        end = end_of(
            scoped_of(message.id),
            status,
            verdict,
            attempt=attempt_of(message.headers),
            url=url_in(_kwargs_of(message)),
        )
        run.follow_ups = calls_of([end], self._subscriptions, onward(message.headers))

    # For both kinds of worker

    def returned(
        self,
        task: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        headers: Mapping[str, Any],
        result: Any,
    ) -> list[TaskCall]:
        """The tasks to send when a task has returned."""
        if task not in self._tasks:
            return []
        urls = _urls_of(args, kwargs)
        results = result if isinstance(result, list) else [result]
        ends = _ends(results, urls, attempt_of(headers))
        return calls_of(ends, self._subscriptions, onward(headers))

    def gave_up(
        self, task: str, task_id: str, kwargs: Mapping[str, Any], headers: Mapping[str, Any]
    ) -> list[TaskCall]:
        """The tasks to send when a task has failed."""
        if task not in self._tasks:
            return []
        end = end_of(
            scoped_of(task_id),
            Status.FAILED,
            Verdict.INTERNAL_ERROR,
            attempt=attempt_of(headers),
            url=url_in(kwargs),
        )
        return calls_of([end], self._subscriptions, onward(headers))

    def _evaluation(self, run: Run) -> Message | None:
        message = run.message
        return message if message is not None and message.task in self._tasks else None

    # Of no interest

    def received(self, run: Run) -> None:
        """Not an end."""

    def started(self, run: Run) -> None:
        """Not an end."""

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Not an end."""

    def updated(self, message: Message, state: str, meta: Any) -> None:
        """Not an end."""

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """The messages went with the settlement."""


def _kwargs_of(message: Message) -> Mapping[str, Any]:
    """The keyword arguments; none of a message whose body cannot be read."""
    return {} if message.content is None else message.content[1]


def _urls_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, str | None]:
    """``webhook_url`` by evaluation; under the empty id that of all that have none of their own."""
    urls = {"": url_in(kwargs)}
    several = kwargs.get("evaluations", args[0] if args else None)
    for one in several if isinstance(several, list) else ():
        if isinstance(one, dict) and (url := url_in(one)):
            urls[str(one.get("eval_id"))] = url
    return urls


def _ends(
    results: Sequence[Any], urls: Mapping[str, str | None], attempt: int
) -> Iterator[End | None]:
    for one in results:
        if isinstance(one, dict) and one.get("status") and one.get("eval_id"):
            eval_id = str(one["eval_id"])
            url = urls.get(eval_id, urls[""])
            yield end_of(eval_id, one["status"], one.get("verdict"), attempt=attempt, url=url)
