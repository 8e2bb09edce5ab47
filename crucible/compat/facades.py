"""Which facades there are, and which are served where (``CRUCIBLE_COMPAT``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from crucible.compat import (
    dify,
    judge0,
    judge0_request,
    nemo_skills,
    piston,
    piston_clients,
    piston_request,
    piston_runtimes,
    piston_socket,
    sandbox_fusion,
    sandbox_fusion_forms,
    sandbox_fusion_jupyter,
)
from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiohttp import web


class Facade(NamedTuple):
    """One facade.

    Attributes:
        routes: below its original paths.
        port: where its original listens.
        bodies: types of what is posted, by path.
        overloaded: its answer while programs cannot be taken, which its clients send again.
        health: what its original says on ``/health``; None where it says nothing.
        empty_refusals: to who may not ask it answers without a body.
        slashes: its original takes a slash at the end of a path for nothing, and clients send one.
    """

    routes: Sequence[web.RouteDef]
    port: int
    bodies: Mapping[str, Any]
    overloaded: Callable[[Exception], web.Response]
    health: Any = None
    empty_refusals: bool = False
    slashes: bool = False

    def paths_of(self, route: web.RouteDef) -> tuple[str, ...]:
        """The paths under which a route is served."""
        return (route.path, f"{route.path}/") if self.slashes else (route.path,)


FACADES = {
    "sandbox_fusion": Facade(
        sandbox_fusion.ROUTES,
        8080,
        {"/run_code": sandbox_fusion.RunCode, "/run_jupyter": sandbox_fusion_jupyter.RunJupyter},
        sandbox_fusion_forms.overloaded,
    ),
    "piston": Facade(
        (*piston_clients.ROUTES, *piston_runtimes.ROUTES, *piston_socket.ROUTES),
        2000,
        {f"{prefix}/execute": piston_request.Execute for prefix in piston_runtimes.PREFIXES},
        piston.overloaded,
        slashes=True,
    ),
    "dify": Facade(
        dify.ROUTES,
        8194,
        {"/v1/sandbox/run": dify.Run},
        dify.overloaded,
        health="ok",
        empty_refusals=True,
    ),
    "nemo_skills": Facade(
        nemo_skills.ROUTES,
        6000,
        {"/execute": nemo_skills.Execute},
        nemo_skills.overloaded,
        health={"status": "healthy", "worker": "0"},
    ),
    "judge0": Facade(
        judge0.ROUTES,
        2358,
        {
            "/submissions": judge0_request.Submission,
            "/submissions/batch": judge0_request.SubmissionBatch,
        },
        judge0.overloaded,
        empty_refusals=True,
        slashes=True,
    ),
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
