"""Queue URLs in all their forms."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from crucible.broker.redis.connection import Target, read_url

HOST = {"host": "h", "port": 1, "db": 0}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1", HOST),
        ("redis://h:1/", HOST),
        ("redis://h:1/7", {**HOST, "db": 7}),
        ("redis://h:1//7", {**HOST, "db": 7}),
        ("redis://h:1?db=7", {**HOST, "db": 7}),
        ("redis://h:1/0?virtual_host=3", {**HOST, "db": 3}),
        ("redis://:p%40ss@h:1/0", {**HOST, "password": "p@ss"}),
        ("redis://user:pw@h:1/15", {**HOST, "db": 15, "username": "user", "password": "pw"}),
        ("rediss://h:1/2?ssl_cert_reqs=CERT_REQUIRED",
         {**HOST, "db": 2, "connection_class": SSLConnection, "ssl_cert_reqs": "required"}),
        ("rediss://h:1?ssl_cert_reqs=none&ssl_ca_certs=%2Fca.pem",
         {**HOST, "connection_class": SSLConnection, "ssl_cert_reqs": "none",
          "ssl_ca_certs": "/ca.pem"}),
        ("unix:///run/q.sock?db=3",
         {"path": "/run/q.sock", "db": 3, "connection_class": UnixDomainSocketConnection}),
        ("redis+socket:///run/q.sock?virtual_host=4",
         {"path": "/run/q.sock", "db": 4, "connection_class": UnixDomainSocketConnection}),
        ("socket://u:p@/run/q.sock",
         {"path": "/run/q.sock", "db": 0, "username": "u", "password": "p",
          "connection_class": UnixDomainSocketConnection}),
    ],
    ids=range(13),
)  # fmt: skip
def test_forms(url: str, expected: dict[str, Any]) -> None:
    """Each form of URL leads to its server, database and user."""
    assert read_url(url) == Target(expected)


def test_sentinel() -> None:
    """A Sentinel URL names its sentinels, the master, and both kinds of credentials."""
    target = read_url(
        "sentinel://u:p@s1:26379;sentinel://s2/3?master_name=m&sentinel_password=sp&ssl=x"
    )
    assert target.sentinels == (("s1", 26379), ("s2", 26379))
    assert target.master_name == "m"
    assert target.options == {"db": 3, "username": "u", "password": "p", "ssl": "x"}
    assert target.sentinel_options == {"password": "sp"}


@pytest.mark.parametrize(
    "url", ["amqp://h", "h:1", "", "redis://h/x", "sentinel://h/0", "redis://h/-1", "http://h"]
)
def test_unusable(url: str) -> None:
    """What cannot be a queue server is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - texts of several sources
        read_url(url)
