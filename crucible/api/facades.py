"""Facades as part of the api: their routes, who may use them, and how often they were used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.api.app_keys import ADMIN, METER, READINESS
from crucible.api.callers import CALLERS
from crucible.compat.facades import FACADES, served_facades
from crucible.errors import BrokerUnavailable, Forbidden, SessionUnavailable, Unauthenticated
from crucible.settings import KNOWN_QUEUES

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from crucible.api.callers import Need
    from crucible.compat.facades import Facade
    from crucible.settings import Settings

#: Facades by the port of their own.
_PORTS: web.AppKey[dict[int, str]] = web.AppKey("facade_ports")


def add_facades(app: web.Application, setting: str) -> None:
    """Add the routes of the facades that are served.

    Args:
        app: the api.
        setting: ``CRUCIBLE_COMPAT``.
    """
    served = served_facades(setting)
    app[_PORTS] = {port: name for name, port in served.items() if port is not None}
    for name in served:
        for route in FACADES[name].routes:
            handler = _counted(name, _admitted(FACADES[name], route))
            for path in FACADES[name].paths_of(route):
                app.router.add_route(route.method, path, handler)


def _admitted(facade: Facade, route: web.RouteDef) -> Handler:
    need: Need = "read" if route.method == "GET" and route.path not in _RUNNING else "submit"

    async def admitted(request: web.Request) -> web.StreamResponse:
        try:
            await request.app[CALLERS].admit(request, need)
        except BrokerUnavailable as error:
            return facade.overloaded(error)
        except (Unauthenticated, Forbidden) as error:
            if not facade.empty_refusals:
                raise
            return web.Response(status=401 if isinstance(error, Unauthenticated) else 403)
        return await route.handler(request)

    return admitted


#: Paths of GET by which programs are run: WebSockets.
_RUNNING = frozenset({"/api/v2/connect", "/api/v2/piston/connect"})


def _counted(name: str, handler: Handler) -> Handler:
    async def counted(request: web.Request) -> web.StreamResponse:
        status = 500
        try:
            response = await handler(request)
            status = response.status
        except (Unauthenticated, Forbidden) as error:
            status = 401 if isinstance(error, Unauthenticated) else 403
            raise
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            request.app[METER].facade_answered(name, status)
        return response

    return counted


def health_of(request: web.Request) -> Any:
    """What is said on ``/health`` of the port of a facade; None on any other."""
    ports = request.app[_PORTS]
    transport = request.transport
    if not ports or transport is None:
        return None
    name = transport.get_extra_info("sockname")
    facade = ports.get(name[1]) if isinstance(name, tuple) else None
    return None if facade is None else FACADES[facade].health


async def load_of(app: web.Application) -> tuple[int, int]:
    """Messages that wait in all queues, and workers that are there.

    Raises:
        BrokerError: the queue server does not answer.
    """
    census = await app[ADMIN].census(KNOWN_QUEUES)
    return sum(queue.waiting for queue in census.queues), await app[READINESS].listening() or 0


def facade_paths(settings: Settings, components: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Paths of the facades that are served, each with the facade as its tag.

    Args:
        settings: of the installation.
        components: the schemas; those of the facades are added.
    """
    paths: dict[str, Any] = {}
    for name in served_facades(settings.compat):
        facade = FACADES[name]
        kinds = tuple(dict.fromkeys(facade.bodies.values()))
        template = f"#/components/schemas/{name}.{{name}}"
        references, found = msgspec.json.schema_components(kinds, ref_template=template)
        components.update({f"{name}.{kind}": schema for kind, schema in found.items()})
        by_kind = dict(zip(kinds, references, strict=True))
        for route in facade.routes:
            operation = _operation(name, route)
            if (body := facade.bodies.get(route.path)) and route.method == "POST":
                content = {"application/json": {"schema": by_kind[body]}}
                operation["requestBody"] = {"required": True, "content": content}
            paths.setdefault(route.path, {})[route.method.lower()] = operation
    return paths


def _operation(name: str, route: web.RouteDef) -> dict[str, Any]:
    summary = (route.handler.__doc__ or "").strip().splitlines()[0]
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in route.path.split("/")
        if part.startswith("{")
    ]
    # Made here, and of an error that nobody sees: only its status counts.
    busy = str(FACADES[name].overloaded(SessionUnavailable()).status)
    success = "101" if route.path in _RUNNING else "200"
    operation: dict[str, Any] = {
        "tags": [name],
        "summary": summary,
        "responses": {
            success: {"description": "In the form of the original."},
            busy: {"description": "Programs cannot be taken now; clients send it again."},
            "default": {"description": "Anything else, in the form of the original."},
        },
        "security": [{"bearer": []}, {"apiKey": []}],
    }
    return operation | ({"parameters": parameters} if parameters else {})
