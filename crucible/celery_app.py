"""The stock Celery application: ``celery -A crucible.celery_app worker`` (or ``flower``).

It serves the same registry as ``crucible worker``. None of it runs on Crucible's own request
path; it is here so that operators can attach what they know.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

from crucible.evaluation.completion_hooks import CompletionHooks
from crucible.evaluation.tasks import build_registry
from crucible.models import Status
from crucible.settings import Settings, load_settings
from crucible.stock.bridge import Bridge


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for the queues of ``settings``."""
    transport = {
        # The timeout applied is that of whoever scans, so all workers must share it.
        "visibility_timeout": settings.visibility_timeout_s,
        # Queues strictly in the order of -Q; without it stock takes turns.
        "queue_order_strategy": "priority",
        "global_keyprefix": settings.global_keyprefix,
    }
    return {
        "broker_url": settings.celery_broker_url,
        "result_backend": settings.result_url,
        "broker_transport_options": transport,
        "result_expires": settings.result_ttl_s,
        "task_serializer": "json",
        "result_serializer": "json",
        # Never pickle: whoever can write to the queue must not run code in a worker.
        "accept_content": ["json", "msgpack"],
        "result_accept_content": ["json"],
        "task_default_queue": "evaluation",
        # A worker that dies must not take its evaluations with it.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        # Cancelling would store REVOKED, a last state, for evaluations that only lost their link:
        # they run to their end instead, and a repetition finds the result that is there.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A server that restarts must not turn a state that cannot be stored into a failure.
        "result_backend_always_retry": True,
        "broker_connection_retry_on_startup": True,
        "worker_hijack_root_logger": True,
    }


def create_app(settings: Settings) -> Celery:
    """The application, with every task of the platform registered."""
    app = Celery("crucible")
    app.conf.update(configuration(settings))
    registry = build_registry(settings)
    bridge = Bridge(app, registry)
    if isinstance(registry.hooks, CompletionHooks):
        _count_ends(registry.hooks)

    def close(**_: Any) -> None:
        bridge.close()

    # weak=False: the closure has no other owner.
    signals.worker_process_shutdown.connect(close, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    return app


def _count_ends(hooks: CompletionHooks) -> None:
    """Count ends of evaluations as async workers do.

    What is revoked before it starts is told in the worker's main process, which writes no counts.
    """

    def returned(sender: Any, result: Any, **_: Any) -> None:
        hooks.returned(sender.name, result)

    def failed(sender: Any, task_id: str, **_: Any) -> None:
        hooks.ended(sender.name, task_id, Status.FAILED)

    signals.task_success.connect(returned, weak=False)
    signals.task_failure.connect(failed, weak=False)


app = create_app(load_settings())
