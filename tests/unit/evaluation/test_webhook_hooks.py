"""Which deliveries a worker sends with the settlement of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crucible.broker.claiming.claims import Claim
from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import encode_task
from crucible.evaluation.webhook_hooks import WebhookHooks
from crucible.webhooks.registration import Registration
from crucible.webhooks.subscriptions import Subscriptions
from crucible.worker.run import Run, TurnedAway

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://own.example/"
RESULT = {"eval_id": "acme:a", "status": "completed", "verdict": "ok"}


def hooks_of(*tenants: str) -> WebhookHooks:
    """Hooks where these tenants have a webhook each."""
    subscriptions = Subscriptions()
    subscriptions.adopt(
        Registration(tenant=tenant, id="wh_1", url="https://x.example/", secrets=(), created_ms=0)
        for tenant in tenants
    )
    return WebhookHooks(subscriptions, ("eval", "several"))


def run_of(task: str = "eval", *args: Any, **kwargs: Any) -> Run:
    """A run whose message was decoded."""
    raw = encode_task(task, args, kwargs=kwargs, task_id="eval-acme:a", queue="batch")
    return Run(Claim("field", "batch", 0, raw), message=decode(raw), started_at=5.0)


def sent(run: Run) -> list[tuple[str, str, str | None]]:
    """Webhook, status and verdict of each delivery."""
    deliveries = [dict(call.kwargs or {})["delivery"] for call in run.follow_ups]
    return [(one["webhook"], one["end"]["status"], one["end"]["verdict"]) for one in deliveries]


ENDS: dict[tuple[str, str], Callable[[WebhookHooks, Run], None]] = {
    ("completed", "ok"): lambda hooks, run: hooks.succeeded(run, RESULT, 0.1),
    ("failed", "internal_error"): lambda hooks, run: hooks.failed(run, ValueError("no"), None),
    ("cancelled", "cancelled"): lambda hooks, run: hooks.turned_away(run, TurnedAway.TERMINATED),
    ("failed", "expired"): lambda hooks, run: hooks.turned_away(run, TurnedAway.EXPIRED),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_is_delivered(end: tuple[str, str]) -> None:
    """To the tenant's webhook and to the submission's own receiver."""
    run = run_of(webhook_url=URL)
    ENDS[end](hooks_of("acme", "other"), run)
    assert sent(run) == [("wh_1", *end), ("default", *end)]
    again = run_of(webhook_url=URL)
    ENDS[end](hooks_of("acme"), again)
    assert [call.task_id for call in again.follow_ups] == [call.task_id for call in run.follow_ups]


def test_nothing_is_sent_for_what_has_not_ended() -> None:
    """Nor for other tasks, nor where nobody has a webhook."""
    hooks = hooks_of("acme")
    requeued, other, nobody = run_of(), run_of("proj.add"), run_of()
    hooks.turned_away(requeued, TurnedAway.REQUEUED)
    hooks.retried(requeued, ValueError("later"), None)
    hooks.succeeded(other, RESULT, 0.1)
    hooks_of("other").succeeded(nobody, RESULT, 0.1)
    assert sent(requeued) == sent(other) == sent(nobody) == []


def test_each_evaluation_of_a_batch_is_an_end() -> None:
    """With a receiver of its own, or the one of all."""
    run = run_of(
        "several", [{"eval_id": "b1", "webhook_url": URL}, {"eval_id": "b2"}], webhook_url=URL + "2"
    )
    results = [{**RESULT, "eval_id": eval_id} for eval_id in ("b1", "b2")]
    hooks_of("acme").succeeded(run, results, 0.1)
    ends = [dict(call.kwargs or {})["delivery"] for call in run.follow_ups]
    assert [(one["end"]["eval_id"], one["url"]) for one in ends] == [("b1", URL), ("b2", URL + "2")]
