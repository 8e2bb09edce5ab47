"""Whether a machine can have lanes: by starting one."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

from crucible.errors import ExecutorError, RequirementError, SettingsError
from crucible.executor.nested.lane import Lane
from crucible.executor.nested.options import APPARMOR_PROFILE
from crucible.executor.nested.requirements import NestedUnavailable
from crucible.executor.sandbox import Shape
from crucible.models import Limits

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine


def apparmor_profile() -> str:
    """The profile that lanes need where the engine confines containers by AppArmor."""
    name = f"{APPARMOR_PROFILE}.apparmor"
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


async def probe_nested(engine: Engine, config: ExecutorConfig) -> None:
    """Start a lane, up to the namespaces of a first program, and remove it.

    Raises:
        RequirementError: it cannot be had here.
        ExecutorError: the engine or the image is not there, which says nothing about lanes.
    """
    image = config.image_of(config.environments[0])
    lane = Lane(engine, config, Shape(disk_mb=Limits().disk_mb, image=image), uid=0)
    try:
        await lane.create()
        await lane.prepare()
    except NestedUnavailable as error:
        raise error.missing from error
    finally:
        await lane.remove()


def not_met(missing: RequirementError) -> SettingsError:
    """The refusal to start with ``nested`` for programs that name no isolation."""
    detail = f"nested cannot be had here: {missing.message}; {missing.remedy}"
    return SettingsError("CRUCIBLE_ISOLATION", detail)


async def require_nested(engine: Engine, config: ExecutorConfig) -> None:
    """Refuse to start with a setting that cannot be met.

    An engine that does not answer, or has no image yet, may be able to once it does.

    Raises:
        SettingsError: programs that name no isolation would get ``nested``, which cannot be had.
    """
    try:
        await probe_nested(engine, config)
    except RequirementError as missing:
        raise not_met(missing) from missing
    except ExecutorError:
        return
