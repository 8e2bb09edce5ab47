"""Listening addresses: whether they are loopback, and how they are written in a URL."""

from __future__ import annotations

import ipaddress

from crucible.errors import SettingsError


def check_exposure(host: str) -> None:
    """Refuse to serve anything but loopback without API keys.

    Raises:
        SettingsError: ``host`` is not a loopback address.
    """
    if not is_loopback(host):
        raise SettingsError(
            "CRUCIBLE_HOST", f"{host!r}: only a loopback address is served without API keys"
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
