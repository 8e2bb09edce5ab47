"""Whether programs can have namespaces of their own in a container of their tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.doctor.check import Check, failed, passed, warned
from crucible.errors import ExecutorError, RequirementError
from crucible.executor.config import ExecutorConfig
from crucible.executor.engine import Engine
from crucible.executor.nested.probe import probe_nested

if TYPE_CHECKING:
    from crucible.settings import Settings

NAME = "Isolation nested"


async def check_nested(settings: Settings) -> Check:
    """Start a lane on the engine, and remove it."""
    config = ExecutorConfig(
        docker_url=settings.docker_url or None,
        runtime=settings.docker_runtime or None,
        image=settings.sandbox_image,
        environments=settings.served_environments,
    )
    try:
        async with Engine(config.docker_url, config.engine_s) as engine:
            await probe_nested(engine, config)
    except RequirementError as missing:
        return judge_missing(missing, wanted=settings.isolation == "nested")
    except ExecutorError as error:
        return warned(NAME, f"could not be tried: {error}", "see the checks of engine and image")
    return passed(NAME, "a lane starts, and gives programs namespaces of their own")


def judge_missing(missing: RequirementError, *, wanted: bool) -> Check:
    """A machine that cannot: in the way only where it is what programs get."""
    if wanted:
        return failed(NAME, missing.message, missing.remedy)
    return warned(NAME, f"{missing.message}; requests for it are refused", missing.remedy)
