"""Which hosts may be called: nobody inside this network through a URL that a client chose.

The decision is about addresses, not names: it is made of what a name resolved to, at connect time,
so that a name that resolves differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from yarl import URL

from crucible.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_BYTES = 2048
#: Addresses of IPv6 that stand for one of IPv4: its last 32 bits (NAT64, RFC 6052 and 8215, and
#: IPv4-compatible, RFC 4291).
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
#: Not private by the tables of ``ipaddress``, some of which grow with Python's versions, and yet
#: no place for a receiver: shared address space of carriers (RFC 6598), protocol assignments
#: (RFC 6890), 6to4 relays (RFC 7526), site-local (RFC 3879), and a metadata address
#: that a cloud has put among public ones.
_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "168.63.129.16/32"),
    )
)


class AddressPolicy:
    """Says which addresses may be called.

    Args:
        allowed: networks that may be called although they are private, such as ``10.1.0.0/16``.

    Raises:
        ValueError: one is no network.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = tuple(ipaddress.ip_network(text, strict=False) for text in allowed)

    def refusal(self, address: str) -> str | None:
        """Why an address may not be called; None where it may.

        Args:
            address: an IP address, of IPv6 with or without its zone.
        """
        try:
            found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            return "is no address"
        if any(found in network for network in self._allowed):
            return None
        return _refusal(found)


def _unwrapped(address: Address) -> Address:
    """The address of IPv4 that one of IPv6 leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address.teredo is not None:
        inner = address.teredo[1]
    if inner is None and int(address) > 1 and any(address in network for network in _EMBEDDING):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


def _refusal(address: Address) -> str | None:
    if address.is_unspecified:
        return "is unspecified"
    if address.is_loopback:
        return "is loopback"
    if address.is_link_local:  # with the metadata address of most clouds
        return "is link-local"
    if address.is_multicast:
        return "is multicast"
    if any(address in network for network in _REFUSED) or not address.is_global:
        return "is private or reserved"
    return None


def check_url(text: str, policy: AddressPolicy, field: str = "url") -> str:
    """A receiver's URL as it will be called; what its host's name resolves to is checked later.

    Raises:
        InputError: it is no URL of HTTP, carries credentials, or names an address that is refused.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_URL_BYTES:
        raise InputError(field, f"must not exceed {MAX_URL_BYTES} bytes")
    if not text.isascii() or any(ord(character) <= 0x20 for character in text):
        raise InputError(field, "must be an ASCII URL without spaces")
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError as error:
        raise InputError(field, f"is no URL: {error}") from None
    if url.scheme not in ("https", "http") or not host or port == 0:
        raise InputError(field, "must be an http or https URL")
    if url.user is not None or url.password is not None or url.raw_fragment:
        raise InputError(field, "must have neither credentials nor a fragment")
    if is_literal(host) and (why := policy.refusal(host)):
        raise InputError(field, f"the address {host} {why}")
    if host.rstrip(".").lower() == "localhost" and (why := policy.refusal("127.0.0.1")):
        raise InputError(field, f"the address of {host} {why}")
    return text


def is_literal(host: str) -> bool:
    """Whether a host is an address and no name, so that no resolver sees it.

    Anything of digits and dots counts, such as 127.1: the socket library would read it as one.
    """
    return ":" in host or host.replace(".", "").isdigit()
