"""Which hosts and pages a service answers."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from crucible.http.hosts import HostPolicy


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000",
     "10.1.2.3:80", "crucible.example", "a.localhost:1"],
)  # fmt: skip
def test_names_of_the_service(host: str) -> None:
    """Loopback, the bound address, and what the operator named."""
    assert HostPolicy("10.1.2.3", ["Crucible.Example"]).serves(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.4", "", ":8000",
     "localhost:8000:9", "a@localhost", "localhost/x", "[::2]", "[localhost", "local host"],
)  # fmt: skip
def test_other_names(host: str) -> None:
    """Whatever else, well-formed or not."""
    assert not HostPolicy("10.1.2.3", ["crucible.example"]).serves(host)


def test_a_service_on_every_address_has_all_of_them() -> None:
    """An address cannot be rebound; a name can."""
    policy = HostPolicy("0.0.0.0")
    assert policy.serves("192.0.2.1:8000")
    assert policy.serves("[2001:db8::1]")
    assert not policy.serves("evil.example")
    assert HostPolicy("0.0.0.0", ["*"]).serves("evil.example")


@pytest.mark.parametrize(
    ("fields", "reads", "own"),
    [
        ({}, False, True),
        ({"Origin": "http://localhost:8000"}, False, True),
        ({"Origin": "https://localhost:8000"}, False, True),
        ({"Origin": "https://console.example"}, False, True),
        ({"Origin": "http://localhost:3000"}, False, False),
        ({"Origin": "http://evil.example"}, True, False),
        ({"Origin": "null"}, False, False),
        ({"Origin": ""}, False, False),
        ({"Sec-Fetch-Site": "same-origin"}, False, True),
        ({"Sec-Fetch-Site": "none"}, False, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True, False),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, True, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, True, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False, False),
    ],
)
def test_pages_of_the_service(fields: dict[str, str], reads: bool, own: bool) -> None:
    """Programs send neither field; pages of other origins may at most be left by a link."""
    policy = HostPolicy("127.0.0.1", ["console.example"])
    headers = CIMultiDictProxy(CIMultiDict({"Host": "localhost:8000", **fields}))
    assert policy.is_own_page(headers, reads=reads) is own
