"""Which requests of browsers are answered.

A web page can have its visitor's browser send requests to a loopback address, and with a name that
the page's owner points there (DNS rebinding) it could read the answers too. So a request has to
name a host that is served here, and one that a browser sends has to come from a page of ours. No
page of another origin may do anything: there are no CORS headers.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import web

from crucible.http.problems import problem

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp.typedefs import Handler, Middleware
    from multidict import CIMultiDictProxy

#: Says only that the process lives, to load balancers under whatever name they know.
OPEN_PATH = "/health"
#: Allows every name.
ANY = "*"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://([^/@\s]+)")
#: Values of ``Sec-Fetch-Site`` for pages of other origins.
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})


class HostPolicy:
    """Whether a request is meant for this service and comes from no foreign page.

    Args:
        bound: the address the service listens on. Where that is every address of the machine, any
            IP address is a name of it: one cannot be rebound.
        more: further names, such as those a proxy passes on; ``*`` allows every one.
    """

    def __init__(self, bound: str, more: Collection[str] = ()) -> None:
        self._more = frozenset(name.lower().rstrip(".") for name in more)
        self._names = self._more | {"localhost", bound.lower()}
        self._any_address = bound in ("0.0.0.0", "::", "")
        # Nearly all requests of a service have one of a few hosts.
        self.serves = lru_cache(256)(self._serves)

    def _serves(self, host: str) -> bool:
        """Whether the value of a ``Host`` field names this service."""
        name = _name_of(host)
        if name is None:
            return False
        if ANY in self._more or name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            # RFC 6761: always loopback.
            return name.endswith(".localhost")
        return address.is_loopback or self._any_address

    def is_own_page(self, headers: CIMultiDictProxy[str], *, reads: bool) -> bool:
        """Whether a request came from no browser, or from a page of this service.

        Args:
            headers: of the request.
            reads: it asks for something and changes nothing.
        """
        origin = headers.get("Origin")
        if origin is not None:
            return self._is_own_origin(origin, headers.get("Host", ""))
        if headers.get("Sec-Fetch-Site") not in _FOREIGN_SITES:
            return True
        # A link to here may be followed.
        return reads and headers.get("Sec-Fetch-Mode") == "navigate"

    def _is_own_origin(self, origin: str, host: str) -> bool:
        match = _ORIGIN.fullmatch(origin.lower())
        if match is None:
            return False
        # A proxy that passes on another Host names the one of its clients in the settings.
        return match[1] == host.lower() or _name_of(match[1]) in self._more


def _name_of(authority: str) -> str | None:
    """The name or address of ``name[:port]``; None where it is neither."""
    match = _HOST.fullmatch(authority)
    return None if match is None else match[1].strip("[]").lower().rstrip(".")


def host_guard(policy: HostPolicy) -> Middleware:
    """A middleware that refuses requests for other hosts and of foreign pages.

    A service with a token needs none: no page knows the token.
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == OPEN_PATH:
            return await handler(request)
        # HTTP/1.0 has none, and no browser.
        if any(not policy.serves(host) for host in request.headers.getall("Host", ())):
            return problem(
                421,
                "Misdirected Request",
                "the Host is no name of this service; CRUCIBLE_ALLOWED_HOSTS has further ones",
            )
        if not policy.is_own_page(request.headers, reads=request.method in ("GET", "HEAD")):
            return problem(403, "Forbidden", "pages of other origins may not use this service")
        return await handler(request)

    return guard


HOSTS = web.AppKey("hosts", HostPolicy)
