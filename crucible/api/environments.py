"""The handlers of ``/api/environments`` and ``/api/languages``."""

from __future__ import annotations

import msgspec
from aiohttp import web

from crucible.api.app_keys import READINESS, SERVED
from crucible.environments import DEFAULT_NAME, EnvironmentState
from crucible.executor.languages import Language, languages_of

_encode = msgspec.json.Encoder().encode


class LanguageShown(msgspec.Struct, frozen=True, kw_only=True):
    """A language that programs may be in.

    In ``compile`` and ``run``, ``{memory_mb}`` stands for the program's memory limit.

    Attributes:
        name: ``language`` of a submission.
        aliases: other names that submissions may use.
        version: as workers report it; null while none has.
        file_name: name of the program's own file, which no other file may have.
        compiled: it is compiled before it runs, within `compile_limits`.
        compile: the command that compiles it; null for none.
        run: the command that runs it; a submission's arguments follow.
        environments: those that have it; the first is used unless a submission names another.
    """

    name: str
    aliases: tuple[str, ...]
    version: str | None
    file_name: str
    compiled: bool
    compile: tuple[str, ...] | None
    run: tuple[str, ...]
    environments: tuple[str, ...]


class EnvironmentShown(msgspec.Struct, frozen=True, kw_only=True):
    """An environment that programs may run in.

    Attributes:
        name: ``environment`` of a submission.
        default: programs run in it that name none and whose language it has.
        available: a worker announced within the last 100 s that it has the image.
        image_id: of that image; null while none has.
        size_bytes: of that image, uncompressed; null while none has.
        languages: versions by name; a version is null while none is reported.
        packages: Debian packages asked for, on top of the minimal system.
        wheels: Python distributions asked for.
        preload: Python modules that are imported before a program starts.
    """

    name: str
    default: bool
    available: bool
    image_id: str | None
    size_bytes: int | None
    languages: dict[str, str | None]
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    preload: tuple[str, ...]


async def environments(request: web.Request) -> web.Response:
    """``GET /api/environments``: the environments programs may run in, and their contents."""
    states = await _states(request)
    shown = []
    for environment in request.app[SERVED]:
        state = states.get(environment.name)
        shown.append(
            EnvironmentShown(
                name=environment.name,
                default=environment.name == DEFAULT_NAME,
                available=state is not None,
                image_id=state.image_id if state else None,
                size_bytes=state.size_bytes if state else None,
                languages={name: _version(name, state) for name in languages_of(environment)},
                packages=environment.packages,
                wheels=environment.wheels,
                preload=environment.preload,
            )
        )
    return web.Response(body=_encode(shown), content_type="application/json")


async def languages(request: web.Request) -> web.Response:
    """``GET /api/languages``: the languages programs may be in, and how each is run."""
    states = await _states(request)
    served = request.app[SERVED]
    shown = []
    for name, language in served.languages().items():
        having = served.having(name)
        shown.append(_shown(language, having, _version(name, states.get(having[0]))))
    return web.Response(body=_encode(shown), content_type="application/json")


def _shown(language: Language, having: tuple[str, ...], version: str | None) -> LanguageShown:
    return LanguageShown(
        name=language.name,
        aliases=language.aliases,
        version=version,
        file_name=language.file_name,
        compiled=bool(language.compile),
        compile=language.compile,
        run=language.run,
        environments=having,
    )


def _version(language: str, state: EnvironmentState | None) -> str | None:
    return state.versions.get(language) or None if state else None


async def _states(request: web.Request) -> dict[str, EnvironmentState]:
    names = [environment.name for environment in request.app[SERVED]]
    return await request.app[READINESS].environments(names)
