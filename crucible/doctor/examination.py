"""Runs every check of ``crucible doctor``, each with a deadline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crucible.doctor import engine, machine
from crucible.doctor.check import Check, failed, passed, warned
from crucible.doctor.isolation import check_nested
from crucible.doctor.queue_server import check_queue_server, check_result_server
from crucible.environments import DEFAULT_NAME
from crucible.errors import RequirementError, SettingsError
from crucible.images import (
    environment_images,
    find_image,
    is_local,
    load_definition,
    open_engine,
)
from crucible.images.store import ENGINE_REMEDY, answer_within

if TYPE_CHECKING:
    import aiodocker

    from crucible.images import EnvironmentImage, ImageInfo
    from crucible.settings import Settings

#: Seconds the engine may take to describe itself.
ENGINE_S = 10.0


async def run_checks(settings: Settings) -> list[Check]:
    """Every requirement of this machine and these settings, in display order."""
    async with asyncio.TaskGroup() as group:
        queue = group.create_task(check_queue_server(settings))
        results = group.create_task(check_result_server(settings))
        bus = group.create_task(check_event_bus(settings))
        docker = group.create_task(check_engine(settings))
    return [
        machine.check_python(),
        machine.check_server_binary(),
        *queue.result(),
        *results.result(),
        bus.result(),
        *machine.check_ports(settings),
        machine.check_space("Space for data", settings.data_dir),
        *docker.result(),
    ]


async def check_event_bus(settings: Settings) -> Check:
    """Whether there is an event bus that answers, or is to be none."""
    if settings.event_bus is None:
        return passed("Event bus server", "off")
    return await machine.check_redis("event bus", "event_bus_url", settings.event_bus)


async def check_engine(settings: Settings) -> list[Check]:
    """The engine, its versions and its features."""
    try:
        async with open_engine(settings.docker_url) as docker:
            version, info = await _describe(docker)
            image = await find_image(docker, settings.sandbox_image)
        environments = await _environments(settings)
        nested = await check_nested(settings)
    except RequirementError as error:
        detail = str(error).removesuffix(f" ({error.remedy})").removeprefix("Docker engine: ")
        return [failed("Docker engine", detail, error.remedy or ENGINE_REMEDY)]
    return [
        passed("Docker engine", f"{version.get('Version')} answers"),
        *engine.judge_version(version, info),
        engine.judge_runtime(info, settings.docker_runtime),
        engine.judge_control_groups(info),
        engine.judge_seccomp(info),
        engine.judge_storage(info),
        *_engine_space(info),
        judge_image(settings, image),
        *(judge_environment(one) for one in environments if one.name != DEFAULT_NAME),
        nested,
    ]


async def _environments(settings: Settings) -> list[EnvironmentImage]:
    """An empty list where the package list cannot be used, which the check of the image reports."""
    try:
        return await environment_images(settings)
    except SettingsError:
        return []


async def _describe(docker: aiodocker.Docker) -> tuple[dict[str, Any], dict[str, Any]]:
    async with answer_within(ENGINE_S):
        return await docker.version(), dict(await docker.system.info())


def _engine_space(info: dict[str, Any]) -> list[Check]:
    root = Path(str(info.get("DockerRootDir") or "/nowhere"))
    # A remote engine, or one whose directory this user cannot read, reports a path not found here.
    return [machine.check_space("Space for containers", root)] if root.exists() else []


def judge_image(settings: Settings, image: ImageInfo | None) -> Check:
    """Whether the sandbox image exists and was built from the current definition."""
    name = "Sandbox image"
    remedy = "crucible images build"
    if image is None:
        return failed(name, f"{settings.sandbox_image} is not in the engine", remedy)
    detail = f"{image.reference}, {image.size_bytes / 1e6:.0f} MB, {image.image_id[:19]}"
    if not is_local(settings.sandbox_image):
        return passed(name, detail)
    try:
        wanted = load_definition(settings.sandbox_packages_file).digest
    except SettingsError as error:
        return failed(name, str(error), "correct the list, or unset the setting")
    if settings.sandbox_image.endswith(":latest") and image.definition != wanted:
        return warned(name, f"{detail}, built from an older definition", remedy)
    return passed(name, detail)


def judge_environment(environment: EnvironmentImage) -> Check:
    """Whether what is served is built; what is not served is only mentioned."""
    name = f"Environment {environment.name}"
    remedy = f"crucible environments build {environment.name}"
    image = environment.image
    size = f"{image.size_bytes / 1e6:.0f} MB, {image.image_id[:19]}" if image else ""
    if environment.outdated:
        return warned(name, f"{size}, made from another definition than today's", remedy)
    if environment.built:
        return passed(name, size if environment.served else f"{size}, not served")
    if not environment.served:
        return passed(name, "neither served nor built")
    return failed(name, "is served, and its image is not in the engine", remedy)
