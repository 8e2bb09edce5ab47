"""Runs every check, each within its deadline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crucible.doctor import engine, machine
from crucible.doctor.check import Check, failed, passed, warned
from crucible.doctor.isolation import check_nested
from crucible.errors import RequirementError, SettingsError
from crucible.images import find_image, is_local, load_definition, open_engine
from crucible.images.store import ENGINE_REMEDY, answer_within

if TYPE_CHECKING:
    import aiodocker

    from crucible.images import ImageInfo
    from crucible.settings import Settings

#: Seconds the engine may take to describe itself.
ENGINE_S = 10.0


async def run_checks(settings: Settings) -> list[Check]:
    """Every requirement of this machine and these settings, in the order people read them."""
    async with asyncio.TaskGroup() as group:
        queue = group.create_task(
            machine.check_redis("task queue", "celery_broker_url", settings.celery_broker_url)
        )
        bus = group.create_task(
            machine.check_redis("event bus", "event_bus_url", settings.event_bus_url)
        )
        docker = group.create_task(check_engine(settings))
    return [
        machine.check_python(),
        machine.check_server_binary(),
        queue.result(),
        bus.result(),
        *machine.check_ports(settings),
        machine.check_space("Space for data", settings.data_dir),
        *docker.result(),
    ]


async def check_engine(settings: Settings) -> list[Check]:
    """The engine and what it has."""
    try:
        async with open_engine(settings.docker_url) as docker:
            version, info = await _describe(docker)
            image = await find_image(docker, settings.sandbox_image)
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
        nested,
    ]


async def _describe(docker: aiodocker.Docker) -> tuple[dict[str, Any], dict[str, Any]]:
    async with answer_within(ENGINE_S):
        return await docker.version(), dict(await docker.system.info())


def _engine_space(info: dict[str, Any]) -> list[Check]:
    root = Path(str(info.get("DockerRootDir") or "/nowhere"))
    # An engine elsewhere, or one this user may not look at, tells a path that is not here.
    return [machine.check_space("Space for containers", root)] if root.exists() else []


def judge_image(settings: Settings, image: ImageInfo | None) -> Check:
    """Whether programs have an image to run in, and whether it is what the settings ask for."""
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
        return warned(name, f"{detail}, made from another definition than today's", remedy)
    return passed(name, detail)
