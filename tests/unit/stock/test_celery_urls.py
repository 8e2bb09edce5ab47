"""Sentinel URLs as Celery takes them, whatever its environment variables say."""

from __future__ import annotations

import pytest

from crucible.celery_app import create_app
from crucible.settings import load_settings
from crucible.stock.urls import celery_url


def test_other_urls_are_left_alone() -> None:
    """Celery reads those itself."""
    url = "redis://u:p@h:1/0?ssl_cert_reqs=none"
    assert celery_url(url) == (url, {})


def test_a_sentinel_url_is_taken_apart() -> None:
    """Every sentinel gets credentials and database, and the query goes to options."""
    url = "sentinel://u:p%40@s1:1;sentinel://[::1]/3?master_name=m&sentinel_password=sp"
    assert celery_url(url) == (
        "sentinel://u:p%40@s1:1/3;sentinel://u:p%40@[::1]:26379/3",
        {"master_name": "m", "sentinel_kwargs": {"password": "sp"}},
    )


def test_the_environment_does_not_get_the_query_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery prefers these two variables, which are ours as well, to its configuration."""
    broker, backend = "sentinel://s:1/0?master_name=m", "sentinel://s:1/1?master_name=n"
    environ = {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": backend}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    app = create_app(load_settings(environ))
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert (connection.hostname, connection.port, connection.virtual_host) == ("s", 1, "0")
        assert connection.transport_options["master_name"] == "m"
    assert app.backend.url == "sentinel://s:1/1"
