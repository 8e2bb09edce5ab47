"""Listening addresses: whether they are loopback, and how they are written in a URL."""

from __future__ import annotations

import ipaddress

from crucible.errors import SettingsError


def check_exposure(host: str, *, keyed: bool) -> None:
    """Refuse to serve anything but loopback without API keys.

    Args:
        host: address to listen on.
        keyed: a key was made, so that only who has one is served.

    Raises:
        SettingsError: ``host`` is not a loopback address, and there are no keys.
    """
    if not keyed and not is_loopback(host):
        raise SettingsError(
            "CRUCIBLE_HOST",
            f"{host!r}: only a loopback address is served without API keys; "
            "`crucible keys create` makes one",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def http_url(host: str, port: int) -> str:
    """The URL of a service that listens there; an IPv6 address is put in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
