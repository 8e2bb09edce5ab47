"""URLs of queue servers as Celery takes them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from crucible.broker.redis.connection import read_url


def celery_url(url: str) -> tuple[str, dict[str, Any]]:
    """A URL for Celery, and its transport options.

    Celery wants the master's name in options: it does not read the query of a Sentinel URL as the
    broker's, and a worker crashes over it when it turns to the next sentinel.

    Raises:
        ValueError: the URL cannot be used.
    """
    if not url.startswith("sentinel://"):
        return url, {}
    target = read_url(url)
    options: dict[str, Any] = {"master_name": target.master_name}
    if target.sentinel_options:
        options["sentinel_kwargs"] = target.sentinel_options
    user, password = (quote(target.options.get(n, ""), safe="") for n in ("username", "password"))
    at = f"{user}:{password}@" if password else ""
    hosts = (
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in target.sentinels
    )
    database = target.options["db"]
    return ";".join(f"sentinel://{at}{host}/{database}" for host in hosts), options


def celery_tls(url: str) -> dict[str, Any] | None:
    """TLS to the servers behind sentinels, as Celery's ``broker_use_ssl``; None without it.

    It reads those of other URLs itself. Certificates are checked unless the URL says otherwise.
    """
    if not url.startswith("sentinel://"):
        return None
    options = read_url(url).options
    if not options.get("ssl"):
        return None
    given = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", **given}
