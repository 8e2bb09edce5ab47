"""Which addresses and URLs may be called."""

from __future__ import annotations

import pytest

from crucible.errors import InputError
from crucible.webhooks.addresses import AddressPolicy, check_url

REFUSED = (
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1",
    "239.1.2.3", "255.255.255.255", "240.0.0.1", "192.88.99.1", "::", "::1", "fe80::1",
    "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::a00:1",
    "2002:7f00:1::", "2002:a00:1::", "::127.0.0.1", "2001:db8::1", "127.1",
    "2130706433", "0177.0.0.1", "localhost",
)  # fmt: skip
ALLOWED = ("1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_inside_are_refused(address: str) -> None:
    """Loopback, private, link-local, metadata, multicast, reserved, and what stands for them."""
    assert AddressPolicy().refusal(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are_allowed(address: str) -> None:
    """Also those in the clothes of IPv6."""
    assert AddressPolicy().refusal(address) is None


def test_named_networks_are_allowed() -> None:
    """They, and no neighbours; mapped addresses by what they stand for."""
    policy = AddressPolicy(["10.1.0.0/16", "fd00::/8"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1"):
        assert policy.refusal(address) is None
    for address in ("10.2.0.1", "fc00::1", "127.0.0.1"):
        assert policy.refusal(address)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "ftp://example.org/", "file:///etc/passwd", "http://", "http:///x",
        "//example.org", "https://u:p@example.org/", "https://u@example.org/", "https://example.org/#x",
        "https://example.org:0/", "https://example.org:99999/", "http://127.0.0.1/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/", "http://127.1/", "http://2130706433/", "http://localhost/",
        "http://LOCALHOST./", "https://exa mple.org/", "https://example.org/\n", "https://ex\u00e4.org/",
        "https://example.org/" + "a" * 2048, "http://169.254.169.254/latest/meta-data/", "https://[x]/",
    ],
)  # fmt: skip
def test_urls_that_cannot_be_called_are_refused(url: str) -> None:
    """With the name of the field."""
    with pytest.raises(InputError) as refused:
        check_url(url, AddressPolicy(), "webhook_url")
    assert refused.value.field == "webhook_url"


@pytest.mark.parametrize(
    "url", ["https://example.org/a?b=c", "http://example.org:8080", "HTTPS://1.1.1.1/"]
)
def test_other_urls_are_taken_as_they_are(url: str) -> None:
    """Signed parameters in them must not change."""
    assert check_url(url, AddressPolicy()) == url
