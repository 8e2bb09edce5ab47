"""The settings, read once at the edge: flags, environment, ``crucible.toml``, defaults."""

from crucible.settings.addresses import check_exposure, http_url, is_loopback
from crucible.settings.checks import check, check_switches
from crucible.settings.fields import (
    KNOWN_QUEUES,
    QUEUES,
    Settings,
    as_environ,
    child_environ,
    env_name,
)
from crucible.settings.loading import load_settings
from crucible.settings.urls import mask_url

__all__ = [
    "KNOWN_QUEUES",
    "QUEUES",
    "Settings",
    "as_environ",
    "check",
    "check_exposure",
    "check_switches",
    "child_environ",
    "env_name",
    "http_url",
    "is_loopback",
    "load_settings",
    "mask_url",
]
