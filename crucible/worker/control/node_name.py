"""Node names as stock takes them: ``w1``, ``w1@host``, ``w1@%h``, ``%n@%d``.

Source: celery 5.7 ``utils/nodenames.py`` ``default_nodename`` and ``host_format``.
"""

from __future__ import annotations

import re
import socket

#: The name of a node of which only the host is given.
_DEFAULT = "celery"
_ABBREVIATION = re.compile(r"%([%\w])")
#: A name that remote control can address: its destinations are lists with commas, and patterns with
#: * and ?. The host is empty where ``%d`` is, as on a machine without a domain.
_ADDRESSABLE = re.compile(r"[\w.+:-]+@[\w.+:-]*")


def node_name(text: str) -> str:
    """The full node name; what has no ``@`` is the host, as for stock.

    ``%h`` is this machine's name, ``%n`` its part before the first dot, ``%d`` the rest; ``%i`` and
    ``%I`` are what they are in the main process of a stock worker, ``0`` and nothing.

    Raises:
        ValueError: an unknown abbreviation, or characters that remote control cannot address.
    """
    before, at, after = text.partition("@")
    name, host = (before, after) if at else ("", before)
    machine = socket.gethostname()
    short, _, domain = machine.partition(".")
    known = {"h": machine, "n": short, "d": domain, "i": "0", "I": "", "%": "%"}

    def expanded(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise ValueError(f"{text!r}: %{found[1]} stands for nothing; %h, %n and %d do")
        return known[found[1]]

    made = _ABBREVIATION.sub(expanded, f"{name or _DEFAULT}@{host or machine}")
    if not _ADDRESSABLE.fullmatch(made):
        raise ValueError(f"{text!r} is not NAME@HOST of letters, digits and the likes of . _ - +")
    return made
