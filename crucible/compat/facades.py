"""Which facades there are, and which are served where (``CRUCIBLE_COMPAT``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from crucible.compat import dify, judge0, nemo_skills, piston, sandbox_fusion
from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web


class Facade(NamedTuple):
    """One facade.

    Attributes:
        routes: below its original paths.
        port: where its original listens.
    """

    routes: Sequence[web.RouteDef]
    port: int


FACADES = {
    "sandbox_fusion": Facade(sandbox_fusion.ROUTES, 8080),
    "piston": Facade(piston.ROUTES, 2000),
    "dify": Facade(dify.ROUTES, 8194),
    "nemo_skills": Facade(nemo_skills.ROUTES, 6000),
    "judge0": Facade(judge0.ROUTES, 2358),
}


def served_facades(setting: str) -> dict[str, int | None]:
    """The facades that a setting names, with the port of each that has its own.

    Args:
        setting: names with commas, each with ``:PORT`` where it has a port of its own, or
            ``all`` or ``none``.

    Raises:
        SettingsError: one is unknown, or a port is none.
    """
    if setting in ("", "none"):
        return {}
    if setting == "all":
        return dict.fromkeys(FACADES)
    found: dict[str, int | None] = {}
    for item in setting.split(","):
        name, colon, port = item.strip().partition(":")
        if name not in FACADES:
            known = ", ".join(FACADES)
            raise SettingsError("CRUCIBLE_COMPAT", f"{name!r} is no facade; there are {known}")
        if colon and not (port.isdigit() and 0 < int(port) < 65536):
            raise SettingsError("CRUCIBLE_COMPAT", f"{port!r} is no port")
        found[name] = int(port) if colon else None
    return found
