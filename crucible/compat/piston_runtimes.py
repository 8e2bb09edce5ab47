"""Piston's ``/runtimes`` and ``/packages``: the languages of the environments that are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.compat.context import CONTEXT
from crucible.compat.requests import json_of
from crucible.compat.semver import satisfies
from crucible.errors import InputError
from crucible.http.body import read_body

if TYPE_CHECKING:
    from crucible.executor.languages import Language

PREFIXES = ("/api/v2", "/api/v2/piston")
#: What other names Piston has for our languages.
ALIASES = {
    "bash": ("sh",),
    "c": ("gcc",),
    "cpp": ("c++", "g++"),
    "javascript": ("node", "node-js", "node-javascript", "js"),
    "python": ("py", "py3"),
    "ruby": ("ruby3",),
}
RUNTIMES = {"javascript": "node", "c": "gcc", "cpp": "gcc"}
#: What a version is called while no worker has reported it.
UNKNOWN = "0.0.0"


async def runtime_of(request: web.Request, name: str, wanted: str) -> tuple[str, str]:
    """Our name of a language, and its version.

    Args:
        request: the facade's.
        name: as a client calls the language.
        wanted: a range of versions; while its own is not known, a language is in any.

    Raises:
        InputError: there is none of this name and version.
    """
    context = request.app[CONTEXT]
    versions = await context.versions()
    for ours, language in context.served.languages().items():
        version = versions.get(ours)
        if name in {ours, *_aliases(language)} and (not version or satisfies(version, wanted)):
            return ours, version or "*"
    raise InputError("", f"{name}-{wanted} runtime is unknown")


async def runtimes(request: web.Request) -> web.Response:
    """``GET /api/v2/runtimes``."""
    shown = []
    for language, version in await _installed(request):
        one: dict[str, Any] = {
            "language": language.name,
            "version": version,
            "aliases": sorted(_aliases(language)),
        }
        if language.name in RUNTIMES:
            one["runtime"] = RUNTIMES[language.name]
        shown.append(one)
    return web.json_response(shown)


async def packages(request: web.Request) -> web.Response:
    """``GET /api/v2/packages``: what there is, is installed."""
    return web.json_response(
        [
            {"language": language.name, "language_version": version, "installed": True}
            for language, version in await _installed(request)
        ]
    )


async def install(request: web.Request) -> web.Response:
    """``POST /api/v2/packages``: refused, as there is none that is not installed."""
    return await _refused(request, "Already installed")


async def uninstall(request: web.Request) -> web.Response:
    """``DELETE /api/v2/packages``: refused, as packages are part of environments."""
    return await _refused(request, "It is part of an environment, and cannot be uninstalled")


async def _refused(request: web.Request, why: str) -> web.Response:
    if request.content_type != "application/json":
        return message(415, "requests must be of type application/json")
    try:
        fields = json_of(await read_body(request), dict[str, Any])
    except (msgspec.DecodeError, InputError) as error:
        return message(400, str(error))
    language, version = (str(fields.get(name, "undefined")) for name in ("language", "version"))
    try:
        await runtime_of(request, language, version)
    except InputError:
        return message(404, f"Requested package {language}-{version} does not exist")
    return message(500, why)


async def _installed(request: web.Request) -> list[tuple[Language, str]]:
    context = request.app[CONTEXT]
    versions = await context.versions()
    return [
        (language, versions.get(name) or UNKNOWN)
        for name, language in context.served.languages().items()
    ]


def _aliases(language: Language) -> set[str]:
    return {*language.aliases, *ALIASES.get(language.name, ())}


def message(status: int, text: str) -> web.Response:
    """An answer that says what is wrong."""
    return web.json_response({"message": text}, status=status)


ROUTES = tuple(
    route
    for prefix in PREFIXES
    for route in (
        web.get(f"{prefix}/runtimes", runtimes),
        web.get(f"{prefix}/packages", packages),
        web.post(f"{prefix}/packages", install),
        web.delete(f"{prefix}/packages", uninstall),
    )
)
