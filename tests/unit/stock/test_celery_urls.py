"""Sentinel URLs as Celery takes them, whatever its environment variables say."""

from __future__ import annotations

import ssl

import pytest
from redis.connection import SSLConnection

from crucible.celery_app import create_app
from crucible.settings import load_settings
from crucible.stock.urls import celery_tls, celery_url


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


def test_tls_behind_sentinels_reaches_celery() -> None:
    """Broker and results connect by TLS with checked certificates, the sentinels as before."""
    url = "sentinel://s:1/0?master_name=m&ssl=true&ssl_ca_certs=/ca.pem"
    app = create_app(load_settings({"CELERY_BROKER_URL": url}))
    wanted = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
    connection = app.connection_for_write()
    assert connection.ssl == wanted
    kind = app.backend.connparams["connection_class"]
    assert issubclass(kind, SSLConnection)
    assert app.backend.connparams["ssl_ca_certs"] == "/ca.pem"
    assert app.backend.connparams["ssl_cert_reqs"] is ssl.CERT_REQUIRED


def test_without_tls_nothing_is_said_of_it() -> None:
    """Nor where Celery reads it from the URL itself."""
    assert celery_tls("sentinel://s:1/0?master_name=m") is None
    assert celery_tls("rediss://h:1/0?ssl_cert_reqs=required") is None
