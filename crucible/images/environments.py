"""Brings the images of environments into the engine, each after those it is a layer on."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import msgspec

from crucible.environments import DEFAULT_NAME, known_environments
from crucible.errors import RequirementError
from crucible.images.build import build_image, build_lock, ensure_image, workspace_of
from crucible.images.definition import definition_of
from crucible.images.foreign import adopt_image
from crucible.images.store import ImageInfo, find_image, is_local, open_engine, tag_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiodocker

    from crucible.environments import Environment
    from crucible.images.rootfs import Progress
    from crucible.settings import Settings


class EnvironmentImage(msgspec.Struct, frozen=True, kw_only=True):
    """An environment and what the engine has of it.

    Attributes:
        name: of the environment.
        served: programs may ask for it, by the settings in force.
        built: the engine has its image, made from today's definition.
        outdated: the engine has an image of it, made from another definition.
        image: the one the engine has, or None.
    """

    name: str
    served: bool
    built: bool
    outdated: bool
    image: ImageInfo | None


async def environment_images(settings: Settings) -> list[EnvironmentImage]:
    """Every environment known here: built in, and this installation's own.

    Raises:
        SettingsError: a package list cannot be used.
        RequirementError: no engine.
    """
    served = {environment.name for environment in settings.served_environments}
    found = []
    async with open_engine(settings.docker_url) as docker:
        for environment in known_environments(settings.own_environments).values():
            info = await find_image(docker, _reference(settings, environment))
            current = info is not None and _is_current(settings, environment, info)
            found.append(
                EnvironmentImage(
                    name=environment.name,
                    served=environment.name in served,
                    built=current,
                    outdated=info is not None and not current,
                    image=info,
                )
            )
    return found


async def ensure_environment(
    settings: Settings,
    environment: Environment,
    *,
    progress: Progress = lambda _line: None,
    rebuild: bool = False,
) -> ImageInfo:
    """The image of an environment, brought into the engine with what it is built on.

    Args:
        settings: which engine, what to add, where to build.
        environment: whose image.
        progress: called with one line for people at each step; never when all is there.
        rebuild: build even when an image of the same definition is there.

    Raises:
        SettingsError: the operator's package list cannot be used.
        RequirementError: no engine, or the image can neither be pulled nor built.
    """
    if environment.name == DEFAULT_NAME:
        return await ensure_image(settings, progress=progress, rebuild=rebuild)
    async with open_engine(settings.docker_url) as docker:
        info = await find_image(docker, environment.reference)
        if info and not rebuild and _is_current(settings, environment, info):
            return info
        if environment.image:
            digest = _digest(settings, environment)
            return await adopt_image(docker, environment, digest, progress)
        base = await _ensure_base(docker, settings, environment, progress)
        # Of its own, so that several can be built at once.
        workspace = workspace_of(settings) / environment.name
        async with build_lock(workspace, progress):
            definition = definition_of(environment, settings.sandbox_packages_file)
            # Looked for again: another build may have made it while this one waited.
            info = None if rebuild else await find_image(docker, definition.reference)
            info = info or await build_image(
                docker,
                definition,
                workspace,
                mirror=settings.debian_mirror,
                progress=progress,
                environment=environment,
                base=base,
            )
            await tag_image(docker, info.image_id, environment.reference)
        return await _tagged(docker, environment)


async def ensure_environments(
    settings: Settings,
    environments: Sequence[Environment],
    *,
    progress: Progress = lambda _line: None,
    rebuild: bool = False,
) -> dict[str, ImageInfo]:
    """The images of several environments by name, built side by side; see ``ensure_environment``.

    Raises:
        SettingsError: the operator's package list cannot be used.
        RequirementError: no engine, or an image can neither be pulled nor built.
    """
    default = [one for one in environments if one.name == DEFAULT_NAME]
    others = [one for one in environments if one.name != DEFAULT_NAME]
    found = {
        one.name: await ensure_environment(settings, one, progress=progress, rebuild=rebuild)
        for one in default
    }
    places = asyncio.Semaphore(len(os.sched_getaffinity(0)))

    async def ensure(environment: Environment) -> None:
        async with places:
            found[environment.name] = await ensure_environment(
                settings,
                environment,
                progress=lambda line: progress(f"{environment.name}: {line}"),
                rebuild=rebuild,
            )

    try:
        async with asyncio.TaskGroup() as group:
            for environment in others:
                group.create_task(ensure(environment))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return {one.name: found[one.name] for one in environments}


async def _ensure_base(
    docker: aiodocker.Docker, settings: Settings, environment: Environment, progress: Progress
) -> str:
    """The image that an environment's is a layer on; empty where it stands alone."""
    base = known_environments(settings.own_environments)[environment.base]
    if base.name == DEFAULT_NAME and not is_local(settings.sandbox_image):
        return ""  # an external image need not have a single file of the definition's
    definition = definition_of(base, settings.sandbox_packages_file)
    # By its definition, whichever one its newest tag is on.
    if found := await find_image(docker, definition.reference):
        return found.image_id
    return (await ensure_environment(settings, base, progress=progress)).image_id


async def _tagged(docker: aiodocker.Docker, environment: Environment) -> ImageInfo:
    info = await find_image(docker, environment.reference)
    if info is None:
        raise RequirementError(f"the engine does not show {environment.reference}")
    return info


def _reference(settings: Settings, environment: Environment) -> str:
    default = environment.name == DEFAULT_NAME
    return settings.sandbox_image if default else environment.reference


def _is_current(settings: Settings, environment: Environment, info: ImageInfo) -> bool:
    if environment.name == DEFAULT_NAME and not settings.sandbox_image.endswith(":latest"):
        return True  # a certain image was asked for, and is there
    return info.definition == _digest(settings, environment)


def _digest(settings: Settings, environment: Environment) -> str:
    """What the label of an environment's image says when it is today's."""
    if environment.image:
        return hashlib.sha256(msgspec.json.encode(environment, order="sorted")).hexdigest()[:16]
    return definition_of(environment, settings.sandbox_packages_file).digest
