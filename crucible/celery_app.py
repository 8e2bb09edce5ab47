"""The stock Celery application: ``celery -A crucible.celery_app worker`` (or ``flower``).

It serves the same registry as ``crucible worker``, so that operators can attach stock workers and
Flower. None of it runs on Crucible's own request path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery, signals

from crucible.evaluation.completion_hooks import CompletionHooks
from crucible.evaluation.end_report import report_call
from crucible.evaluation.event_hooks import EventHooks, delivery_of
from crucible.evaluation.schedule import QUEUE, TASKS
from crucible.evaluation.tasks import EVALUATING
from crucible.evaluation.webhook_hooks import WebhookHooks
from crucible.models import Status
from crucible.platform_tasks import build_registry
from crucible.settings import Settings, load_settings
from crucible.stock.bridge import Bridge
from crucible.stock.request import hard_limit_reached
from crucible.stock.urls import celery_tls, celery_url
from crucible.telemetry.traces import start_tracing

if TYPE_CHECKING:
    from crucible.evaluation.transitions import Delivery
    from crucible.telemetry.tracing.tasks import StockSpans

#: How Celery tries to send a report while the queue server is away: for some ten seconds, in which
#: a main process could do nothing else either. Its default is half a second.
_REPORT_RETRIES = {
    "max_retries": 14, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1.0,
}  # fmt: skip


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for the queues of ``settings``."""
    broker_url, broker_options = celery_url(settings.celery_broker_url)
    result_url, result_options = celery_url(settings.result_url)
    transport = {
        **broker_options,
        # The sweeping worker applies its own timeout, so all workers must have the same.
        "visibility_timeout": settings.visibility_timeout_s,
        # Queues strictly in the order of -Q; stock's default is round robin.
        "queue_order_strategy": "priority",
        "global_keyprefix": settings.global_keyprefix,
    }
    return {
        "broker_url": broker_url,
        "result_backend": result_url,
        "broker_use_ssl": celery_tls(settings.celery_broker_url),
        "redis_backend_use_ssl": celery_tls(settings.result_url),
        "broker_transport_options": transport,
        "result_backend_transport_options": {
            **result_options,
            "global_keyprefix": settings.result_keyprefix,
        },
        "result_expires": settings.result_ttl_s,
        "result_extended": settings.result_extended,
        "worker_send_task_events": settings.events,
        "task_serializer": "json",
        "result_serializer": "json",
        # Never pickle: write access to the queue must not mean running code in a worker.
        "accept_content": ["json", "msgpack"],
        "result_accept_content": ["json"],
        "task_default_queue": settings.default_queue or "evaluation",
        # An evaluation whose worker dies must be redelivered.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        # Cancelling on connection loss would store REVOKED, a terminal state, for evaluations that
        # could still finish. They run on instead, and a redelivery finds the stored result.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A result server that restarts must not fail the task whose state could not be stored.
        "result_backend_always_retry": True,
        "broker_connection_retry_on_startup": True,
        "worker_hijack_root_logger": True,
        "beat_schedule": {
            task: {
                "task": task,
                "schedule": interval_s,
                "options": {"queue": QUEUE, "expires": interval_s, "ignore_result": True},
            }
            for task, interval_s in TASKS.items()
        },
    }


def create_app(settings: Settings) -> Celery:
    """The application, with every platform task registered."""
    app = Celery("crucible")
    app.conf.update(configuration(settings))
    if settings.celery_broker_url.startswith("sentinel://"):
        # Celery reads the variable CELERY_BROKER_URL before its broker_url, and these before both.
        app.conf.broker_read_url = app.conf.broker_write_url = celery_url(
            settings.celery_broker_url
        )[0]
    if settings.result_url.startswith("sentinel://"):
        # The same with CELERY_RESULT_BACKEND.
        app.backend_cls = celery_url(settings.result_url)[0]
    tracing = start_tracing(settings, "crucible-stock-worker")
    registry = build_registry(settings, () if tracing is None else (tracing.sandboxes,))
    bridge = Bridge(app, registry)
    for hooks in registry.all_hooks():
        if isinstance(hooks, CompletionHooks):
            _count_ends(bridge, hooks)
        elif isinstance(hooks, EventHooks):
            _write_events(bridge, hooks)
        elif isinstance(hooks, WebhookHooks):
            _send_webhooks(app, bridge, hooks)
    _report_ends(app, bridge)

    if tracing is not None:
        _trace(tracing.stock)

    def close(**_: Any) -> None:
        bridge.close()
        if tracing is not None:
            tracing.close()

    # weak=False: nothing else holds a reference to the closure.
    signals.worker_process_shutdown.connect(close, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    return app


def _count_ends(bridge: Bridge, hooks: CompletionHooks) -> None:
    """Count completions of evaluations as async workers do."""

    def returned(sender: Any, result: Any, **_: Any) -> None:
        hooks.returned(sender.name, result)

    def failed(sender: Any, task_id: str, **_: Any) -> None:
        if bridge.is_open:
            hooks.ended(sender.name, task_id, Status.FAILED)

    signals.task_success.connect(returned, weak=False)
    signals.task_failure.connect(failed, weak=False)


def _write_events(bridge: Bridge, hooks: EventHooks) -> None:
    """Write events of evaluations as async workers do; Celery has stored results by then.

    That an evaluation runs is written by its task.
    """

    def returned(sender: Any, result: Any, **_: Any) -> None:
        hooks.returned(sender.name, _delivery(sender.request), result)

    def failed(sender: Any, exception: BaseException, **_: Any) -> None:
        if bridge.is_open:
            hooks.gave_up(sender.name, _delivery(sender.request), exception)

    def retried(sender: Any, request: Any, reason: Any, **_: Any) -> None:
        hooks.delayed(sender.name, _delivery(request), reason)

    signals.task_success.connect(returned, weak=False)
    signals.task_failure.connect(failed, weak=False)
    signals.task_retry.connect(retried, weak=False)


def _send_webhooks(app: Celery, bridge: Bridge, hooks: WebhookHooks) -> None:
    """Send deliveries as async workers do, before the message of the evaluation is acknowledged.

    A worker that is killed before it has sent them runs the evaluation again.
    """

    def returned(sender: Any, result: Any, **_: Any) -> None:
        request = sender.request
        arguments = (request.args or (), request.kwargs or {}, request.headers or {})
        for call in hooks.returned(sender.name, *arguments, result):
            _send(app, call)

    def failed(sender: Any, task_id: str, **_: Any) -> None:
        if not bridge.is_open:
            return
        request = sender.request
        arguments = (request.kwargs or {}, request.headers or {})
        for call in hooks.gave_up(sender.name, task_id, *arguments):
            _send(app, call)

    signals.task_success.connect(returned, weak=False)
    signals.task_failure.connect(failed, weak=False)


def _report_ends(app: Celery, bridge: Bridge) -> None:
    """Have a worker report what ends where no hooks are open: in the main process of a pool.

    It is there that a child is killed, by a revocation, a hard time limit or the kernel, and that a
    revoked message is dropped. Celery has stored the result by then.
    """

    def failed(sender: Any, **_: Any) -> None:
        # Celery names no message where a hard time limit was reached.
        if not bridge.is_open and sender.request.id is not None:
            report(sender, sender.request)

    def report(sender: Any, request: Any, **_: Any) -> None:
        if sender.name not in EVALUATING:
            return
        call = report_call(
            request.id,
            request.kwargs or {},
            request.headers or {},
            queue=_queue_of(request),
            worker=request.hostname,
        )
        if call is not None:
            _send(app, call, retry_policy=_REPORT_RETRIES)

    signals.task_revoked.connect(report, weak=False)
    hard_limit_reached.connect(report, weak=False)
    signals.task_failure.connect(failed, weak=False)


def _send(app: Celery, call: Any, **options: Any) -> None:
    app.send_task(
        call.name,
        kwargs=dict(call.kwargs or {}),
        task_id=call.task_id,
        queue=call.queue,
        ignore_result=True,
        **(call.options or {}),
        **options,
    )


def _trace(spans: StockSpans) -> None:
    """Record tasks as async workers do."""

    def started(task: Any, **_: Any) -> None:
        spans.started(task.request, task.name)

    def ended(task_id: str, retval: Any, state: str | None, **_: Any) -> None:
        spans.ended(task_id, state, retval)

    signals.task_prerun.connect(started, weak=False)
    signals.task_postrun.connect(ended, weak=False)


def _delivery(request: Any) -> Delivery:
    return delivery_of(
        request.id,
        request.headers or {},
        queue=_queue_of(request),
        worker=request.hostname,
        retries=request.retries,
    )


def _queue_of(request: Any) -> str:
    return str((request.delivery_info or {}).get("routing_key") or "")


app = create_app(load_settings())
