"""Refuses settings that are invalid or contradict each other, before anything starts."""

from __future__ import annotations

import ipaddress
import math
from typing import TYPE_CHECKING

from crucible.environments import served_environments
from crucible.errors import SettingsError
from crucible.settings.fields import env_name
from crucible.settings.tiers import tiers_of
from crucible.settings.urls import (
    ENGINE_SCHEMES,
    EXECUTOR_SCHEMES,
    HISTORY_SCHEMES,
    LEGACY_SCHEMES,
    MODEL_SCHEMES,
    OBJECT_SCHEMES,
    OTLP_SCHEMES,
    REDIS_SCHEMES,
    fault_of,
    mask_url,
)

if TYPE_CHECKING:
    from crucible.settings.fields import Settings


def check(settings: Settings) -> None:
    """Refuse combinations that cannot work.

    Raises:
        SettingsError: naming the setting to change.
    """
    _check_urls(settings)
    if settings.pool_max and settings.pool_max < settings.pool_min:
        raise SettingsError("CRUCIBLE_POOL_MAX", "must not be below CRUCIBLE_POOL_MIN")
    if 0 < settings.task_time_limit_s < settings.task_soft_time_limit_s:
        detail = "must not be below CRUCIBLE_TASK_SOFT_TIME_LIMIT_S"
        raise SettingsError("CRUCIBLE_TASK_TIME_LIMIT_S", detail)
    if settings.autoscale_max < settings.autoscale_min:
        raise SettingsError("CRUCIBLE_AUTOSCALE_MAX", "must not be below CRUCIBLE_AUTOSCALE_MIN")
    if settings.autoscale_down >= settings.autoscale_up:
        raise SettingsError("CRUCIBLE_AUTOSCALE_DOWN", "must be below CRUCIBLE_AUTOSCALE_UP")
    if settings.max_unfinished_mb * 1024 < settings.max_body_kb:
        name = env_name("max_unfinished_mb")
        raise SettingsError(name, "must not be below one body, CRUCIBLE_MAX_BODY_KB")
    if settings.isolation not in settings.isolations:
        detail = f"{settings.isolation} is not among CRUCIBLE_ISOLATIONS"
        raise SettingsError("CRUCIBLE_ISOLATION", detail)
    _check_networks("webhook_networks", settings.webhook_networks)
    _check_networks("model_networks", settings.model_networks)
    _check_queues(settings.queues)
    served = served_environments(settings.environments, settings.own_environments)
    _check_tiers(settings, [one.name for one in served])
    check_switches(
        celery_enabled=settings.celery_enabled,
        celery_percentage=settings.celery_percentage,
        force_legacy_queue=settings.force_legacy_queue,
        dual_write=settings.dual_write,
        queue_service_url=settings.queue_service_url,
    )


def _check_tiers(settings: Settings, environments: list[str]) -> None:
    for tier, rules in tiers_of(settings.tiers, environments).items():
        if not set(rules.isolations) & set(settings.isolations):
            detail = f"{tier}.isolations has none of CRUCIBLE_ISOLATIONS"
            raise SettingsError("CRUCIBLE_TIERS", detail)


def check_switches(
    *,
    celery_enabled: bool,
    celery_percentage: float,
    force_legacy_queue: bool,
    dual_write: bool,
    queue_service_url: str,
) -> None:
    """Refuse migration switches that contradict each other, at startup or when changed later.

    Raises:
        SettingsError: out of range, contradictory, or without the legacy queue they need.
    """
    share = celery_percentage
    if not math.isfinite(share) or not 0.0 <= share <= 1.0:
        raise SettingsError("CELERY_PERCENTAGE", f"{share} is not from 0.0 to 1.0; a tenth is 0.1")
    name = env_name("dual_write")
    if dual_write and not celery_enabled:
        raise SettingsError(name, "writes to Celery too, which CELERY_ENABLED forbids")
    if dual_write and 0.0 < share < 1.0:
        raise SettingsError(
            name, f"sends everything to both sides, which contradicts CELERY_PERCENTAGE {share}"
        )
    askers = {
        "FORCE_LEGACY_QUEUE": force_legacy_queue,
        "CELERY_ENABLED off": not celery_enabled,
        name: dual_write,
        f"CELERY_PERCENTAGE {share}": share < 1.0,
    }
    asker = next((text for text, asks in askers.items() if asks), None)
    if asker and not queue_service_url:
        raise SettingsError("QUEUE_SERVICE_URL", f"is missing, and {asker} needs the legacy queue")


def _check_urls(settings: Settings) -> None:
    for field in ("celery_broker_url", "celery_result_backend"):
        _check_url(field, getattr(settings, field), REDIS_SCHEMES)
    _check_url("event_bus_url", settings.event_bus or "", REDIS_SCHEMES)
    _check_url("history_url", settings.history or "", HISTORY_SCHEMES)
    _check_url("object_store_url", settings.objects or "", OBJECT_SCHEMES)
    _check_url("otlp_endpoint", settings.otlp_endpoint, OTLP_SCHEMES)
    _check_url("queue_service_url", settings.queue_service_url, LEGACY_SCHEMES)
    _check_url("flower_url", settings.flower_url, LEGACY_SCHEMES)
    _check_url("model_url", settings.model_url, MODEL_SCHEMES)
    _check_url("docker_url", settings.docker_url, ENGINE_SCHEMES)
    for url in settings.executor_urls:
        _check_url("executor_urls", url, EXECUTOR_SCHEMES)


def _check_url(field: str, url: str, schemes: tuple[str, ...]) -> None:
    if url and (fault := fault_of(url, schemes)):
        raise SettingsError(env_name(field), f"{mask_url(url)!r}: {fault}")


def _check_networks(setting: str, networks: tuple[str, ...]) -> None:
    for text in networks:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise SettingsError(env_name(setting), str(error)) from None


def _check_queues(queues: tuple[str, ...]) -> None:
    if not queues:
        raise SettingsError("CRUCIBLE_QUEUES", "names no queue")
    twice = next((name for name in queues if queues.count(name) > 1), None)
    if twice is not None:
        raise SettingsError("CRUCIBLE_QUEUES", f"names {twice!r} twice")
