from __future__ import annotations

from pathlib import Path

import pytest

from crucible.errors import SettingsError
from crucible.settings import Settings, check_exposure, load_settings, mask_url

NOWHERE = {"CRUCIBLE_CONFIG": ""}


def test_a_new_install_is_celery_only() -> None:
    """With nothing set, evaluations go to Celery queues on loopback and nowhere else."""
    settings = load_settings({})
    assert settings.celery_enabled
    assert settings.celery_percentage == 1.0
    assert settings.queue_service_url == ""
    assert settings.host == "127.0.0.1"
    assert settings.result_url == settings.celery_broker_url


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    """The nearer a value is to the person who types, the more it counts."""
    file = tmp_path / "crucible.toml"
    file.write_text("port = 1\nconcurrency = 2\nqueue_limit = 3\n")
    environ = {"CRUCIBLE_PORT": "11", "CRUCIBLE_CONCURRENCY": "12"}
    settings = load_settings(environ, flags={"port": 21, "concurrency": None}, file=file)
    assert (settings.port, settings.concurrency, settings.queue_limit) == (21, 12, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CRUCIBLE_PORT", "65536"),
        ("CRUCIBLE_PORT", "eighty"),
        ("CELERY_PERCENTAGE", "1.5"),
        ("CELERY_PERCENTAGE", "-0.1"),
        ("CELERY_PERCENTAGE", "ten"),
        ("CELERY_PERCENTAGE", "nan"),
        ("CELERY_ENABLED", "perhaps"),
        ("CELERY_BROKER_URL", "amqp://localhost"),
        ("CELERY_BROKER_URL", "localhost"),
        ("QUEUE_SERVICE_URL", "ftp://old"),
        ("CRUCIBLE_EXECUTOR_URLS", "http://a,b"),
        ("CRUCIBLE_QUEUES", ","),
        ("CRUCIBLE_DOCKER_RUNTIME", "docker"),
        ("CRUCIBLE_CLAIM", "pop"),
        ("CRUCIBLE_PUBLISH_DEADLINE_S", "inf"),
        ("CRUCIBLE_VISIBILITY_TIMEOUT_S", "0"),
        ("CRUCIBLE_VISIBILITY_TIMEOUT_S", "inf"),
        ("CRUCIBLE_POOL_MAX", "1"),
        ("CRUCIBLE_CONFIG", "/nonexistent/crucible.toml"),
    ],
)
def test_a_bad_value_stops_the_start_and_is_named(name: str, value: str) -> None:
    """Out-of-range and contradictory settings are errors that name the setting."""
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert caught.value.setting == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CELERY_PERCENTAGE", "0.5"),
        ("CELERY_ENABLED", "false"),
        ("FORCE_LEGACY_QUEUE", "true"),
        ("CRUCIBLE_DUAL_WRITE", "true"),
    ],
)
def test_a_mode_without_the_legacy_queue_it_needs_names_both(name: str, value: str) -> None:
    """The error names the missing QUEUE_SERVICE_URL, and its text the setting that needs it."""
    with pytest.raises(SettingsError, match=name) as caught:
        load_settings({name: value})
    assert caught.value.setting == "QUEUE_SERVICE_URL"


@pytest.mark.parametrize("other", [{"CELERY_PERCENTAGE": "0.5"}, {"CELERY_ENABLED": "false"}])
def test_dual_write_contradicts_a_split_and_celery_off(other: dict[str, str]) -> None:
    """Contradictory switches stop the start, and the error names the one to change."""
    with pytest.raises(SettingsError) as caught:
        load_settings({"CRUCIBLE_DUAL_WRITE": "1", "QUEUE_SERVICE_URL": "http://q:8002", **other})
    assert caught.value.setting == "CRUCIBLE_DUAL_WRITE"


def test_the_legacy_share_is_allowed_where_there_is_a_legacy_queue() -> None:
    """A percentage below one is fine once the other side exists."""
    settings = load_settings({"CELERY_PERCENTAGE": "0.25", "QUEUE_SERVICE_URL": "http://q:8002"})
    assert settings.celery_percentage == 0.25


def test_an_unknown_key_in_the_file_is_an_error(tmp_path: Path) -> None:
    """A mistyped key must not be ignored in silence."""
    file = tmp_path / "crucible.toml"
    file.write_text("prot = 8001\n")
    with pytest.raises(SettingsError, match="prot"):
        load_settings({}, file=file)


def test_secrets_are_masked_everywhere() -> None:
    """Passwords in URLs and tokens appear neither in repr nor in the printed settings."""
    settings = Settings(
        celery_broker_url="redis://user:hunter2@h:1/0", executor_token="hunter3", executor_urls=()
    )
    assert "hunter" not in repr(settings)
    assert "hunter" not in str(settings.masked())
    assert mask_url("redis://:pw@h/1") == "redis://:***@h/1"
    with pytest.raises(SettingsError) as caught:
        load_settings({"CELERY_BROKER_URL": "http://user:hunter2@h:1/0"})
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_serving_beyond_loopback_without_keys_is_refused(host: str) -> None:
    """Nobody gets in from outside while there are no keys."""
    with pytest.raises(SettingsError, match="CRUCIBLE_HOST"):
        check_exposure(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_served(host: str) -> None:
    """Every spelling of this machine is accepted."""
    check_exposure(host)
